"""Versions come in the order of the commits, whoever writes and reads at once."""
