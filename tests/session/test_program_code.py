"""What code of the program's may do in a session: raise anything, leave anything open, begin anything."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from rig.device import Device, device_on
from rig.gate import PATIENCE

from statesync import (
    HttpRemote,
    InternalError,
    Phase,
    Progress,
    Stopped,
    SyncError,
    SyncInProgress,
    SyncOptions,
    UsageError,
)
from statesync.wire import Page, Pull

ENDS = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError("gone")]
"""What asks for the end of a thread or of a program."""


def named(error: BaseException) -> str:
    return type(error).__name__


def stored(device: Device) -> int:
    """How many records are in the file for another program, which sees what is committed."""
    with closing(sqlite3.connect(device.store.database.database, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (count,) = other.execute("SELECT count(*) FROM airport").fetchone()
        other.execute("ROLLBACK")
    return int(count)


@pytest.fixture
def conflict(here: Device, there: Device) -> None:
    """A record that both sides have changed, and others that wait on either side."""
    there.add(3)
    there.sync()
    here.sync()
    there.edit("k00000", name="theirs")
    there.add(2, first=50)
    there.sync()
    here.edit("k00000", name="ours")


# -- what it raises --------------------------------------------------------------------------------------


def ends_stopped(device: Device, error: BaseException, **start: Any) -> None:
    told: list[SyncError] = []
    session = device.scope.start_sync(on_failure=told.append, **start)
    ended = session.exception(PATIENCE)
    assert isinstance(ended, Stopped)
    assert named(error) in str(ended)
    assert ended.__cause__ is error
    assert told == [ended]
    info = device.store.session(session.id)
    assert (session.phase, info.phase, info.reason) == (Phase.FAILED, Phase.FAILED, "stopped")
    assert info.error == str(ended)


@pytest.mark.crossed
@pytest.mark.usefixtures("conflict")
@pytest.mark.parametrize("error", ENDS, ids=named)
@pytest.mark.parametrize(
    ("part", "state"),
    [("sync", "started"), ("upload", "started"), ("upload", "ended"), ("download", "started")],
)
def test_a_callback_that_asks_for_the_end_ends_the_session_in_its_own_words(
    here: Device, there: Device, error: BaseException, part: str, state: str
) -> None:
    def leave(progress: Progress) -> None:
        if (progress.part, progress.state) == (part, state):
            raise error

    ends_stopped(here, error, options=SyncOptions(conflict_policy="server_wins"), on_progress=leave)
    here.sync(conflict_policy="server_wins")
    assert here.rows() == there.rows()


class Speechless(BaseException):
    """It raises where it is asked what it says."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


class Wordless(Exception):
    """It raises where it is asked what it says."""

    def __str__(self) -> str:
        raise ZeroDivisionError


def test_what_cannot_say_what_it_is_ends_the_session_all_the_same(here: Device) -> None:
    error = Speechless()

    def raising(_: Progress) -> None:
        raise error

    ends_stopped(here, error, on_progress=raising)


@pytest.mark.usefixtures("conflict")
def test_a_policy_that_raises_what_cannot_say_what_it_is_fails_for_its_record(here: Device) -> None:
    def fail(conflict: object) -> Any:
        raise Wordless

    result = here.sync(conflict_policy=fail)
    assert result.phase is Phase.DONE
    (error,) = result.errors.upload
    assert (error.key, error.code) == ("k00000", "policy_failed")
    assert "Wordless" in error.message


def test_a_remote_that_raises_what_cannot_say_what_it_is_fails_the_session(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: Pull) -> Page:
        raise Wordless

    monkeypatch.setattr(here.remote, "pull", fail)
    with pytest.raises(InternalError, match="the remote raised Wordless"):
        here.sync()


@pytest.mark.usefixtures("conflict")
@pytest.mark.parametrize("error", ENDS, ids=named)
def test_a_policy_that_asks_for_the_end_ends_the_session_in_its_own_words(
    here: Device, there: Device, error: BaseException
) -> None:
    def leave(_: object) -> Any:
        raise error

    ends_stopped(here, error, options=SyncOptions(conflict_policy=leave))
    here.sync(conflict_policy="server_wins")
    assert here.rows() == there.rows()


