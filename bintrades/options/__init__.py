"""What an option is, for the configuration and for every store: its type, default and meaning."""
