"""Binance: its markets, messages, streams and REST requests."""
