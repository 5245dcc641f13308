"""Code of the program's and other writers may hang in a session: ``cancel(grace=…)`` ends it all the same.

Real stores, threads and a real hub. What hangs is let go at the end of each test: a thread that comes back
late may not have stored anything, nor sent anything.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from rig.device import Device, device_on
from rig.gate import PATIENCE, Gate, wait_for
from rig.search import some
from rig.walls import Wall

from statesync import (
    BadOptions,
    HttpRemote,
    InDoubt,
    Interrupted,
    Phase,
    Progress,
    Session,
    StoreLocked,
    SyncCancelled,
    SyncError,
    SyncOptions,
)
from statesync.session import watch
from statesync.threads import Task, Threads
from statesync.wire import Page, Pull

BOUND = 1.0
"""Seconds after its grace by which a cancelled session has ended."""

BUSY_MACHINE = 1.5
"""What a test adds to that: other tests run beside it."""


def all_of(device: Device) -> list[str]:
    """Everything that is in a device's file, as another program reads it."""
    with closing(sqlite3.connect(device.store.database.database)) as other:
        return list(other.iterdump())


@contextmanager
def in_time(grace: float = 0.0) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < grace + BOUND + BUSY_MACHINE


# -- code of the program's that never comes back -----------------------------------------------------------

Start = Callable[[Device, Wall], Session]


def at(part: str, state: str) -> Start:
    """Hang in the callback that is told of this step."""

    def begin(device: Device, wall: Wall) -> Session:
        def watch(progress: Progress) -> None:
            if (progress.part, progress.state) == (part, state):
                wall()

        return device.scope.start_sync(SyncOptions(upload_batch_size=2), on_progress=watch)

    return begin


def in_policy(device: Device, wall: Wall) -> Session:
    def decide(conflict: Any) -> Any:
        wall()
        return conflict.remote

    return device.scope.start_sync(SyncOptions(conflict_policy=decide))


def in_sql(device: Device, wall: Wall) -> Session:
    """Hang in a trigger of the program's, inside the session's transaction."""
    database: Any = device.store.database
    database.register_function(wall, "hang", 0)
    device.execute("CREATE TRIGGER slow AFTER INSERT ON airport BEGIN SELECT hang(); END")
    return device.scope.start_sync(SyncOptions(sync_type="download_only"))


def in_log(device: Device, wall: Wall) -> Session:
    """Hang in a handler of the log, which gets the warning of a policy that failed."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.funcName == "_asked":
                wall()

    def fail(conflict: Any) -> Any:
        raise ZeroDivisionError

    handler, log = Handler(), logging.getLogger("statesync")
    log.addHandler(handler)
    session = device.scope.start_sync(SyncOptions(conflict_policy=fail))
    assert wall.entered.wait(PATIENCE)
    log.removeHandler(handler)
    return session


def in_transaction(device: Device, wall: Wall) -> Session:
    """Hang in a callback, inside a transaction of the callback's own, which no other writer can pass."""

    def write(_: Progress) -> None:
        database: Any = device.store.database
        with database.atomic():
            wall()

    return device.scope.start_sync(on_progress=write)


def in_success(device: Device, wall: Wall) -> Session:
    return device.scope.start_sync(on_success=wall)


HANGS: dict[str, tuple[Start, type[SyncError] | None, Phase, str | None]] = {
    "told that it began": (at("sync", "started"), SyncCancelled, Phase.CANCELLED, "user"),
    "told of an upload": (at("upload", "started"), InDoubt, Phase.FAILED, "in_doubt"),
    "told of an answer": (at("upload", "in_progress"), InDoubt, Phase.FAILED, "in_doubt"),
    "told of an upload's end": (at("upload", "ended"), SyncCancelled, Phase.CANCELLED, "user"),
    "told of a download": (at("download", "started"), SyncCancelled, Phase.CANCELLED, "user"),
    "told of a page": (at("download", "in_progress"), SyncCancelled, Phase.CANCELLED, "user"),
    "told of the last page's end": (at("download", "ended"), None, Phase.DONE, None),
    "policy": (in_policy, InDoubt, Phase.FAILED, "in_doubt"),
    "handler of the log": (in_log, InDoubt, Phase.FAILED, "in_doubt"),
    "function of SQL": (in_sql, Interrupted, Phase.FAILED, "interrupted"),
    "transaction of its own": (in_transaction, Interrupted, Phase.FAILED, "interrupted"),
    "told of success": (in_success, None, Phase.DONE, None),
}


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("place", some([*HANGS], 2))
def test_whatever_hangs_a_cancel_ends_within_its_grace_and_a_late_return_stores_and_sends_nothing(
    here: Device, there: Device, gate: Gate, wall: Wall, place: str
) -> None:
    there.add(3)
    there.sync()
    here.sync()
    there.edit("k00000", name="theirs")
    there.add(2, first=50)
    there.sync()
    here.edit("k00000", name="ours")
    here.add(3, first=100)
    begin, error, phase, reason = HANGS[place]
    session = begin(here, wall)
    assert wall.entered.wait(PATIENCE)
    with in_time():
        session.cancel(grace=0)
        ended = session.exception(PATIENCE)
    assert type(ended) is (error or type(None))
    assert (session.phase, session.done()) == (phase, True)
    assert ended is None or ended.phase is phase
    assert list(session.events())[-1].outcome is phase
    before, asked = all_of(here), len(gate.seen)
    if ended is not None:
        assert "its thread was late, in " in str(ended)
        hangs_in = {"handler of the log": "Logger.warning", "function of SQL": "Wall.__call__"}
        assert hangs_in.get(place, ".<locals>.") in str(ended), "it says where the thread is"
    wall.remove()
    assert all_of(here) == before
    assert len(gate.seen) == asked
    here.store.setup()  # what is still to be written down is written now (K8)
    assert (here.store.session(session.id).phase, here.store.session(session.id).reason) == (phase, reason)
    here.sync(conflict_policy="server_wins")
    there.sync()
    assert here.rows() == there.rows()
    assert here.operations() == {}
    assert here.store.examine() == []


