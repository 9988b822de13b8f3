"""Addresses, proxies, TLS and connections, for streams and REST requests alike."""
