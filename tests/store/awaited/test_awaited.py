"""A store in a coroutine: what takes long runs beside the event loop, which goes on."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import time
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rig.device import Device, airport_model, quick_store
from rig.gate import Gate

from statesync import (
    Outcome,
    Part,
    Phase,
    Progress,
    Scope,
    State,
    Store,
    StoreLocked,
    SyncOptions,
    UsageError,
    decide_later,
)


class Ticks:
    """Asks the event loop for its turn every millisecond; ``longest`` is how long it had to wait for it."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.count = 0

    async def tick(self) -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - asked - 0.001)
            self.count += 1


async def beside(ticks: Ticks, work: Awaitable[Any]) -> Any:
    ticking = asyncio.create_task(ticks.tick())
    try:
        return await work
    finally:
        ticking.cancel()


def test_each_method_for_coroutines_takes_and_returns_what_the_other_one_does() -> None:
    for kind in (Store, Scope):
        for name in [name for name in dir(kind) if name.endswith("_async")]:
            ours, other = getattr(kind, name), getattr(kind, name.removesuffix("_async"))
            assert inspect.iscoroutinefunction(ours), name
            found, wanted = inspect.signature(ours), inspect.signature(other)
            assert found == wanted, name


def test_a_whole_day_in_a_coroutine(here: Device, there: Device, tmp_path: Path) -> None:
    there.add(1)
    there.sync()

    async def live() -> None:
        store, scope = here.store, here.scope
        await scope.sync_async()
        here.edit("k00000", name="ours")
        here.add(1, first=1)
        assert [change.key for change in await store.pending_async()] == ["k00000", "k00001"]
        there.edit("k00000", name="theirs")
        there.sync()
        await scope.sync_async(SyncOptions(conflict_policy=decide_later))
        (conflict,) = await store.conflicts_async(waiting=True)
        await store.resolve_async(conflict, "local")
        assert await store.retry_async() == 0
        assert await store.rollback_async() == 1
        assert await store.quarantine_async() == []
        verdict = await store.wait_for_async(here.airport, "k00001", timeout=1)
        assert verdict.outcome is Outcome.ACCEPTED
        assert (await scope.diagnose_async()).is_consistent()
        assert await store.examine_async() == []
        assert await store.repair_async() == []
        await store.clear_async(discard_pending=True)
        assert here.keys() == []
        await store.reset_async(discard_pending=True)
        await store.close_async()

    asyncio.run(asyncio.wait_for(live(), 60))


def test_a_store_is_set_up_beside_the_loop(tmp_path: Path) -> None:
    with closing(quick_store(tmp_path / "new.db")) as store:
        airport: Any = airport_model(store)
        asyncio.run(store.setup_async())
        assert airport.select().count() == 0


def test_the_loop_goes_on_while_another_writer_is_waited_for(here: Device) -> None:
    here.store._parts.database.peewee._timeout = 0.3
    ticks = Ticks()
    with closing(sqlite3.connect(here.store._parts.database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked):
            asyncio.run(beside(ticks, here.store.retry_async()))
        other.execute("ROLLBACK")
    assert ticks.count > 20
    assert asyncio.run(here.store.retry_async()) == 0


def test_in_a_transaction_of_the_loops_thread_it_is_refused(here: Device) -> None:
    async def live() -> None:
        with here.store.database.atomic():
            await here.store.retry_async()

    with pytest.raises(UsageError, match="in a transaction"):
        asyncio.run(live())


def test_a_task_that_is_cancelled_ends_once_what_has_begun_is_committed(here: Device) -> None:
    here.add(3)

    async def live() -> None:
        task = asyncio.create_task(here.store.rollback_async())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert here.keys() == []

    asyncio.run(live())


def test_a_wait_for_a_verdict_that_is_cancelled_ends_at_once(here: Device) -> None:
    here.add(1)

    async def live() -> None:
        task = asyncio.create_task(here.store.wait_for_async(here.airport, "k00000"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)

    asyncio.run(live())


# -- a session's progress ------------------------------------------------------------------------------------


def test_a_sessions_progress_can_be_awaited_from_its_first_step_to_its_last(
    here: Device, there: Device, gate: Gate
) -> None:
    there.add(2)
    there.sync()

    async def live() -> list[Progress]:
        session = here.scope.start_sync()
        first = [event async for event in session]
        assert [event async for event in session] == first
        return first

    told = asyncio.run(asyncio.wait_for(live(), 20))
    assert (told[0].part, told[0].state) == (Part.SYNC, State.STARTED)
    assert [event.outcome for event in told if event.outcome] == [Phase.DONE]


def test_a_reader_that_leaves_a_session_early_is_told_nothing_more(here: Device, gate: Gate) -> None:
    held = gate.hold()

    async def live() -> None:
        session = here.scope.start_sync()
        events = aiter(session)
        assert (await anext(events)).state is State.STARTED
        await events.aclose()  # type: ignore[attr-defined]
        assert session._told._wakers == []
        held.release()
        session.wait()

    asyncio.run(asyncio.wait_for(live(), 20))
