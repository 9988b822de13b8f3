"""Tests of bintrades.exchange.binance."""
