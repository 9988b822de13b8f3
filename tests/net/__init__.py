"""Tests of bintrades.net."""
