"""How a session has ended is one value, said once: whoever asks, waits or reads the history sees the same.

A callback comes back at the very moment at which its session is ended without its thread: both are at it.
And a callback of the end may hang: then who waits is let go by whatever ends programs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from rig.device import Device
from rig.gate import PATIENCE, Gate, wait_for
from rig.walls import Wall

from statesync import (
    CancelOptions,
    NothingToCancel,
    Phase,
    Progress,
    Session,
    SyncCancelled,
    SyncError,
    SyncOptions,
    SyncResult,
    UsageError,
)
from statesync.session import handle
from statesync.store.ending.leaving import LeftEnd
from statesync.store.journal import history
from statesync.store.session_store import SessionStore

OVER_AT_ONCE = SyncOptions(timeout=0.05, cancel_grace=0.0)


def start_and_cancel(device: Device, callback: Callable[[Progress], None]) -> SyncResult:
    called = threading.Event()

    def call(progress: Progress) -> None:
        called.set()
        callback(progress)

    session = device.scope.start_sync(on_progress=call)
    assert called.wait(PATIENCE)
    session.cancel(grace=0)
    session.wait(PATIENCE)
    assert session.done()
    assert session.cancelled()
    assert session.phase is Phase.CANCELLED
    return session.result()


def sync(device: Device, callback: Callable[[Progress], None]) -> SyncResult:
    return device.scope.sync(OVER_AT_ONCE, on_progress=callback)


def sync_async(device: Device, callback: Callable[[Progress], None]) -> SyncResult:
    return asyncio.run(device.scope.sync_async(OVER_AT_ONCE, on_progress=callback))


WAYS = [start_and_cancel, sync, sync_async]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("run", WAYS)
def test_a_thread_that_comes_back_while_its_session_is_ended_without_it_ends_no_wait_for_the_outcome(
    here: Device, wall: Wall, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    real = SessionStore.end_left

    def end_after_the_thread(store: SessionStore, *reason: Any) -> LeftEnd:
        wall.remove()
        return real(store, *reason)

    monkeypatch.setattr(SessionStore, "end_left", end_after_the_thread)
    with pytest.raises(SyncCancelled) as raised:
        run(here, wall)
    assert (raised.value.phase, raised.value.result.phase) == (Phase.CANCELLED, Phase.CANCELLED)
    assert [session.phase for session in here.store.sessions()] == [Phase.CANCELLED]


@pytest.mark.parametrize("run", WAYS)
def test_a_callback_that_is_late_to_the_very_moment_changes_nothing_in_what_is_told(
    here: Device, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    """Many sessions, each ended without its thread a little earlier or later than it comes back."""
    late = 0.02
    monkeypatch.setattr(handle, "LATE", late)
    ends = Counter[object]()
    limit = 0.0 if run is start_and_cancel else 0.05
    while (number := ends.total()) < 15:
        began = time.monotonic()

        def be_late(_: Progress, until: float = began + limit + late + 0.0004 * number) -> None:
            while time.monotonic() < until:
                time.sleep(0.0002)

        try:
            ends[run(here, be_late).phase] += 1
        except SyncError as error:
            if error.result is not None:  # else the machine was so slow that it had no time to begin
                ends[type(error), error.phase, error.result.phase] += 1
    assert ends == {(SyncCancelled, Phase.CANCELLED, Phase.CANCELLED): 15}
    assert {session.phase for session in here.store.sessions()} == {Phase.CANCELLED}


@pytest.mark.usefixtures("hurried")
def test_a_session_that_is_ended_while_its_thread_reads_what_it_did_has_ended_as_the_journal_says(
    here: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entered, real = threading.Event(), history.result

    def read_for_long(connection: sqlite3.Connection, *about: Any, **more: Any) -> SyncResult:
        if not entered.is_set():
            entered.set()
            connection.execute(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
            ).fetchone()
        return real(connection, *about, **more)

    monkeypatch.setattr(history, "result", read_for_long)
    session = here.scope.start_sync()
    assert entered.wait(PATIENCE)
    session.cancel(grace=0)
    assert session.result(PATIENCE).phase is Phase.DONE
    assert [session.phase for session in here.store.sessions()] == [Phase.DONE]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# -- a callback of the end that hangs ----------------------------------------------------------------------


def ended_but_hanging(device: Device, wall: Wall) -> Session:
    session = device.scope.start_sync(on_success=wall)
    assert wall.entered.wait(PATIENCE)
    assert session.done()
    return session


def close(device: Device, session: Session) -> None:
    device.store.close(grace=0)


def cancel_sync(device: Device, session: Session) -> None:
    device.scope.cancel_sync(CancelOptions(grace=0))


def cancel(device: Device, session: Session) -> None:
    session.cancel(grace=0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("end", [close, cancel_sync, cancel])
def test_whatever_ends_a_session_lets_go_who_waits_for_its_last_callbacks(
    here: Device, wall: Wall, end: Callable[[Device, Session], None]
) -> None:
    session = ended_but_hanging(here, wall)
    waiting = threading.Thread(target=session.result)
    waiting.start()
    end(here, session)
    waiting.join(2.5)
    assert not waiting.is_alive()
    assert session.result(0).phase is Phase.DONE


@pytest.mark.usefixtures("hurried")
def test_closing_lets_go_also_who_waits_for_an_earlier_session(here: Device, wall: Wall) -> None:
    first = ended_but_hanging(here, wall)
    here.sync()
    here.store.close(grace=0)
    assert first.result(0).phase is Phase.DONE


@pytest.mark.usefixtures("hurried")
def test_a_signal_handler_that_closes_wakes_the_thread_that_it_interrupts(here: Device, wall: Wall) -> None:
    session = ended_but_hanging(here, wall)
    before = signal.signal(signal.SIGUSR1, lambda number, frame: here.store.close(grace=0))
    try:
        main = threading.main_thread().ident or 0
        threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1)).start()
        assert session.result(PATIENCE / 4).phase is Phase.DONE
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("hurried")
def test_who_cancels_when_it_has_ended_is_told_that_there_was_nothing_to_cancel(
    here: Device, wall: Wall
) -> None:
    ended_but_hanging(here, wall)
    told: list[SyncError] = []
    here.scope.cancel_sync(CancelOptions(grace=0), on_failure=told.append)
    assert [type(error) for error in told] == [NothingToCancel]


def test_a_callback_of_the_end_may_ask_for_the_outcome_and_close(here: Device) -> None:
    told: list[Phase] = []
    sessions: list[Session] = []
    known = threading.Event()

    def look(_: SyncResult) -> None:
        known.wait(PATIENCE)
        told.append(sessions[0].result().phase)
        here.store.close()

    sessions.append(here.scope.start_sync(on_success=look))
    known.set()
    assert sessions[0].result(PATIENCE).phase is Phase.DONE
    assert told == [Phase.DONE]


# -- a process that was forked ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_waits_for_no_session_of_its_parent_and_says_so(here: Device, gate: Gate) -> None:
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            session.cancel(grace=0)
            here.store.close(grace=1)
            session.result(3)
        except UsageError as error:
            status = 0 if "forked" in str(error) else 2
        finally:
            os._exit(status)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert time.monotonic() - began < 2.5
    assert not session.done()
    held.release()
    assert session.result(PATIENCE).phase is Phase.DONE
    assert wait_for(session.is_over)
