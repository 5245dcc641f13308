"""The comparison of a device with a hub, on demand."""
