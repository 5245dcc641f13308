"""asyncio: a session's progress. The loop is only told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from statesync.session.telling.told import Told
from statesync.values import Progress


async def events(told: Told) -> AsyncIterator[Progress]:
    """Yield a session's progress, from its first event to its last."""
    loop, news, at = asyncio.get_running_loop(), asyncio.Event(), 0

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            loop.call_soon_threadsafe(news.set)

    told.watch(wake)
    try:
        while True:
            for event in told.since(at):
                at += 1
                yield event
                if event.outcome is not None:
                    return
            await news.wait()
            news.clear()
    finally:
        told.unwatch(wake)
