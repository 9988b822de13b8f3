"""Tests of what is there for tests."""
