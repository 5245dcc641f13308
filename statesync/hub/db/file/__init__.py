"""The hub in one SQLite file: one writer at a time, readers beside it."""
