"""What comes down, and how it is stored."""
