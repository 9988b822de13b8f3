"""Tests of bintrades.options."""
