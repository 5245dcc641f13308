"""A keeper in asyncio: the loop is never held, and what it is told is the newest."""

from __future__ import annotations

import asyncio

import pytest
from rig.device import Device
from rig.gate import PATIENCE, Gate, wait_for

from statesync import AutoSync, Backlog, KeeperPhase, KeeperStatus, StoreError, UsageError
from statesync.store.news.lookout import Lookout

RESTING, LISTENING, SYNCING, BACKING_OFF, HELD, NEEDS_TOKEN, STOPPING, STOPPED = KeeperPhase


def keeper_of(device: Device) -> AutoSync:
    return AutoSync(device.scope, every=3600, min_gap=0)


def test_a_block_of_asyncio_ends_with_a_keeper_that_has_stopped(here: Device, there: Device) -> None:
    keys = here.add(1)

    async def live() -> AutoSync:
        async with keeper_of(here) as keeper:
            async for status in keeper:
                if status.is_up_to_date:
                    return keeper
        raise AssertionError("it has stopped by itself")

    assert asyncio.run(live()).status().phase is STOPPED
    there.sync()
    assert there.keys() == keys


def test_statuses_come_one_after_the_other_up_to_the_last(here: Device, gate: Gate) -> None:
    held = gate.hold()

    async def live() -> list[KeeperPhase]:
        keeper, phases = keeper_of(here), []
        keeper.start()
        async for status in keeper:
            phases.append(status.phase)
            if status.phase is SYNCING:
                held.release()
            elif status.last is not None and status.phase is RESTING:
                keeper.stop(wait=False)
        return phases

    phases = asyncio.run(asyncio.wait_for(live(), 20))
    assert [phase for phase in phases if phase in (SYNCING, STOPPED)] == [SYNCING, STOPPED]


def test_a_slow_reader_gets_the_newest(here: Device) -> None:
    async def live() -> list[KeeperStatus]:
        found = []
        async with keeper_of(here) as keeper:
            statuses = aiter(keeper)
            found.append(await anext(statuses))
            while not keeper.status().is_up_to_date:
                await asyncio.sleep(0.005)
            keeper.nudge()
            while len(here.scope.sessions()) < 2 or not keeper.status().is_up_to_date:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0)
            while not found[-1].is_up_to_date:
                found.append(await anext(statuses))
        return found

    assert len(asyncio.run(live())) <= 3, (
        "the first, perhaps one before the newest that is on its way, and that"
    )


def test_a_cancelled_task_stops_its_keeper_before_it_ends(here: Device, gate: Gate) -> None:
    here.add(1)
    held = gate.hold()
    keeper = keeper_of(here)

    async def live() -> None:
        async with keeper:
            await asyncio.Event().wait()

    async def cancel() -> None:
        task = asyncio.create_task(live())
        await asyncio.to_thread(held.wait)
        task.cancel()
        while keeper.status().phase is not STOPPING:
            await asyncio.sleep(0.005)
        task.cancel()
        held.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert keeper.status().phase is STOPPED

    asyncio.run(cancel())
    assert here.operations() == {}


def test_the_loop_goes_on_while_a_keeper_stops(here: Device, gate: Gate) -> None:
    held = gate.hold(before_hub=True)

    async def live() -> int:
        turns = 0
        async with keeper_of(here) as keeper:
            await asyncio.to_thread(held.wait)
            stopping = asyncio.create_task(keeper.stop_async(0.5))
            while not stopping.done():
                await asyncio.sleep(0.001)
                turns += 1
        return turns

    assert asyncio.run(live()) > 20


def test_a_keeper_that_was_not_started_has_no_statuses(here: Device) -> None:
    with pytest.raises(UsageError, match="started"):
        aiter(keeper_of(here))


def test_a_reader_who_comes_after_the_end_is_told_the_end(here: Device) -> None:
    async def live() -> list[KeeperPhase]:
        async with keeper_of(here) as keeper:
            pass
        return [status.phase async for status in keeper]

    assert asyncio.run(asyncio.wait_for(live(), 20)) == [STOPPED]


def test_a_reader_that_leaves_is_told_no_more(here: Device) -> None:
    async def live() -> AutoSync:
        async with keeper_of(here) as keeper:
            statuses = keeper.__aiter__()
            await anext(statuses)
            await statuses.aclose()  # type: ignore[attr-defined]
            assert await asyncio.to_thread(wait_for, lambda: not keeper._driver.telling._watchers)
        return keeper

    asyncio.run(live())


def test_a_reader_is_told_that_the_status_cannot_be_read_and_does_not_wait_with_an_old_one(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(self: Lookout) -> Backlog:
        raise StoreError("disk I/O error")

    async def main() -> None:
        async with keeper_of(here) as keeper:
            statuses = keeper.__aiter__()
            async for status in statuses:
                if status.is_up_to_date:
                    break
            monkeypatch.setattr(Lookout, "backlog", unreadable)
            keeper.nudge()
            with pytest.raises(StoreError, match="disk"):
                await asyncio.wait_for(anext(statuses), PATIENCE)
            monkeypatch.undo()
            assert (await anext(keeper.__aiter__())).phase is not STOPPED

    asyncio.run(main())


def test_a_reader_is_told_when_news_wait_for_the_gap(here: Device, there: Device) -> None:
    async def main() -> None:
        async with AutoSync(here.scope, every=3600, min_gap=60, live=True) as keeper:
            statuses = keeper.__aiter__()
            async for status in statuses:
                if status.is_up_to_date:
                    break
            await asyncio.to_thread(there.add, 1)
            await asyncio.to_thread(there.sync)
            told = await asyncio.wait_for(anext(statuses), PATIENCE)
            assert (told.phase, told.is_up_to_date) == (LISTENING, False)

    asyncio.run(main())
