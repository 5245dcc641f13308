"""One session: its loop, its requests and timers, and what the program holds of it."""
