"""The real engines of the stores, one module each: NAME_options yields those of an empty store."""
