"""Several scopes and stores as one: a round with all results, and keepers of which none stops another."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rig.device import Device, device_at
from rig.gate import PATIENCE, Gate, gate_before, lose_request, wait_for

from statesync import (
    Application,
    AutoSync,
    KeeperPhase,
    Phase,
    Store,
    StoreNotReady,
    SyncCancelled,
    SyncError,
    SyncOptions,
    SyncResult,
    Unreachable,
    UsageError,
)
from statesync.threads import Task, Threads

ONE_ATTEMPT = SyncOptions(max_attempts=1)


def kinds(outcomes: tuple[SyncResult | SyncError, ...]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


@pytest.mark.parametrize("parallel", [False, True])
def test_a_round_syncs_each_and_says_how_it_ended(here: Device, there: Device, parallel: bool) -> None:
    keys = here.add(2)
    results = Application([here.scope, there.scope], parallel=parallel).sync()
    assert kinds(results) == [SyncResult, SyncResult]
    assert there.keys() in ([], keys)


def test_in_sequence_the_second_reads_what_the_first_has_sent(here: Device, there: Device) -> None:
    keys = here.add(2)
    Application([here.scope, there.scope]).sync()
    assert there.keys() == keys


@pytest.mark.parametrize("parallel", [False, True])
def test_one_that_fails_does_not_stop_the_others(
    here: Device, there: Device, new_device: Callable[..., Device], parallel: bool
) -> None:
    away = new_device("away", "http://127.0.0.1:9")
    keepers = [AutoSync(each.scope, options=ONE_ATTEMPT) for each in (here, away, there)]
    outcomes = Application(keepers, parallel=parallel).sync()
    assert kinds(outcomes) == [SyncResult, Unreachable, SyncResult]


def test_in_parallel_a_hub_that_hangs_holds_up_nobody_else(here: Device, there: Device, gate: Gate) -> None:
    held = gate.hold()
    application = Application([here.scope, there.scope], parallel=True)
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(application.sync()))
    thread.start()
    held.wait()
    assert wait_for(lambda: [session.phase for session in there.scope.sessions()] == [Phase.DONE])
    held.release()
    thread.join(PATIENCE)
    assert kinds(outcomes[0]) == [SyncResult, SyncResult]


def test_scopes_of_one_store_take_turns_in_parallel_too(here: Device) -> None:
    outcomes = Application([here.scope, here.scope], parallel=True).sync()
    assert kinds(outcomes) == [SyncResult, SyncResult]


def test_an_interrupt_cancels_the_round_and_begins_nothing_more(
    here: Device, there: Device, gate: Gate
) -> None:
    held = gate.hold()
    application = Application([here.scope, there.scope])

    def interrupt() -> None:
        held.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert wait_for(lambda: here.scope.sessions()[0].phase is Phase.CANCELLING)
        held.release()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    helper = threading.Thread(target=interrupt)
    try:
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            application.sync()
    finally:
        helper.join(PATIENCE)
        signal.signal(signal.SIGINT, before)
    assert [session.phase for session in here.scope.sessions()] == [Phase.CANCELLED]
    assert there.scope.sessions() == []


# -- keepers -------------------------------------------------------------------------------------------------


def fast(*devices: Device) -> list[AutoSync]:
    return [AutoSync(each.scope, every=3600, min_gap=0, options=ONE_ATTEMPT) for each in devices]


@pytest.mark.parametrize("parallel", [False, True])
def test_all_are_kept_in_sync_and_one_that_fails_stops_no_other(
    here: Device, there: Device, new_device: Callable[..., Device], parallel: bool
) -> None:
    away = new_device("away", "http://127.0.0.1:9")
    with Application(fast(away, here, there), parallel=parallel) as application:
        first, *others = application.keepers
        assert wait_for(lambda: all(keeper.status().in_sync for keeper in others))
        keys = here.add(1)
        assert wait_for(lambda: here.operations() == {})
        application.nudge()
        assert wait_for(lambda: there.keys() == keys)
        assert not application.is_up_to_date
        last = first.status().last
        assert last is not None
        assert isinstance(last.error, Unreachable)
    assert {status.phase for status in application.status()} == {KeeperPhase.STOPPED}


def test_in_sequence_one_session_runs_at_a_time(here: Device, there: Device, gate: Gate) -> None:
    with Application(fast(here, there)) as application:
        assert wait_for(lambda: application.is_up_to_date)
        held = gate.hold()
        application.keepers[0].nudge()
        held.wait()
        before = len(there.scope.sessions())
        application.keepers[1].nudge()
        assert wait_for(lambda: application.status()[1].phase is KeeperPhase.SYNCING)
        assert len(there.scope.sessions()) == before
        held.release()
        assert wait_for(lambda: len(there.scope.sessions()) > before)
        assert wait_for(lambda: application.is_up_to_date)


def test_a_stop_of_all_is_one_wait_and_begins_nothing(here: Device, there: Device, gate: Gate) -> None:
    held = gate.hold(then=lose_request, before_hub=True)
    application = Application(fast(here, there))
    application.start()
    held.wait()
    application.stop(grace=0.1)
    assert {status.phase for status in application.status()} == {KeeperPhase.STOPPED}
    before = here.scope.sessions(), there.scope.sessions()
    application.nudge()
    assert (here.scope.sessions(), there.scope.sessions()) == before


def test_none_is_started_where_one_cannot_be(here: Device, tmp_path: Any) -> None:
    fresh = Store(tmp_path / "fresh.db")
    application = Application([here.scope, fresh.scope(here.remote)])
    with pytest.raises(StoreNotReady):
        application.start()
    assert not any(keeper.is_begun for keeper in application.keepers)
    fresh.close()


def test_a_keeper_that_lives_already_is_no_part_of_a_start(here: Device, there: Device) -> None:
    fresh, living = fast(here, there)
    with living, pytest.raises(UsageError, match="once"):
        Application([fresh, living]).start()
    assert not fresh.is_begun


def test_a_round_beside_keepers_that_live_is_refused(here: Device) -> None:
    with Application([here.scope]) as application, pytest.raises(UsageError, match="nudge"):
        application.sync()


def test_a_keeper_that_is_given_twice_is_refused_before_anything_lives(here: Device) -> None:
    (keeper,) = fast(here)
    with pytest.raises(UsageError, match="twice"):
        Application([keeper, keeper])
    assert not keeper.is_begun


def test_where_one_gets_no_thread_none_lives(
    here: Device, there: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, start = Application(fast(here, there)), Threads.start
    keepers: list[Task] = []

    def crowded(self: Threads, task: Task) -> None:
        keepers.extend([task] if task.name == "statesync-keeper" else [])
        if len(keepers) == 2:
            raise RuntimeError("can't start new thread")
        start(self, task)

    monkeypatch.setattr(Threads, "start", crowded)
    with pytest.raises(RuntimeError, match="thread"):
        application.start()
    assert {status.phase for status in application.status()} == {KeeperPhase.STOPPED}


def test_a_keeper_that_lives_keeps_its_turn_when_an_application_is_made_of_it(
    here: Device, gate: Gate
) -> None:
    """Else the turn that it has is never given back, and the others of its store wait for ever."""
    first, second = fast(here, here)
    held = gate.hold()
    with first:
        held.wait()
        with second:
            Application([first])
            held.release()
            assert wait_for(lambda: second.status().is_up_to_date)


def test_a_cancelled_task_waits_for_the_drain_of_all(
    tmp_path: Path, address: str, space: str, here: Device, gate: Gate
) -> None:
    with gate_before(address) as other, device_at(tmp_path / "other.db", other.url, space) as second:
        application = Application(fast(here, second), parallel=True)
        held = gate.hold(), other.hold()

        async def block() -> None:
            async with application:
                for each in held:
                    await asyncio.to_thread(each.wait)

        async def main() -> None:
            task = asyncio.create_task(block())
            await asyncio.to_thread(held[1].wait)
            await asyncio.sleep(0.05)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0.02)
            held[0].release()
            asyncio.get_running_loop().call_later(0.2, held[1].release)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert {status.phase for status in application.status()} == {KeeperPhase.STOPPED}

        asyncio.run(main())


def test_an_application_lives_in_asyncio_too(here: Device, there: Device) -> None:
    async def live() -> Application:
        async with Application(fast(here, there)) as application:
            while not application.is_up_to_date:
                await asyncio.sleep(0.005)
            return application

    application = asyncio.run(live())
    assert {status.phase for status in application.status()} == {KeeperPhase.STOPPED}


def test_what_was_not_begun_when_a_round_was_cancelled_is_said_to_be_cancelled(here: Device) -> None:
    from statesync.autosync.round import _Round
    from statesync.autosync.target import Target

    current = _Round()
    current.cancel()
    current.run([(0, Target(here.scope), SyncOptions())])
    assert isinstance(current.outcomes[0], SyncCancelled)
    assert here.scope.sessions() == []


def test_a_round_that_gets_no_thread_for_one_of_its_stores_ends_what_it_has_begun(
    here: Device, there: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, start, lines = gate.hold(), Threads.start, list[Task]()

    def crowded(self: Threads, task: Task) -> None:
        if task.name == "statesync-round":
            lines.append(task)
        if task.name == "statesync-round" and len(lines) == 2:
            held.wait()  # the first one has a request under way
            raise RuntimeError("can't start new thread")
        start(self, task)

    monkeypatch.setattr(Threads, "start", crowded)
    raised: list[str] = []

    def run() -> None:
        with pytest.raises(RuntimeError) as error:
            Application([here.scope, there.scope], parallel=True).sync()
        raised.append(str(error.value))

    running = threading.Thread(target=run)
    running.start()
    held.wait()
    running.join(0.1)
    assert running.is_alive(), "its first session is left to itself"
    held.release()
    running.join(PATIENCE)
    assert raised == ["can't start new thread"]
    assert not lines[1].wait(0)
    assert lines[0].wait(0)
