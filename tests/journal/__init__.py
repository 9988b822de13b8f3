"""Tests of bintrades.journal."""
