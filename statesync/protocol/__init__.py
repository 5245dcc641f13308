"""The conversation of a session, sans I/O: what is said, what is remembered, and what is decided."""
