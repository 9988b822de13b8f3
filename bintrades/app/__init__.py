"""The service: what there is, how it is wired, how it starts and stops."""
