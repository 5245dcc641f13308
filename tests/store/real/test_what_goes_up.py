"""What goes up is what the outbox says: a delete for a delete alone. What cannot be read waits, by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from peewee import IntegerField, TextField

from statesync import Phase, Store, SyncOptions
from statesync.complaints import Repair

from .sites import Site, note


@pytest.fixture
def pair(new_site: Callable[..., Site]) -> tuple[Site, Site]:
    """Two devices with the records k and other, and edits of both that wait on the first."""
    a, b = new_site("a", note), new_site("b", note)
    for key in ("k", "other"):
        a.model.create(id=key, title="1")
    a.sync()
    b.sync()
    a.model.update(title="2").execute()
    return a, b


# -- a record that cannot be found -----------------------------------------------------------------


def held_back(a: Site, b: Site, key: str = "k") -> None:
    """The change of ``key`` waits with its error; everything else has gone up, and nothing was deleted."""
    result = a.sync()
    assert result.phase is Phase.DONE
    (error,) = result.errors.upload
    assert (error.key, error.code) == (key, "record_missing")
    assert "rollback" in error.message
    (change,) = a.store.pending()
    assert (change.key, change.operation) == (key, "update")
    assert change.error is not None
    assert change.error.startswith("record_missing: ")
    b.sync()
    assert b.rows() == {"k": ("1",), "other": ("2",)}


def test_a_record_that_was_deleted_local_only_under_its_change_is_not_deleted_anywhere_else(
    pair: tuple[Site, Site],
) -> None:
    a, b = pair
    a.unseen("DELETE FROM note WHERE id = 'k'")
    held_back(a, b)


def test_a_record_that_a_program_lost_past_the_triggers_is_not_deleted_anywhere_else(
    pair: tuple[Site, Site],
) -> None:
    """Before a fold has looked: the log has the edit, and the table has no record."""
    a, b = pair
    with a.unseen_program() as other:
        other.execute("DELETE FROM note WHERE id = 'k'")
    held_back(a, b)


def test_a_record_that_was_looked_at_by_an_insert_or_ignore_and_then_lost_is_no_change(
    new_site: Callable[..., Site],
) -> None:
    a, b = new_site("a", note), new_site("b", note)
    a.model.create(id="k", title="1")
    a.sync()
    b.sync()
    a.execute("INSERT OR IGNORE INTO note (id, title) VALUES ('k', 'ignored')")
    with a.unseen_program() as other:
        other.execute("DELETE FROM note WHERE id = 'k'")
    assert a.operations() == {}
    assert a.errors() == {}
    b.sync()
    assert b.rows() == {"k": ("1",)}


def test_a_record_that_a_trigger_of_the_programs_deletes_during_a_download_stays_elsewhere(
    pair: tuple[Site, Site],
) -> None:
    a, b = pair
    a.execute("CREATE TRIGGER tidy AFTER INSERT ON note BEGIN DELETE FROM note WHERE id = 'k'; END")
    b.model.create(id="new", title="n")
    b.sync()
    a.sync(sync_type="download_only")
    assert a.operations() == {"k": "update", "other": "update"}
    a.execute("DROP TRIGGER tidy")
    (error,) = a.sync().errors.upload
    assert (error.key, error.code) == ("k", "record_missing")
    b.sync()
    assert b.rows() == {"k": ("1",), "other": ("2",), "new": ("n",)}


def test_a_held_back_change_is_tried_again_in_each_session_and_goes_up_when_its_record_is_back(
    pair: tuple[Site, Site],
) -> None:
    a, b = pair
    a.unseen("DELETE FROM note WHERE id = 'k'")
    assert a.errors() == {"k": "record_missing"}
    assert a.errors() == {"k": "record_missing"}
    a.unseen("INSERT INTO note VALUES ('k', 'back')")
    assert a.errors() == {}
    assert a.operations() == {}
    b.sync()
    assert b.rows()["k"] == ("back",)


def test_a_held_back_change_can_be_taken_back(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.unseen("DELETE FROM note WHERE id = 'k'")
    assert a.errors() == {"k": "record_missing"}
    assert a.store.rollback(a.model(id="k")) == 1
    assert a.rows() == b.rows() | {"other": ("2",)}
    assert a.operations() == {}


def test_a_session_whose_changes_are_all_held_back_is_done(new_site: Callable[..., Site]) -> None:
    a = new_site("a", note)
    for number in range(7):
        a.model.create(id=f"k{number}")
    a.unseen("DELETE FROM note")
    for options in ({}, {"sync_type": "upload_only"}, {"upload_batch_size": 2}):
        result = a.sync(**options)
        assert result.phase is Phase.DONE
        assert {error.code for error in result.errors.upload} == {"record_missing"}
        assert len(result.errors.upload) == 7


def test_a_delete_that_follows_is_a_delete_and_goes_up(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.unseen("DELETE FROM note WHERE id = 'k'")
    a.sync()
    a.model.create(id="k", title="again")
    a.model.delete_by_id("k")
    assert a.errors() == {}
    b.sync()
    assert b.rows() == {"other": ("2",)}


def test_a_delete_goes_up_however_it_was_made(new_site: Callable[..., Site]) -> None:
    def numbered(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True)
            code = IntegerField(unique=True)

        return Note

    a, b = new_site("a", numbered), new_site("b", numbered)
    for number in range(6):
        a.model.create(id=f"k{number}", code=number)
    a.sync()
    b.sync()
    a.model.delete_by_id("k0")
    a.execute("DELETE FROM note WHERE code = 1")
    a.execute("INSERT OR REPLACE INTO note (id, code) VALUES ('new', 2)")
    a.execute("UPDATE OR REPLACE note SET code = 3 WHERE id = 'k4'")
    a.execute("UPDATE note SET id = 'renamed' WHERE id = 'k5'")
    assert a.errors() == {}
    b.sync()
    assert sorted(b.rows()) == ["k4", "new", "renamed"]
    assert b.rows() == a.rows()


def test_a_record_that_vanishes_while_its_edit_is_answered_is_not_deleted(
    pair: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub knows a newer version, and whatever the policy keeps, the record is not there to be kept."""
    a, b = pair
    b.model.update(title="theirs").execute()
    b.sync()
    push = a.remote.push

    def vanish(request: Any) -> Any:
        answer = push(request)
        with a.unseen_program() as other:
            other.execute("DELETE FROM note WHERE id = 'k'")

        return answer

    with monkeypatch.context() as patched:
        patched.setattr(a.remote, "push", vanish)
        result = a.sync(conflict_policy="client_wins", sync_type="upload_only")
    assert {error.key: error.code for error in result.errors.upload} == {"k": "record_missing"}
    assert a.errors() == {"k": "record_missing"}
    b.sync()
    assert b.rows() == {"k": ("theirs",), "other": ("2",)}


