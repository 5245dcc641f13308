"""What happens to a ``SyncWorld``, one kind a module. Some is mixed into a world of one's own."""