@pytest.mark.parametrize("error", ENDS, ids=named)
def test_a_remote_that_asks_for_the_end_ends_the_session_in_its_own_words(
    tmp_path: Any, address: str, space: str, error: BaseException
) -> None:
    class Leaving(HttpRemote):
        def pull(self, request: Pull) -> Page:
            raise error

    with closing(Leaving(address, space)) as remote, device_on(tmp_path / "here.db", remote) as device:
        ends_stopped(device, error)


def test_who_asks_for_the_end_after_the_last_batch_is_too_late(here: Device, there: Device) -> None:
    there.add(3)
    there.sync()

    def leave(progress: Progress) -> None:
        if (progress.part, progress.state) == ("download", "ended"):
            sys.exit(3)

    assert here.scope.sync(on_progress=leave).phase is Phase.DONE
    assert here.scope.start_sync(on_success=lambda _: sys.exit(3)).result(PATIENCE).phase is Phase.DONE
    assert stored(here) == 3


def test_a_handler_of_the_log_that_raises_keeps_no_callback_from_being_called(
    here: Device, capfd: pytest.CaptureFixture[str]
) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit("no log")

    log, handler, told = logging.getLogger("statesync"), Handler(), list[object]()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        result = here.scope.start_sync(on_success=told.append).result(PATIENCE)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert told == [result]
    assert "no log" in capfd.readouterr().err
    assert here.sync().phase is Phase.DONE


# -- what it leaves open -----------------------------------------------------------------------------------


def begin(device: Device, kept: list[object]) -> None:
    device.execute("BEGIN IMMEDIATE")
    device.airport.create(id="k00900", name="left")


def enter(device: Device, kept: list[object]) -> None:
    database: Any = device.store.database
    kept.append(database.atomic())
    kept[-1].__enter__()  # type: ignore[attr-defined]
    device.airport.create(id="k00900", name="left")


def read(device: Device, kept: list[object]) -> None:
    """Leave a cursor open: what is read later on its connection is what there was at its beginning."""
    cursor = iter(device.airport.select().iterator())
    next(cursor, None)
    kept.append(cursor)


def close(device: Device, kept: list[object]) -> None:
    database: Any = device.store.database
    database.close()


LEAVES = {"a transaction": begin, "a block": enter, "a cursor": read, "no connection": close}


@pytest.mark.crossed
@pytest.mark.usefixtures("conflict")
@pytest.mark.parametrize("what", LEAVES)
@pytest.mark.parametrize("where", ["callback", "policy", "success"])
def test_what_a_callback_leaves_open_is_no_part_of_the_session(
    here: Device, there: Device, caplog: pytest.LogCaptureFixture, what: str, where: str
) -> None:
    kept: list[object] = []

    def leave(value: Any) -> Any:
        LEAVES[what](here, kept)
        return getattr(value, "remote", None)

    options = SyncOptions(
        conflict_policy=leave if where == "policy" else "server_wins", download_batch_size=1
    )
    called = {"callback": {"on_progress": leave}, "success": {"on_success": leave}}.get(where, {})
    session = here.scope.start_sync(options, **called)
    assert session.result(PATIENCE).phase is Phase.DONE
    assert "raised" not in caplog.text
    assert "policy failed" not in caplog.text
    assert stored(here) == 5
    assert here.rows() == there.rows()
    assert here.sync().phase is Phase.DONE


