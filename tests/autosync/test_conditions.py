"""The program's conditions, whatever they do: no session begins on an answer that is none, or is old."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable

import pytest
from rig.device import Device
from rig.gate import PATIENCE, wait_for

from statesync import AutoSync, BadOptions, KeeperPhase
from statesync.keeping import decide

from .conftest import Keep, is_done


def sessions(device: Device) -> int:
    return len(device.scope.sessions())


def test_what_was_said_before_another_one_hung_is_asked_again(
    here: Device, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one says yes, the second hangs, and the first would say no by now."""
    monkeypatch.setattr(decide, "PATIENCE", 0.02)
    monkeypatch.setattr(decide, "HELD_EVERY", 0.02)
    on_wifi, asked, released = [True], threading.Event(), threading.Event()

    def is_charging() -> bool:
        asked.set()
        return released.wait(PATIENCE)

    keeper = keep(here, only_if={"on_wifi": lambda: on_wifi[0], "is_charging": is_charging})
    assert asked.wait(PATIENCE)
    assert wait_for(lambda: keeper.status().phase is KeeperPhase.HELD)
    on_wifi[0] = False
    released.set()
    assert wait_for(lambda: keeper.status().why == "on_wifi does not hold")
    assert sessions(here) == 0
    on_wifi[0] = True
    assert wait_for(lambda: sessions(here) == 1)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_one_that_asks_for_the_end_of_its_thread_is_a_no_at_once(
    here: Device, keep: Keep, kind: type[BaseException]
) -> None:
    def on_wifi() -> bool:
        raise kind

    keeper = keep(here, only_if={"on_wifi": on_wifi})
    assert wait_for(lambda: keeper.status().phase is KeeperPhase.HELD)
    assert keeper.status().why == f"on_wifi raised {kind.__name__}"
    assert sessions(here) == 0


def test_a_coroutine_is_no_yes(here: Device, keep: Keep) -> None:
    """It is true, whatever it would return."""

    async def on_wifi() -> bool:
        return False

    class Later:
        def __call__(self) -> Awaitable[bool]:
            return asyncio.Future(loop=loop)

    with pytest.raises(BadOptions, match="on_wifi must be a function that answers yes or no"):
        AutoSync(here.scope, only_if={"on_wifi": on_wifi})
    loop = asyncio.new_event_loop()
    keeper = keep(here, only_if={"on_wifi": Later()})
    assert wait_for(lambda: keeper.status().phase is KeeperPhase.HELD)
    assert keeper.status().why == "on_wifi answered with Future, which is neither yes nor no"
    assert sessions(here) == 0
    loop.close()


def test_one_that_reads_the_store_leaves_nothing_open_for_the_session_after_it(
    here: Device, there: Device, keep: Keep
) -> None:
    """Such as one that wants ten records to be there first. Its thread is the next one's."""
    keeper = keep(here, only_if={"is_worth_it": lambda: here.airport.select().count() >= 2})
    assert wait_for(lambda: keeper.status().phase is KeeperPhase.HELD)
    keys = here.add(2)
    for _ in range(5):
        assert is_done(keeper)
    there.sync()
    assert there.keys() == keys


def test_one_that_leaves_a_transaction_open_finds_it_rolled_back(here: Device, keep: Keep) -> None:
    def on_wifi() -> bool:
        here.store.database.begin()
        here.airport.create(name="never committed")
        return True

    keeper = keep(here, only_if={"on_wifi": on_wifi})
    assert wait_for(lambda: keeper.status().is_up_to_date)
    assert here.keys() == []
    assert here.add(1)
