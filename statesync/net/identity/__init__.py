"""What a hub knows a device by."""
