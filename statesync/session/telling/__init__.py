"""What a session tells of itself: its progress, its lines in a log, and its steps for whoever traces it."""
