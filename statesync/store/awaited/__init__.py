"""asyncio: what takes long, beside the event loop."""
