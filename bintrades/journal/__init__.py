"""The journal: one SQLite file that has every bar, gap and cursor."""
