"""Tests of bintrades.exchange."""
