"""A keeper under a clock of its own: its life, and the world in which it lives."""
