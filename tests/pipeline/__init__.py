"""Tests of bintrades.pipeline."""
