"""Two hubs, one on SQLite and one on PostgreSQL, are asked the same, and answer and keep the same."""
