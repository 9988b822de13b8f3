"""The default store: MongoDB."""
