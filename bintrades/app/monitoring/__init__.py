"""What a running collector tells over HTTP: probes, metrics, its status."""
