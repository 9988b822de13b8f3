"""Tests of bintrades.model."""
