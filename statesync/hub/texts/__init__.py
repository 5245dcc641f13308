"""Texts that clients send: how they look as JSON, and as words in a message."""
