"""A sync with nothing to do: what it costs, and what happens to a write that comes just as it begins."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rig.device import Device
from rig.gate import PATIENCE, Gate

from statesync import Phase, StoreFull, SyncCancelled
from statesync.protocol.messages import Begin
from statesync.store.journal import transitions
from statesync.store.session_store import SessionStore
from statesync.store.upload.uploads import Uploads


@pytest.fixture
def transactions(here: Device, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was committed on the device."""
    committed: list[str] = []
    database: Any = here.store.database
    commit = database.commit

    def count() -> Any:
        committed.append("commit")
        return commit()

    monkeypatch.setattr(database, "commit", count)
    return committed


def test_a_sync_with_nothing_to_do_is_one_request_and_two_transactions(
    here: Device, gate: Gate, transactions: list[str]
) -> None:
    here.sync()
    gate.seen.clear()
    transactions.clear()
    session = here.scope.start_sync()
    assert session.result(10).phase is Phase.DONE
    assert gate.verbs() == ["pull"]
    assert len(transactions) == 2, "the session with its request, its end"
    assert [str(entry.trigger) for entry in here.store.journal(session.id)] == [
        "start",
        "finish_upload",
        "open_batch",
        "send",
        "receive",
        "commit_batch",
        "commit",
        "finish_download",
    ]


def test_a_cancel_while_it_begins_is_all_that_is_recorded(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.sync()
    gate.seen.clear()
    look = SessionStore.begin

    def look_and_cancel(store: SessionStore) -> Begin:
        here.scope.cancel_sync()
        return look(store)

    monkeypatch.setattr(SessionStore, "begin", look_and_cancel)
    session = here.scope.start_sync()
    with pytest.raises(SyncCancelled):
        session.result(10)
    assert [str(entry.trigger) for entry in here.store.journal(session.id)] == ["cancel"]
    assert gate.seen == []


def test_a_session_whose_first_transaction_fails_has_never_begun(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.sync()
    before = here.store.sessions()

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    told: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(transitions.JournalWriter, "write", full)
        with pytest.raises(StoreFull):
            here.scope.start_sync(None, told.append, told.append, told.append)
        with pytest.raises(StoreFull):
            here.sync()
    assert told == []
    assert here.store.sessions() == before
    assert here.sync().phase is Phase.DONE


def test_an_upload_of_nothing_is_done_without_a_request(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(here.remote, "pull", asked.append)
    assert here.sync(sync_type="upload_only").phase is Phase.DONE
    assert asked == []


def test_a_write_just_as_the_session_begins_waits_for_the_next_and_is_not_overwritten(
    here: Device, there: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.add(1)
    there.sync()
    here.sync()
    there.edit("k00000", name="theirs")
    there.sync()
    look = SessionStore.begin

    def look_and_write(store: SessionStore) -> Begin:
        found = look(store)
        here.execute("UPDATE airport SET elevation = 7 WHERE id = 'k00000'")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(SessionStore, "begin", look_and_write)
        first = here.sync()
    assert (first.phase, first.stats.uploaded) == (Phase.DONE, 0)
    assert here.field("k00000", "elevation") == 7
    assert here.operations() == {"k00000": "update"}
    beyond = (
        "SELECT horizon < position FROM statesync_session, statesync_change ORDER BY statesync_session.rowid"
    )
    assert here.execute(beyond).fetchall()[-1] == (1,), "the session has sent all up to its horizon"
    here.sync()
    there.sync()
    assert here.rows() == there.rows()
    assert (there.field("k00000", "name"), there.field("k00000", "elevation")) == ("theirs", 7)


def test_a_session_with_something_to_send_is_given_back_before_all_that_was_written_is_folded(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million writes that takes a second. Who has the session may cancel it, and finds it recorded."""
    here.sync()
    here.add(3)
    folding, folded, fix = threading.Event(), threading.Event(), Uploads.fix_limit

    def slowly(uploads: Uploads, connection: sqlite3.Connection) -> int:
        folding.set()
        assert folded.wait(PATIENCE)
        return fix(uploads, connection)

    monkeypatch.setattr(Uploads, "fix_limit", slowly)
    with ThreadPoolExecutor(1) as pool:
        beginning = pool.submit(here.scope.start_sync)
        try:
            assert folding.wait(PATIENCE)
            session = beginning.result(PATIENCE / 4)
            (known,) = [each for each in here.store.sessions() if each.id == session.id]
            assert known.phase is Phase.IDLE
        finally:
            folded.set()
    assert session.result(10).stats.uploaded == 3
