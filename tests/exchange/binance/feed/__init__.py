"""Tests of bintrades.exchange.binance.feed."""
