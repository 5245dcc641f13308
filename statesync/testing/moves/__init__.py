"""Further moves of a ``SyncWorld``, one kind a module: mixed into a world of one's own."""