@pytest.mark.usefixtures("hurried")
def test_the_next_session_need_not_wait_for_the_thread_that_was_left(
    here: Device, there: Device, wall: Wall
) -> None:
    there.add(3)
    there.sync()
    session = at("sync", "started")(here, wall)
    assert wall.entered.wait(PATIENCE)
    session.cancel(grace=0)
    session.exception(PATIENCE)
    assert here.sync().stats.downloaded == 3
    assert here.sync().phase is Phase.DONE
    wall.remove()
    here.add(1, first=100)
    assert here.sync().stats.uploaded == 1


def test_a_grace_is_given_also_to_what_hangs(here: Device, there: Device, wall: Wall) -> None:
    """Code that comes back within it is waited for, and the batch in flight is stored."""
    there.add(3)
    there.sync()
    session = at("download", "in_progress")(here, wall)
    assert wall.entered.wait(PATIENCE)
    session.cancel(grace=PATIENCE)
    assert not session.done()
    wall.remove()
    assert isinstance(session.exception(PATIENCE), SyncCancelled)
    assert len(here.rows()) == 3


def test_a_session_whose_time_is_over_ends_though_a_callback_hangs(here: Device, wall: Wall) -> None:
    options = SyncOptions(timeout=0.1, cancel_grace=0.1)
    with in_time(0.2):
        session = here.scope.start_sync(options, on_progress=wall)
        ended = session.exception(PATIENCE)
    assert isinstance(ended, SyncCancelled)
    assert "its time was over" in str(ended)
    assert here.store.session(session.id).reason == "deadline"


@pytest.mark.usefixtures("hurried")
def test_a_signal_handler_may_cancel_what_hangs(here: Device, wall: Wall) -> None:
    session = here.scope.start_sync(on_progress=wall)
    assert wall.entered.wait(PATIENCE)
    before = signal.signal(signal.SIGUSR1, lambda number, frame: session.cancel(grace=0))
    try:
        for _ in range(50):
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    with in_time():
        assert isinstance(session.exception(PATIENCE), SyncCancelled)


@pytest.mark.usefixtures("hurried")
def test_callbacks_of_the_end_are_called_though_another_one_hangs(here: Device, wall: Wall) -> None:
    told: list[object] = []
    session = here.scope.start_sync(on_progress=wall, on_failure=told.append)
    assert wall.entered.wait(PATIENCE)
    here.scope.cancel_sync(on_failure=told.append)
    session.cancel(grace=0)
    ended = session.exception(PATIENCE)
    wall.remove()
    assert wait_for(lambda: told == [ended])


