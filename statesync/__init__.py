"""Offline-first data sync whose session lifecycle is a formal state machine."""
