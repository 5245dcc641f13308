"""What is tracked, and how its writes are seen."""
