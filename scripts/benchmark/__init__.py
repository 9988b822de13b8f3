"""What a trade costs: the collector and the plain way, fed the same bytes over loopback."""
