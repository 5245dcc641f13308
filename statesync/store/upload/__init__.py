"""What goes up, and what the hub says of it."""
