"""What the store knew besides the records, and a damaged page has taken: nothing is guessed in its place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from peewee import TextField

from statesync import ConnectionLost, Phase, Progress, Scope, Store, SyncOptions, decide_later
from statesync.complaints import Repair
from statesync.hub import Hub, LocalRemote, prepare
from statesync.testing import Fault, FaultyRemote

from .damage import damage

_NO_BAD = """
CREATE TRIGGER no_bad BEFORE UPDATE ON note WHEN NEW.title = 'bad' BEGIN SELECT RAISE(ABORT, 'bad'); END
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub of the test's own."""
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    with closing(Hub(url, without_tokens=True)) as opened:
        yield opened


@contextmanager
def device(path: Path, hub: Hub) -> Iterator[tuple[Any, Scope]]:
    """A store with notes, set up: the model and a scope."""
    with closing(Store(path)) as store:

        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField()

        store.setup()
        yield Note, store.scope(LocalRemote(hub, "sp"))


@pytest.fixture
def path(tmp_path: Path, hub: Hub) -> Path:
    """A device on which a record waits in quarantine, in a newer version than the row has."""
    path = tmp_path / "here.db"
    with device(path, hub) as (note, here), device(tmp_path / "there.db", hub) as (their_note, there):
        note.create(id="k", title="old")
        here.sync()
        there.sync()
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(_NO_BAD)
        their_note.update(title="bad").execute()
        their_note.create(id="other", title="other")
        there.sync()
        assert here.sync().quarantined == 1
    return path


