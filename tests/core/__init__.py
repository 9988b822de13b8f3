"""Tests of bintrades.core."""
