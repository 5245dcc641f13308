"""What starts sessions by itself: keepers in threads and in asyncio, one or an application's all."""
