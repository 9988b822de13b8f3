"""The whole collector as a process, with real sockets, signals and a real MongoDB."""
