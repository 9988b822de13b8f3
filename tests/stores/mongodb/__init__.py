"""Tests of bintrades.stores.mongodb."""