def lose_table(path: Path, table: str, *others: str) -> None:
    """Damage the one page that a table, or an index, has, and repair the file without any model."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = dict(connection.execute("SELECT name, pageno FROM dbstat").fetchall())
    for name in (table, *others):
        damage(path, pages[name], "zeros")
    with closing(Store(path)) as store:
        assert table in [complaint.about for complaint in store.repair()]
        assert [each for each in store.examine() if each.repair is not None] == []


def test_an_edit_of_an_old_row_overwrites_nothing_where_the_rows_version_is_lost(
    path: Path, hub: Hub, tmp_path: Path
) -> None:
    lose_table(path, "statesync_base")
    with device(path, hub) as (note, here):
        note.update(title="mine").where(note.id == "k").execute()
        (met,) = here.sync().errors.upload
    assert (met.key, met.code) == ("k", "does_not_fit")  # in conflict with what does not fit
    with device(tmp_path / "new.db", hub) as (note, new):
        new.sync()
        assert note.get_by_id("k").title == "bad"


def test_a_record_that_waited_in_a_lost_quarantine_comes_again(path: Path, hub: Hub) -> None:
    lose_table(path, "statesync_quarantine")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER no_bad")
    with device(path, hub) as (note, here):
        here.sync()
        assert note.get_by_id("k").title == "bad"


def test_a_read_from_the_start_begins_anew_where_what_it_has_met_is_lost(tmp_path: Path, hub: Hub) -> None:
    path, keys = tmp_path / "here.db", ["a", "b", "c", "d"]
    with device(path, hub) as (note, here), device(tmp_path / "there.db", hub) as (their_note, there):
        for key in [*keys, "e"]:
            note.create(id=key, title=key)
        here.sync()
        there.sync()
        their_note.delete_by_id("e")
        there.sync()
        hub.purge("sp", 100)

        def stop(step: Progress) -> None:
            if step.records == 2:
                begun.cancel()

        begun = here.start_sync(SyncOptions(download_batch_size=1), on_progress=stop)
        begun.wait()
        assert begun.phase is Phase.CANCELLED
    lose_table(path, "statesync_seen")
    with device(path, hub) as (note, here):
        here.sync()
        assert sorted(row.id for row in note.select()) == keys


def test_a_record_that_was_local_only_and_is_lost_comes_from_the_hub_again(tmp_path: Path, hub: Hub) -> None:
    path = tmp_path / "here.db"
    with device(path, hub) as (note, here):
        note.create(id="k", title="shared")
        here.sync()
        with here.untracked():
            note.update(title="mine alone").execute()
    lose_table(path, "note")
    with device(path, hub) as (note, here):
        here.sync()
        assert note.get_by_id("k").title == "shared"


def test_a_conflict_that_waited_for_a_decision_is_asked_about_again_where_its_record_is_lost(
    tmp_path: Path, hub: Hub
) -> None:
    path, later = tmp_path / "here.db", SyncOptions(conflict_policy=decide_later)
    with device(path, hub) as (note, here), device(tmp_path / "there.db", hub) as (their_note, there):
        note.create(id="k", title="old")
        here.sync()
        there.sync()
        their_note.update(title="theirs").execute()
        there.sync()
        note.update(title="mine").execute()
        here.sync(later)
    lose_table(path, "statesync_conflict")
    with device(path, hub) as (note, here):
        here.sync(later)
        (waits,) = here.conflicts(waiting=True)
        assert (waits.local, waits.remote) == ({"title": "mine"}, {"title": "theirs"})


def test_what_was_written_unseen_while_tracking_was_lost_is_offered(tmp_path: Path, hub: Hub) -> None:
    path = tmp_path / "here.db"
    with device(path, hub) as (note, here), device(tmp_path / "there.db", hub) as (their_note, there):
        note.create(id="k", title="old")
        note.create(id="other", title="other")
        here.sync()
        there.sync()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM statesync_tracking")
            connection.execute("UPDATE note SET title = 'unseen' WHERE id = 'k'")
            connection.commit()
    lose_table(path, "statesync_tracking")
    with device(path, hub) as (note, here), device(tmp_path / "there.db", hub) as (their_note, there):
        here.sync()  # compares with the hub
        here.sync()
        there.sync()
        assert their_note.get_by_id("k").title == "unseen"


def test_an_upload_in_doubt_ends_where_it_is_lost_who_the_device_was(tmp_path: Path, hub: Hub) -> None:
    path = tmp_path / "here.db"
    with device(path, hub) as (note, here):
        note.create(id="k", title="old")
        remote = FaultyRemote(here.remote, rates={})
        remote.inject(Fault.LOSE_ANSWER)
        here.remote = remote
        with pytest.raises(ConnectionLost):
            here.sync(SyncOptions(max_attempts=1))
    lose_table(path, "statesync_space")
    with device(path, hub) as (note, here):
        note.update(title="new").execute()
        here.sync()
        here.sync()
        assert here.pending() == []
        (met,) = here.conflicts()  # nobody knows any more that it was this device which made the record
    assert (met.local, met.remote) == ({"title": "new"}, {"title": "old"})


def test_an_upload_in_doubt_whose_content_is_lost_is_offered_anew(tmp_path: Path, hub: Hub) -> None:
    path = tmp_path / "here.db"
    with device(path, hub) as (note, here):
        note.create(id="k", title="old")
        remote = FaultyRemote(here.remote, rates={})
        remote.inject(Fault.LOSE_REQUEST)
        here.remote = remote
        with pytest.raises(ConnectionLost):
            here.sync(SyncOptions(max_attempts=1))
    lose_table(path, "statesync_payload")
    with device(path, hub) as (_, here), device(tmp_path / "there.db", hub) as (their_note, there):
        here.sync()
        there.sync()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM statesync_batch WHERE doubt").fetchone() == (0,)
        assert (here.pending(), their_note.get_by_id("k").title) == ([], "old")


def check_that_the_edit_arrives(path: Path, hub: Hub) -> None:
    """Sync, which compares with the hub, and again; another device has the edit of k then."""
    with device(path, hub) as (_, here), device(path.with_name("there.db"), hub) as (their_note, there):
        here.sync()
        here.sync()
        there.sync()
        assert their_note.get_by_id("k").title == "mine"


def test_an_edit_of_which_not_even_the_key_is_left_is_found_by_comparing(tmp_path: Path, hub: Hub) -> None:
    path = tmp_path / "here.db"
    with device(path, hub) as (note, here):
        note.create(id="other", title="other")
        note.create(id="k", title="old")
        here.sync()
        note.update(title="mine").where(note.id == "k").execute()
        here.sync(SyncOptions(sync_type="download_only"))  # so the outbox has it, and the log no more
    lose_table(path, "statesync_change", "sqlite_autoindex_statesync_change_1")
    check_that_the_edit_arrives(path, hub)


def test_an_edit_of_a_lost_log_is_found_by_comparing_where_nobody_knows_what_the_object_is(
    tmp_path: Path, hub: Hub
) -> None:
    path = tmp_path / "here.db"
    with device(path, hub) as (note, here):
        note.create(id="other", title="other")
        note.create(id="k", title="old")
        here.sync()
        note.update(title="mine").where(note.id == "k").execute()
    lose_table(path, "statesync_object", "statesync_log_Note")
    check_that_the_edit_arrives(path, hub)


def test_an_edit_overwrites_nothing_after_the_repair_of_a_cursor_that_no_hub_has_given(
    tmp_path: Path, hub: Hub
) -> None:
    path = tmp_path / "here.db"
    with device(path, hub) as (note, here), device(tmp_path / "there.db", hub) as (their_note, there):
        note.create(id="k", title="old")
        here.sync()
        there.sync()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE statesync_cursor SET cursor = 'many'")
            connection.commit()
    with closing(Store(path)) as store:
        assert [(each.about, each.repair) for each in store.examine()] == [("Note", Repair.REREAD)]
        store.repair()
    with device(path, hub) as (note, here), device(tmp_path / "there.db", hub) as (their_note, there):
        for number in range(5):
            their_note.update(title=f"theirs {number}").execute()
            there.sync()
        note.update(title="mine").execute()
        here.sync()
        (met,) = here.conflicts()
        assert (met.local, met.remote) == ({"title": "mine"}, {"title": "theirs 4"})


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("statesync_sent", "'lost', position, position, revision"),
        ("statesync_settled", "1, position, position, revision"),
    ],
)
def test_a_delete_of_what_the_hub_may_have_goes_up_where_it_is_lost_what_was_sent(
    path: Path, hub: Hub, table: str, row: str
) -> None:
    """A process was killed while the hub had the batch, or when it had taken it.

    A record of it is not new to everybody any more.
    """
    with device(path, hub) as (note, here):
        note.create(id="new", title="new")
        here.defer(note.get_by_id("new"))  # folds
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"INSERT INTO {table} SELECT {row} FROM statesync_change WHERE key = 'new'")
    lose_table(path, table)
    with device(path, hub) as (note, here):
        note.delete_by_id("new")
        assert ("new", "delete") in [(one.key, one.operation) for one in here.pending()]
