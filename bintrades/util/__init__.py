"""Small helpers without a subject of their own: clocks, threads, logs, text."""