# -- other writers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("grace", [0.0, 0.3])
def test_a_cancel_behind_a_write_lock_ends_within_its_grace(
    here: Device, there: Device, gate: Gate, grace: float
) -> None:
    there.add(3)
    there.sync()
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with closing(sqlite3.connect(here.store.database.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        held.release()
        with in_time(grace):
            session.cancel(grace=grace)
            ended = session.exception(PATIENCE)
        assert isinstance(ended, StoreLocked | Interrupted)
        assert session.phase is Phase.FAILED
        other.execute("ROLLBACK")
    assert here.rows() == {}
    here.store.setup()
    assert here.store.session(session.id).reason == "interrupted"
    assert here.sync().stats.downloaded == 3


def test_a_session_waits_for_another_writer_as_long_as_it_was_told_to(
    here: Device, there: Device, gate: Gate
) -> None:
    """Longer than one of the short waits of which it is made."""
    there.add(3)
    there.sync()
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with closing(sqlite3.connect(here.store.database.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        held.release()
        with pytest.raises(TimeoutError):
            session.result(0.4)
        other.execute("ROLLBACK")
    assert session.result(PATIENCE).stats.downloaded == 3


# -- remotes of the program's own ----------------------------------------------------------------------------


class Hanging(HttpRemote):
    """A remote of the program's own, which does not let go."""

    hangs_in = ""
    wall: Wall

    def pull(self, request: Pull) -> Page:
        if self.hangs_in in ("pull", "interrupt"):
            self.wall()
        return super().pull(request)

    def interrupt(self) -> None:
        if self.hangs_in == "interrupt":
            self.wall()
        super().interrupt()

    def close(self) -> None:
        if self.hangs_in == "close":
            self.wall()
        super().close()


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("place", ["pull", "interrupt", "close"])
def test_a_remote_that_does_not_let_go_holds_up_no_cancel(
    tmp_path: Any, gate: Gate, space: str, wall: Wall, place: str
) -> None:
    held = gate.hold()
    with closing(Hanging(gate.url, space)) as remote, device_on(tmp_path / "here.db", remote) as here:
        remote.hangs_in, remote.wall = place, wall
        session = here.scope.start_sync()
        if place == "close":
            held.wait()
        else:
            assert wall.entered.wait(PATIENCE)
        with in_time():
            session.cancel(grace=0)
            ended = session.exception(PATIENCE)
        assert isinstance(ended, SyncCancelled)
        assert here.store.session(session.id).phase is Phase.CANCELLED
        held.release()
        wall.remove()


@pytest.mark.parametrize("missing", ["statesync-give-up", "statesync-interrupt"])
def test_it_ends_where_a_thread_for_that_is_missing_at_first(
    here: Device, wall: Wall, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A process has too many threads for a moment."""
    monkeypatch.setattr(watch, "_AGAIN", 0.02)
    start, refused = Threads.start, list[str]()

    def crowded(self: Threads, task: Task) -> None:
        if task.name == missing and not refused:
            refused.append(missing)
            raise RuntimeError("can't start new thread")
        start(self, task)

    monkeypatch.setattr(Threads, "start", crowded)
    session = here.scope.start_sync(on_progress=wall)
    assert wall.entered.wait(PATIENCE)
    session.cancel(grace=0.0)
    assert wait_for(session.is_over)
    assert (refused, session.phase) == ([missing], Phase.CANCELLED)
    here.sync()


# -- the end of a program ------------------------------------------------------------------------------------


def test_closing_gives_a_hub_that_hangs_no_longer_than_its_grace(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with in_time(0.1):
        here.store.close(grace=0.1)
    assert session.cancelled()
    held.release()
    here.scope.start_sync()
    with pytest.raises(BadOptions):
        here.store.close(grace=-1)
    here.store.close()
    with pytest.raises(BadOptions):
        here.store.close(grace=-1)  # also where nothing runs


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("hangs", ["hub", "callback"])
def test_closing_without_a_grace_takes_that_of_the_options(
    here: Device, gate: Gate, wall: Wall, hangs: str
) -> None:
    held = gate.hold()
    on_progress = wall if hangs == "callback" else None
    session = here.scope.start_sync(SyncOptions(cancel_grace=0.1), on_progress=on_progress)
    if hangs == "hub":
        held.wait()
    else:
        assert wall.entered.wait(PATIENCE)
    with in_time(0.1):
        here.store.close()
    assert session.cancelled()
    assert here.store.session(session.id).reason == "shutdown"
    held.release()


def test_who_says_nothing_waits_ten_seconds_for_a_hub_that_hangs_and_not_a_minute() -> None:
    assert SyncOptions().cancel_grace == 10.0
    with pytest.raises(BadOptions, match="cancel_grace"):
        SyncOptions(cancel_grace=-1)


def test_cancelling_a_task_gives_a_hub_that_hangs_no_longer_than_the_options_say(
    here: Device, gate: Gate
) -> None:
    held = gate.hold()

    async def cancel() -> None:
        task = asyncio.create_task(here.scope.sync_async(SyncOptions(cancel_grace=0.1)))
        await asyncio.to_thread(held.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with in_time(PATIENCE):
        asyncio.run(cancel())
    assert here.store.sessions()[-1].phase is Phase.CANCELLED
    assert not held.released.is_set()
    held.release()


@pytest.mark.parametrize("endless", [float("inf"), 1e300])
def test_a_time_that_no_system_can_wait_for_is_as_good_as_none(
    here: Device, gate: Gate, endless: float
) -> None:
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(timeout=endless, cancel_grace=endless))
    held.wait()
    session.cancel(grace=endless)
    held.release()
    with pytest.raises(SyncCancelled):
        session.result(PATIENCE)
    second = gate.hold()
    session = here.scope.start_sync()
    second.wait()
    session.cancel(grace=0.05)
    session.wait(PATIENCE)
    assert session.done(), "the watch over all sessions has survived"
    second.release()


def test_a_time_that_is_no_time_is_refused_before_anything_ends(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with pytest.raises(BadOptions, match="grace"):
        session.cancel(grace=10**400)
    with pytest.raises(BadOptions, match="timeout"):
        SyncOptions(timeout=10**400)
    held.release()
    session.result(PATIENCE)
