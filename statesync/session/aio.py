"""asyncio: follow a session from a coroutine, to its end or step by step.

SQLite blocks, so a session keeps its own thread, and begins in it. The event loop only waits for its end, and
no thread waits for the loop: its executor may be full of the program's own work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from statesync.session.handle import Session
from statesync.session.pace import Pace
from statesync.session.told import Told
from statesync.values import Progress, SyncResult


async def follow(session: Session) -> SyncResult:
    """Return the session's result, or raise its error.

    Cancelling the waiting task cancels the session, waits for its drain (``cancel_grace``), and only then
    lets ``asyncio.CancelledError`` go on.
    """
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(over.set)

    session.call_when_over(wake)
    try:
        await over.wait()
    except asyncio.CancelledError:
        session.cancel_in_time()
        await _drained(over)
        raise
    return session.result()


async def events(told: Told) -> AsyncIterator[Progress]:
    """Yield a session's progress, at a pace that people can follow."""
    loop, news, pace, at = asyncio.get_running_loop(), asyncio.Event(), Pace(), 0

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            loop.call_soon_threadsafe(news.set)

    told.watch(wake)
    try:
        while True:
            for event in told.since(at):
                at += 1
                if pace.admits(event):
                    yield event
                if event.outcome is not None:
                    return
            await news.wait()
            news.clear()
    finally:
        told.unwatch(wake)


async def _drained(over: asyncio.Event) -> None:
    """Wait for the end of the session, however often the task is cancelled meanwhile."""
    while not over.is_set():
        with suppress(asyncio.CancelledError):
            await over.wait()
