"""What SQLite needs on a device and in a hub alike: its log written back, and care in a forked process."""
