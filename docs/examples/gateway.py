"""A gateway on the wall of a plant: it writes a reading every 10 ms, and a keeper brings them to the hub.

    python gateway.py readings.db http://hub.example:8000 plant-7

The hub may be away for as long as it likes: readings wait in the database. SIGTERM (or Ctrl-C) ends the
program within a second: the batch in flight gets half of that, and what it cannot bring across waits for the
next start. Its last line says how many readings were written, and how many of them wait.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from peewee import FloatField

from statesync import AutoSync, HttpRemote, Model, Store, SyncOptions

EVERY = 0.01
GRACE = 0.5


class Reading(Model):
    """A measured value. ``taken`` is a time in seconds since 1970."""

    taken = FloatField()
    celsius = FloatField()


def write_one() -> None:
    """Write a reading down: it is on the disk when this returns."""
    Reading.create(taken=time.time(), celsius=round(random.gauss(21.0, 0.5), 3))


async def measure(asked_to_end: asyncio.Event) -> int:
    """Write readings until somebody asks to end; return how many.

    A commit waits for the disk, so a thread of its own does it: the loop goes on meanwhile. A reading that
    comes late (the disk was slow) is not made up for.
    """
    loop = asyncio.get_running_loop()
    written = 0
    with ThreadPoolExecutor(1) as writer:
        due = loop.time()
        while not asked_to_end.is_set():
            await loop.run_in_executor(writer, write_one)
            written += 1
            due = max(due + EVERY, loop.time())
            await asyncio.sleep(due - loop.time())
    return written


async def tell(keeper: AutoSync) -> None:
    """Say each new phase of the keeper, and why."""
    phase = None
    async for status in keeper:
        if status.phase is not phase:
            print(f"{status.phase}: {status.why}", flush=True)
        phase = status.phase


async def run(store: Store, address: str, space: str) -> int:
    """Measure and sync until the program is asked to end; return how many readings were written."""
    asked_to_end = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, asked_to_end.set)
    scope = store.scope(HttpRemote(address, space=space), Reading)
    keeper = AutoSync(scope, every=60, debounce=0.1, options=SyncOptions(cancel_grace=GRACE))
    keeper.start()
    telling = asyncio.create_task(tell(keeper))
    try:
        return await measure(asked_to_end)
    finally:
        await keeper.stop_async(grace=GRACE)
        await telling


def main() -> None:
    """Run the gateway with the arguments of the command line."""
    database, address, space = sys.argv[1:]
    with Store(database) as store:
        store.track(Reading)
        store.setup()
        written = asyncio.run(run(store, address, space))
        print(f"{written} written, {len(store.pending())} wait", flush=True)


if __name__ == "__main__":
    main()
