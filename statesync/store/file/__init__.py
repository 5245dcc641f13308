"""The file: its connections, its transactions, its lock."""
