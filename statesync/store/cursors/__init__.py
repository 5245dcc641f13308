"""How far each object is read, what that says of its records, and why one is read from the start."""
