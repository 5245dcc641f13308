"""The event loop is never held, however much a session has to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from rig.device import Device

from .test_awaited import Ticks, beside

RECORDS = 100_000
LONGEST = 0.05
"""Seconds that the loop may be held at most."""

TRIES = 3
"""How often it is measured: another program may have had the processor."""


@pytest.mark.large
def test_the_loop_is_not_held_while_many_records_are_downloaded(
    there: Device, new_device: Callable[..., Device]
) -> None:
    with there.store.database.atomic():
        rows = [{"id": f"k{number:06}", "name": f"n{number}"} for number in range(RECORDS)]
        for first in range(0, RECORDS, 1000):
            there.airport.insert_many(rows[first : first + 1000]).execute()
    there.sync(upload_batch_size=1000)
    longest: list[float] = []
    for number in range(TRIES):
        device, ticks = new_device(f"reader{number}"), Ticks()

        async def live(device: Device = device) -> None:
            news = device.store.changes()
            session = device.scope.start_sync()
            told = [event async for event in session]
            assert told[-1].stats is not None
            assert told[-1].stats.downloaded == RECORDS
            came = 0
            while came < RECORDS:
                came += len((await anext(news)).stored)
            assert came == RECORDS

        asyncio.run(beside(ticks, live()))
        longest.append(ticks.longest)
    print("seconds that the loop was held at most:", *(f"{each:.4f}" for each in longest))
    assert min(longest) < LONGEST, longest
