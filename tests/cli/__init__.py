"""Tests of bintrades.cli."""
