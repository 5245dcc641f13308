"""While a session begins, another writer may hold the file: it begins, is cancelled and ends in time.

Its bounds are those of a session that runs. Nothing is recorded of one that never began.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from rig.device import Device
from rig.gate import PATIENCE, Gate, wait_for
from rig.walls import Wall

from statesync import Phase, StoreLocked, SyncCancelled, SyncError, SyncOptions

BUSY = 20.0
"""Seconds that the store waits for another writer."""

either = pytest.mark.parametrize("here", ["new", "known"], indirect=True)

BOUND = 2.5
"""Seconds in which what has a grace of 0 has ended, on a busy machine."""


@pytest.fixture
def here(request: pytest.FixtureRequest, new_device: Callable[..., Device], gate: Gate) -> Device:
    """A device whose next session is recorded by itself or, if it was here before, with its first step."""
    device = new_device("here", gate.url, busy_timeout=BUSY)
    if getattr(request, "param", "new") == "known":
        device.sync()
        device.execute("DELETE FROM statesync_session")
    return device


@contextmanager
def writing(device: Device, what: str | None = None) -> Iterator[None]:
    """Write in another program, which commits if it writes anything."""
    path = device.store.database.database
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute(what or "SELECT 1")
        yield
        other.execute("COMMIT" if what else "ROLLBACK")


@contextmanager
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < BOUND


def begin(device: Device, ended: list[BaseException], options: SyncOptions | None = None) -> threading.Thread:
    """Start a session in another thread, which waits for the writer."""

    def run() -> None:
        try:
            device.scope.start_sync(options)
        except SyncError as error:
            ended.append(error)
        device.store._parts.database.leave()

    thread = threading.Thread(target=run)
    thread.start()
    assert wait_for(lambda: is_beginning(device))
    return thread


def is_beginning(device: Device) -> bool:
    session = device.store._running.session
    return session is not None and not session.done()


@either
def test_closing_ends_a_session_that_another_thread_is_beginning(here: Device) -> None:
    ended: list[BaseException] = []
    with writing(here):
        thread = begin(here, ended)
        with soon():
            here.store.close(grace=0)
        thread.join(PATIENCE)
    assert [type(error) for error in ended] == [StoreLocked]
    assert here.store.sessions() == []
    assert here.sync().phase is Phase.DONE


@pytest.mark.usefixtures("hurried")
def test_a_grace_that_was_given_before_the_session_had_begun_holds_when_it_has(
    here: Device, wall: Wall
) -> None:
    """Its failure callback hangs; the closer is let go all the same."""
    with writing(here):
        thread = threading.Thread(target=here.scope.start_sync, args=(None, None, wall))
        thread.start()
        assert wait_for(lambda: is_beginning(here))
        closer = threading.Thread(target=here.store.close, args=(0.4,))
        closer.start()
        time.sleep(0.1)
    closer.join(BOUND)
    assert not closer.is_alive()
    thread.join(PATIENCE)


@either
def test_the_time_of_a_session_runs_while_it_begins(here: Device) -> None:
    with writing(here), soon(), pytest.raises(StoreLocked):
        here.scope.sync(SyncOptions(timeout=0.1, cancel_grace=0.0))
    assert here.store.sessions() == []


@either
def test_a_writer_is_waited_for_as_long_as_the_store_was_told_to(here: Device) -> None:
    """Longer than one of the short waits of which it is made; the time of the session does not begin anew."""
    ended: list[BaseException] = []
    with writing(here):
        thread = begin(here, ended, SyncOptions(timeout=0.2))
        time.sleep(0.4)
    thread.join(PATIENCE)
    session = here.store._running.session
    assert session is not None
    assert isinstance(session.exception(PATIENCE), SyncCancelled)
    assert ended == []
    assert here.store.session(session.id).reason == "deadline"


def test_a_reader_that_locks_everybody_out_is_waited_for_as_a_writer_is(here: Device) -> None:
    path = here.store.database.database
    here.store.close()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")

    def let_go() -> None:
        other.execute("ROLLBACK")
        other.close()

    threading.Timer(0.5, let_go).start()
    assert here.sync().phase is Phase.DONE


@either
def test_an_interrupt_from_the_keyboard_ends_a_session_that_is_beginning(here: Device) -> None:
    main = threading.main_thread().ident or 0
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with writing(here), soon():
            threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                here.scope.sync(SyncOptions(cancel_grace=0.0))
    finally:
        signal.signal(signal.SIGINT, before)
    assert here.store.sessions() == []
    assert here.sync().phase is Phase.DONE


def test_the_event_loop_goes_on_while_a_session_begins_and_a_cancel_of_its_task_ends_it(here: Device) -> None:
    async def cancel() -> float:
        task = asyncio.create_task(here.scope.sync_async(SyncOptions(cancel_grace=0.0)))
        longest, last = 0.0, time.monotonic()
        for _ in range(20):
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return longest

    with writing(here), soon():
        assert asyncio.run(cancel()) < 1.0
    assert here.store.sessions() == []


def test_a_coroutine_gets_the_error_of_a_session_that_could_not_begin(here: Device) -> None:
    with writing(here), soon(), pytest.raises(StoreLocked):
        asyncio.run(here.scope.sync_async(SyncOptions(timeout=0.1, cancel_grace=0.0)))


def test_a_coroutine_needs_no_thread_of_the_loops_executor(here: Device) -> None:
    free = threading.Event()

    async def run() -> Phase:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        job = loop.run_in_executor(None, free.wait, PATIENCE)
        result = await asyncio.wait_for(here.scope.sync_async(), PATIENCE / 2)
        free.set()
        await job
        return result.phase

    try:
        assert asyncio.run(run()) is Phase.DONE
    finally:
        free.set()


def test_cancelling_a_task_needs_no_thread_of_the_loops_executor(here: Device, gate: Gate) -> None:
    held, free = gate.hold(), threading.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        task = asyncio.create_task(here.scope.sync_async(SyncOptions(cancel_grace=0.0)))
        await asyncio.to_thread(held.wait)
        job = loop.run_in_executor(None, free.wait, PATIENCE)
        task.cancel()
        with soon(), pytest.raises(asyncio.CancelledError):
            await task
        free.set()
        await job

    try:
        asyncio.run(run())
    finally:
        free.set()
        held.release()


@either
def test_what_another_program_sets_up_while_it_begins_is_what_it_syncs(here: Device, there: Device) -> None:
    there.add(2)
    there.sync()
    ended: list[BaseException] = []
    with writing(
        here,
        "UPDATE statesync_object SET description = json_set(description, '$.columns[0][3]', json('true'))",
    ):
        thread = begin(here, ended)
        time.sleep(0.1)
    thread.join(PATIENCE)
    session = here.store._running.session
    assert session is not None
    assert session.result(PATIENCE).phase is Phase.DONE
    assert ended == []
    assert here.rows() == there.rows()
