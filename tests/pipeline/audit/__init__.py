"""The audit and its parts."""
