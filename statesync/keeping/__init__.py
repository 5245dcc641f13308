"""When to sync, sans I/O: what a keeper remembers, and what it decides. Time comes in, timers go out."""
