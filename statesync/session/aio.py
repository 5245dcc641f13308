"""asyncio: follow a session from a coroutine.

SQLite blocks, so a session keeps its own thread, and begins in it. The event loop only waits for its end, and
no thread waits for the loop: its executor may be full of the program's own work.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from statesync.session.handle import Session
from statesync.values import SyncResult


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


async def _drained(over: asyncio.Event) -> None:
    """Wait for the end of the session, however often the task is cancelled meanwhile."""
    while not over.is_set():
        with suppress(asyncio.CancelledError):
            await over.wait()
