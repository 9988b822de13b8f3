"""Tests of the stores that come with bintrades."""
