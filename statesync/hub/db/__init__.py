"""The hub's database: its tables, and what SQLite and PostgreSQL each do in their own way."""
