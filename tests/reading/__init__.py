"""Tests of bintrades.reading."""
