"""Who waits for a space's head to move, and how that is noticed."""
