"""What a page reads of the tables, and how far it looks for it."""
