"""Requests that wait for news: they hold a connection, and nothing else."""