@pytest.mark.parametrize("what", LEAVES)
def test_what_a_remote_leaves_open_is_no_part_of_the_session_and_is_closed(
    here: Device, there: Device, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    there.add(3)
    there.sync()
    here.add(1, first=50)
    kept: list[object] = []
    pull = here.remote.pull

    def leave(request: Pull) -> Page:
        LEAVES[what](here, kept)
        return pull(request)

    monkeypatch.setattr(here.remote, "pull", leave)
    assert here.sync(download_batch_size=2).phase is Phase.DONE
    assert stored(here) == 4
    here.store.close()
    database: Any = here.store.database
    assert database.held_connections() == []


def left_in_sql(device: Device, begin: Callable[[Any], object]) -> None:
    database: Any = device.store.database
    database.register_function(lambda: [begin(database)] and 1, "leave", 0)
    device.execute("CREATE TRIGGER leaving AFTER INSERT ON airport BEGIN SELECT leave(); END")


@pytest.mark.parametrize(
    "begin",
    [
        lambda database: database.atomic().__enter__(),
        lambda database: database.execute_sql("BEGIN"),
        lambda database: database.execute_sql("SELECT 1"),
        lambda database: database.close(),
    ],
    ids=["a block", "a transaction", "a cursor", "no connection"],
)
def test_what_a_function_of_sql_leaves_open_is_no_part_of_the_session(
    here: Device, there: Device, begin: Callable[[Any], object]
) -> None:
    there.add(3)
    there.sync()
    left_in_sql(here, begin)
    here.sync()
    here.execute("DROP TRIGGER leaving")
    here.sync()
    assert stored(here) == 3
    assert here.rows() == there.rows()
    assert here.store.examine() == []


@pytest.mark.parametrize(
    "statement", ["ROLLBACK", "COMMIT", "INSERT INTO airport (id, name, is_open) VALUES ('x', 'x', 1)"]
)
def test_a_function_of_sql_neither_ends_nor_fills_the_transaction_that_it_is_called_in(
    here: Device, there: Device, statement: str
) -> None:
    there.add(3)
    there.sync()
    left_in_sql(here, lambda database: database.execute_sql(statement))
    assert here.sync().quarantined == 3
    assert stored(here) == 0
    here.execute("DROP TRIGGER leaving")
    assert here.sync().quarantined == 0
    assert here.rows() == there.rows()
    assert here.store.examine() == []


def test_a_session_never_says_done_while_its_transaction_is_not_committed(
    here: Device, there: Device
) -> None:
    """Nothing that a program does by the way leads to the session's own connection; here something does."""
    there.add(3)
    there.sync()
    database: Any = here.store.database

    def leave(progress: Progress) -> None:
        if (progress.part, progress.state) == ("download", "started"):
            database._session.execute("BEGIN IMMEDIATE")

    session = here.scope.start_sync(on_progress=leave)
    assert isinstance(session.exception(PATIENCE), InternalError)
    assert session.phase is Phase.FAILED
    assert stored(here) == 0
    here.store.setup()
    assert here.store.session(session.id).reason == "interrupted"
    assert here.sync().stats.downloaded == 3


def test_what_a_callback_leaves_in_a_transaction_is_logged(
    here: Device, caplog: pytest.LogCaptureFixture
) -> None:
    here.scope.start_sync(on_success=lambda _: begin(here, [])).result(PATIENCE)
    assert "a transaction was left open" in caplog.text


# -- what it begins ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start", [lambda d: d.sync(), lambda d: d.store.setup(), lambda d: d.add(1, first=50)]
)
def test_a_callback_may_use_the_store_and_is_told_what_it_may_not(
    here: Device, there: Device, start: Callable[[Device], object]
) -> None:
    there.add(3)
    there.sync()
    raised: list[type[Exception]] = []

    def use(progress: Progress) -> None:
        if progress.state == "started" and not raised:
            try:
                start(here)
            except SyncInProgress as error:
                raised.append(type(error))

    assert here.scope.sync(on_progress=use).stats.downloaded == 3


def test_a_callback_that_closes_the_store_cancels_the_session_and_is_told_that_it_cannot_wait(
    here: Device, there: Device
) -> None:
    there.add(3)
    there.sync()
    raised: list[Exception] = []

    def close_it(progress: Progress) -> None:
        if (progress.part, progress.state) == ("sync", "started"):
            try:
                here.store.close()
            except UsageError as error:
                raised.append(error)

    session = here.scope.start_sync(on_progress=close_it)
    session.wait(PATIENCE)
    assert len(raised) == 1
    assert here.store.session(session.id).reason == "shutdown"
    assert here.sync().stats.downloaded == 3


def test_a_process_that_a_callback_has_forked_ends_where_it_would_go_on_with_its_parents_session(
    here: Device, there: Device
) -> None:
    there.add(30)
    there.sync()
    children: list[int] = []

    def fork(progress: Progress) -> None:
        if progress.state == "started":
            child = os.fork()
            if child:
                children.append(child)

    result = here.scope.sync(SyncOptions(download_batch_size=10), on_progress=fork)
    assert result.stats.downloaded == 30
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [os.EX_SOFTWARE] * 4
    assert here.rows() == there.rows()
    assert here.store.examine() == []
