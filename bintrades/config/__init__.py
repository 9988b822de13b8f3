"""The configuration: an INI file in, checked values out."""
