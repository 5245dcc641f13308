"""asyncio: follow a session from a coroutine.

SQLite blocks, so a session keeps its own thread; the event loop only waits for it.
"""

from __future__ import annotations

import asyncio

from statesync.session.handle import Session
from statesync.values import SyncResult


async def follow(session: Session) -> SyncResult:
    """Return the session's result, or raise its error.

    Cancelling the waiting task cancels the session, waits for its drain (``cancel_grace``), and only then
    lets ``asyncio.CancelledError`` go on.
    """
    waiting = asyncio.ensure_future(asyncio.to_thread(session.wait))
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        session.cancel_in_time()
        await _drained(waiting)
        raise
    return session.result()


async def _drained(waiting: asyncio.Future[None]) -> None:
    """Wait for the end of the session, however often the task is cancelled meanwhile."""
    while not waiting.done():
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            continue
