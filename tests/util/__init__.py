"""Tests of bintrades.util."""
