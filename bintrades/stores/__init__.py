"""Stores that come with bintrades; each is a plugin like any other."""
