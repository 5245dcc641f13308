"""Tables as the database has them, and how an object fits its table."""
