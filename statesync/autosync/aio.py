"""asyncio: a keeper beside the event loop.

SQLite blocks, so a keeper has a thread, and its core runs there. The loop is only told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from statesync.autosync.driver import Driver
from statesync.autosync.status import KeeperStatus
from statesync.errors import StoreError
from statesync.lifecycle import KEEPER


async def stopped(drivers: Sequence[Driver]) -> None:
    """Wait until the keepers have stopped, all, and only then let a cancel of the waiting task go on."""
    cancelled: asyncio.CancelledError | None = None
    for over in [_end_of(driver) for driver in drivers]:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


def _end_of(driver: Driver) -> asyncio.Event:
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(over.set)

    driver.call_when_stopped(wake)
    return over


async def statuses(driver: Driver) -> AsyncIterator[KeeperStatus]:
    """Yield the keeper's status, and then each new one, the newest alone where several have come.

    Raises ``StoreError`` where that cannot be read: who reads must not take the last one for true.
    """
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    newest: list[KeeperStatus | StoreError] = []

    def keep(status: KeeperStatus | StoreError) -> None:
        newest[:] = [status]
        news.set()

    def tell(status: KeeperStatus | StoreError) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            loop.call_soon_threadsafe(keep, status)

    told: KeeperStatus | None = None
    driver.watch(tell)
    try:
        while True:
            await news.wait()
            news.clear()
            status = newest[0]
            if isinstance(status, StoreError):
                raise status
            if status != told:
                yield status
            told = status
            if KEEPER.is_final(status.phase):
                return
    finally:
        driver.unwatch(tell)
