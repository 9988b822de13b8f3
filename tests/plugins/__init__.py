"""Tests of the drop-in plugins."""
