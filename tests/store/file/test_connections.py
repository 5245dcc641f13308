"""A session leaves its connection to the next one, and never where that could be noticed."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from rig.device import Device

from statesync import StoreError, UsageError
from statesync.store.file.connections import DeviceDatabase
from statesync.threads import Task, Threads


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections that were opened for sessions."""
    connections: list[sqlite3.Connection] = []
    real = DeviceDatabase._connect_for_any_thread

    def connect(database: DeviceDatabase) -> sqlite3.Connection:
        connections.append(real(database))
        return connections[-1]

    monkeypatch.setattr(DeviceDatabase, "_connect_for_any_thread", connect)
    return connections


def is_closed(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    return False


def test_sessions_share_a_connection_that_none_of_them_opens_again(
    here: Device, opened: list[sqlite3.Connection]
) -> None:
    here.add(3)
    for _ in range(3):
        here.sync()
    assert len(opened) == 1


def test_a_session_leaves_the_setting_alone_that_would_have_every_statement_compiled_again(
    here: Device, opened: list[sqlite3.Connection]
) -> None:
    here.sync()
    said: list[str] = []
    opened[0].set_trace_callback(said.append)
    here.sync()
    assert [statement for statement in said if "foreign_keys" in statement] == []


def test_whatever_a_callback_sets_is_set_on_a_connection_that_is_not_the_sessions(
    here: Device, opened: list[sqlite3.Connection]
) -> None:
    """A session enforces no foreign keys, a program does: neither gets the other's switch."""
    theirs: list[tuple[int]] = []
    sessions: list[tuple[int]] = []

    def switch(_: object) -> None:
        database: Any = here.store.database
        theirs.extend(database.execute_sql("PRAGMA foreign_keys"))
        database.execute_sql(f"PRAGMA foreign_keys = {1 - theirs[-1][0]}")
        sessions.extend(opened[0].execute("PRAGMA foreign_keys"))

    for _ in range(2):
        here.scope.sync(on_progress=switch)
    assert len(theirs) == 10
    assert set(theirs[0::5]) == {(1,)}, "the first that each of both sessions told"
    assert set(sessions) == {(0,)}


def test_who_closes_the_last_connection_has_closed_the_file(
    here: Device, opened: list[sqlite3.Connection]
) -> None:
    here.sync()
    assert not is_closed(opened[0])
    log = Path(f"{here.store.database.database}-wal")
    assert log.exists()
    here.store.database.close()
    assert is_closed(opened[0])
    assert not log.exists(), "SQLite takes the log away with the last connection"
    here.sync()
    assert len(opened) == 2


def test_a_store_that_is_closed_leaves_no_connection(here: Device, opened: list[sqlite3.Connection]) -> None:
    here.sync()
    here.store.close()
    assert is_closed(opened[0])


def test_a_session_that_outlives_the_programs_connection_closes_its_own(
    here: Device, opened: list[sqlite3.Connection]
) -> None:
    session = here.scope.start_sync(on_progress=lambda _: None)
    here.store.database.close()
    session.result(10)
    assert is_closed(opened[0])


def test_a_connection_that_a_callback_opens_is_closed_after_it(here: Device) -> None:
    here.add(2)
    counted: list[int] = []
    for _ in range(2):
        session = here.scope.start_sync(on_success=lambda _: counted.append(here.airport.select().count()))
        session.result(10)
    here.store.database.close()
    assert counted == [2, 2]
    assert not Path(f"{here.store.database.database}-wal").exists()


def test_a_function_that_is_registered_between_two_sessions_is_known_to_the_second(
    here: Device, there: Device
) -> None:
    here.sync()
    seen: list[str] = []
    database: Any = here.store.database
    database.register_function(seen.append, "note", 1)
    here.execute("CREATE TRIGGER noted AFTER INSERT ON airport BEGIN SELECT note(NEW.name); END")
    there.add(1)
    there.sync()
    here.sync()
    assert seen == ["n0"]


def test_a_session_that_met_an_error_leaves_no_connection(
    here: Device, there: Device, opened: list[sqlite3.Connection]
) -> None:
    here.execute(
        "CREATE TRIGGER refused BEFORE UPDATE ON statesync_cursor BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    there.add(1)
    there.sync()
    with pytest.raises(StoreError):
        here.sync()
    assert is_closed(opened[-1])
    here.execute("DROP TRIGGER refused")
    assert here.sync().stats.downloaded == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_store_that_went_through_a_fork_says_what_to_do_and_harms_its_parent_in_nothing(
    here: Device,
) -> None:
    here.sync()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            here.sync()
        except UsageError as error:
            status = 0 if "another Store" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    here.add(1)
    assert here.sync().stats.uploaded == 1


def test_a_log_that_no_thread_is_there_to_write_back_keeps_no_file_from_being_closed(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process has too many threads for a moment; a later commit that finds the log long writes it back."""
    refused: list[str] = []

    def crowded(_self: Threads, task: Task) -> None:
        refused.append(task.name)
        raise RuntimeError("can't start new thread")

    database: Any = here.store.database
    database._log.put_off(database.raw_connection())  # as a session leaves it whose last batch was large
    with monkeypatch.context() as patch:
        patch.setattr(Threads, "start", crowded)
        database._write_back(database.raw_connection())
    assert refused == ["statesync-checkpoint"]
    database.drop_spare()
