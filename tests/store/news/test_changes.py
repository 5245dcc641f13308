"""The news as an async iterator."""

from __future__ import annotations

import asyncio
import gc

import pytest
from rig.device import Device

from statesync import News


def test_what_is_committed_since_the_call_is_told_in_order(here: Device, there: Device) -> None:
    there.add(3)
    there.sync()

    async def live() -> list[News]:
        changes = here.store.changes(here.airport)
        await here.scope.sync_async()
        found = [await anext(changes)]
        there_key = here.add(1, first=9)
        found.append(await anext(changes))
        await changes.aclose()
        assert there_key == ["k00009"]
        return found

    assert asyncio.run(asyncio.wait_for(live(), 20)) == [
        News("Airport", ("k00000", "k00001", "k00002")),
        News("Airport", ("k00009",)),
    ]


def test_it_ends_by_aclose_also_for_a_task_that_waits(here: Device) -> None:
    async def live() -> list[News]:
        async with here.store.changes() as changes:
            reading = asyncio.create_task(_all(changes))
            await asyncio.sleep(0.05)
            await changes.aclose()
            return await reading

    assert asyncio.run(asyncio.wait_for(live(), 20)) == []


def test_it_ends_when_the_store_is_closed(here: Device) -> None:
    async def live() -> list[News]:
        changes = here.store.changes()
        reading = asyncio.create_task(_all(changes))
        await asyncio.sleep(0)
        here.store.close()
        return await reading

    assert asyncio.run(asyncio.wait_for(live(), 20)) == []


def test_one_that_nobody_holds_any_more_costs_nothing(here: Device) -> None:
    async def live() -> None:
        async for _ in here.store.changes():
            break

    async def main() -> None:
        task = asyncio.create_task(live())
        await asyncio.sleep(0.05)
        here.add(1)
        await asyncio.wait_for(task, 20)

    asyncio.run(main())
    gc.collect()
    here.store.retry()
    here.store.retry()
    assert here.store._parts.database.witness is None


def test_a_slow_reader_gets_everything_in_the_place_of_too_much(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statesync.store.news.waiting.MOST_WAITING", 2)

    async def live() -> list[News]:
        async with here.store.changes() as changes:
            for number in range(6):
                here.add(1, first=number)
                await asyncio.sleep(0.1)
            return [await anext(changes)]

    assert asyncio.run(live()) == [News("Airport", everything=True)]


async def _all(changes: object) -> list[News]:
    return [news async for news in changes]  # type: ignore[attr-defined]