def test_an_edit_that_vanishes_behind_an_accepted_one_is_not_made_a_delete(
    pair: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    push = a.remote.push

    def vanish(request: Any) -> Any:
        answer = push(request)
        with a.other_program() as other:
            other.execute("UPDATE note SET title = '3' WHERE id = 'k'")
            other.execute("UPDATE statesync_tracking SET is_on = 0")
            other.execute("DELETE FROM note WHERE id = 'k'")
            other.execute("UPDATE statesync_tracking SET is_on = 1")
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(a.remote, "push", vanish)
        a.sync(sync_type="upload_only")
    assert a.operations() == {"k": "update"}
    assert a.errors() == {"k": "record_missing"}
    b.sync()
    assert b.rows() == {"k": ("2",), "other": ("2",)}


# -- the doctor ------------------------------------------------------------------------------------


def test_the_doctor_says_which_changes_have_lost_their_records_and_makes_no_deletes_of_them(
    pair: tuple[Site, Site],
) -> None:
    a, b = pair
    a.unseen("DELETE FROM note WHERE id = 'k'")
    (complaint,) = a.store.examine()
    assert (complaint.about, complaint.repair) == ("Note", None)
    assert "1 pending changes are of records that cannot be found" in complaint.message
    assert a.store.repair() == [complaint]
    held_back(a, b)


def test_setting_other_changes_right_makes_no_delete_of_a_record_that_is_lost(
    pair: tuple[Site, Site],
) -> None:
    a, b = pair
    a.unseen("DELETE FROM note WHERE id = 'k'")
    a.execute("UPDATE statesync_change SET operation = 'delete' WHERE key = 'other'")
    assert {complaint.repair for complaint in a.store.examine()} == {None, Repair.REFOLD}
    a.store.repair()
    assert a.operations() == {"k": "update", "other": "update"}
    held_back(a, b)


def test_a_damaged_page_with_edited_records_deletes_nothing_elsewhere(
    new_site: Callable[..., Site], tmp_path: Path
) -> None:
    a, b = new_site("a", note), new_site("b", note)
    keys = [f"k{number:05}" for number in range(3000)]
    with a.store.database.atomic():
        for key in keys:
            a.model.create(id=key, title="1")
    a.sync()
    b.sync()
    a.model.update(title="2").where(a.model.id >= "k02000").execute()
    a.store.close()
    _damage_a_leaf(tmp_path / "a.db", "note")
    again = new_site("a", note)
    again.store.repair()
    lost = set(keys) - again.rows().keys()
    assert lost
    again.sync()
    b.sync()
    assert sorted(b.rows()) == keys


def _damage_a_leaf(path: Path, table: str) -> None:
    """Overwrite the last but two leaf of a table."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        leaves = "FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path DESC LIMIT 1 OFFSET 2"
        (page,) = file.execute(f"SELECT pageno {leaves}", (table,)).fetchone()
        (size,) = file.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(b"\xde\xad" * (size // 2))


# -- names -----------------------------------------------------------------------------------------

SHADOWS = {
    "an empty table": "CREATE TEMP TABLE note (id TEXT, title TEXT)",
    "a table of the same key": "CREATE TEMP TABLE note (id TEXT PRIMARY KEY, title TEXT)",
    "a view": "CREATE TEMP VIEW note AS SELECT * FROM main.note WHERE id = 'other'",
}


@pytest.mark.parametrize("shadow", SHADOWS.values(), ids=SHADOWS)
def test_a_temporary_object_of_the_tables_name_is_neither_read_nor_written(
    pair: tuple[Site, Site], shadow: str
) -> None:
    a, b = pair
    a.execute("UPDATE note SET title = '3' WHERE id = 'k'")
    a.execute(shadow)
    before = a.execute("SELECT * FROM temp.note")
    assert a.operations() == {"k": "update", "other": "update"}
    assert a.store.has_pending()
    assert a.store.examine() == []
    assert a.store.scope(a.remote).diagnose().is_consistent()
    a.fold()
    assert a.operations() == {"k": "update", "other": "update"}
    assert a.store.rollback(a.model(id="other")) == 1
    assert a.execute("SELECT title FROM main.note WHERE id = 'other'") == [("1",)]
    if "TABLE" in shadow:
        assert a.execute("SELECT * FROM temp.note") == before
    assert a.errors() == {}
    b.sync()
    assert b.rows() == {"k": ("3",), "other": ("1",)}


@pytest.mark.parametrize("shadow", SHADOWS.values(), ids=SHADOWS)
def test_a_session_neither_reads_nor_writes_a_temporary_object_of_its_own_connection(
    pair: tuple[Site, Site], shadow: str
) -> None:
    """Such as one that a function of SQL has made there."""
    a, b = pair
    b.model.create(id="new", title="n")
    b.model.delete_by_id("other")
    b.sync()
    left: list[object] = []

    def hide(_: object) -> None:
        database: Any = a.store.database
        if not left:
            database._session.execute(shadow)
        left[:] = [database._session.execute("SELECT count(*) FROM temp.note").fetchall()]

    result = a.store.scope(a.remote).sync(SyncOptions(conflict_policy="server_wins"), on_progress=hide)
    assert result.errors.upload == ()
    assert a.rows() == {"k": ("2",), "new": ("n",)}
    assert left == [[(0,)]]
    b.sync()
    assert b.rows() == a.rows()


def test_a_temporary_object_is_not_tracked_in_place_of_the_table(new_site: Callable[..., Site]) -> None:
    a = new_site("a", note)
    a.execute("DROP TRIGGER statesync_Note_insert")
    a.execute("CREATE TEMP TABLE note (id TEXT PRIMARY KEY, title TEXT)")
    a.store.setup()
    a.execute("DROP TABLE temp.note")
    a.model.create(id="k")
    assert a.operations() == {"k": "insert"}


def test_clearing_and_dropping_touch_no_temporary_and_no_attached_table(
    new_site: Callable[..., Site], tmp_path: Path
) -> None:
    a = new_site("a", note)
    a.model.create(id="k")
    a.execute("ATTACH ? AS elsewhere", str(tmp_path / "elsewhere.db"))
    a.execute("CREATE TABLE elsewhere.note (id TEXT PRIMARY KEY, title TEXT)")
    a.execute("CREATE TEMP TABLE note (id TEXT PRIMARY KEY, title TEXT)")
    for schema in ("elsewhere", "temp"):
        a.execute(f"INSERT INTO {schema}.note VALUES ('mine', 'kept')")
    a.store.clear(discard_pending=True)
    assert a.execute("SELECT count(*) FROM main.note") == [(0,)]
    a.store.drop()
    for schema in ("elsewhere", "temp"):
        assert a.execute(f"SELECT * FROM {schema}.note") == [("mine", "kept")]


def test_an_attached_table_of_the_same_name_is_not_synced_in_place_of_a_lost_one(
    pair: tuple[Site, Site], tmp_path: Path
) -> None:
    a, _ = pair
    a.fold()
    a.execute("ATTACH ? AS elsewhere", str(tmp_path / "elsewhere.db"))
    a.execute("CREATE TABLE elsewhere.note (id TEXT PRIMARY KEY, title TEXT)")
    a.execute("INSERT INTO elsewhere.note VALUES ('k', 'not ours')")
    a.execute("DROP TABLE main.note")
    assert {complaint.about for complaint in a.store.examine()} == {"Note"}
    assert a.store.rollback() == 0
    assert a.execute("SELECT * FROM elsewhere.note") == [("k", "not ours")]
