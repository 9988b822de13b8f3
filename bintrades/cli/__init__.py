"""The commands, and all text and tables for people."""
