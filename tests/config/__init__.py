"""Tests of bintrades.config."""
