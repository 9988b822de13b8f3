"""Tests of bintrades.app."""
