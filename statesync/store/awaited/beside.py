"""asyncio: what reads or writes a store, in a thread beside the event loop, and none of the loop's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from statesync.errors import UsageError
from statesync.store.file.database import Database
from statesync.threads import Task, threads

_Result = TypeVar("_Result")


def _nothing() -> None:
    """Let what has begun come to its own end."""


async def beside(
    database: Database, call: Callable[[], _Result], stop: Callable[[], object] = _nothing
) -> _Result:
    """Return what ``call`` returns, or raise what it raises; it runs in a thread.

    A task that is cancelled meanwhile calls ``stop``, and waits for the end of what has begun. Raises
    ``UsageError`` in a transaction of the loop's thread: the two would wait for each other.
    """
    if database.in_transaction():
        raise UsageError("this thread is in a transaction, for whose end another would wait; end it first")
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    result: Future[_Result] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # whatever it is, it is raised where it is awaited
            result.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            database.leave()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(over.set)

    threads.start(Task(work, "statesync-beside", wake))
    await _ended(over, stop)
    return result.result()


async def _ended(over: asyncio.Event, stop: Callable[[], object]) -> None:
    try:
        await over.wait()
    except asyncio.CancelledError:
        stop()
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await over.wait()
        raise
