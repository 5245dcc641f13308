"""Records that a table has when it is first tracked are offered to the hub, or stay local only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peewee import Model, TextField
from rig.device import quick_store

from statesync import BadOptions, Store, merge_fields
from statesync.hub import Hub, LocalRemote

from ..sites import Site, note

NewSite = Callable[..., Site]

TABLE = "CREATE TABLE note (id TEXT NOT NULL PRIMARY KEY, title TEXT);"
TWO = f"{TABLE} INSERT INTO note VALUES ('b', '2'), ('a', '1');"


def kept_local(store: Store) -> Any:
    class Note(store.Model):  # type: ignore[name-defined, misc]
        title = TextField(null=True)

    return store.track(Note, existing="local")


@contextmanager
def started(path: Path, hub: Hub, define: Callable[[Store], Any] = note) -> Iterator[Site]:
    """Be the program that is started, once more."""
    with quick_store(path) as store:
        model = define(store)
        store.setup()
        yield Site(store, model, LocalRemote(hub, "space"))


def test_they_are_offered_as_new_in_the_order_of_their_keys(new_site: NewSite) -> None:
    a, b = new_site("a", note, TWO), new_site("b", note)
    told = [(change.key, change.operation, change.base) for change in a.store.pending()]
    assert told == [("a", "insert", 0), ("b", "insert", 0)]
    a.sync()
    b.sync()
    assert a.rows() == b.rows() == {"a": ("1",), "b": ("2",)}
    assert a.store.examine() == []


def test_a_read_from_the_start_that_comes_first_deletes_none_of_them(new_site: NewSite) -> None:
    a = new_site("a", note, TWO)
    a.sync(sync_type="download_only")
    a.execute("UPDATE statesync_cursor SET cursor = 0, rereading = 'horizon'")
    a.sync(sync_type="download_only")
    assert a.rows() == {"a": ("1",), "b": ("2",)}


def test_one_that_is_deleted_before_it_was_offered_is_nothing(new_site: NewSite) -> None:
    a = new_site("a", note, TWO)
    a.model.delete_by_id("a")
    assert a.operations() == {"b": "insert"}


def test_a_key_that_the_hub_has_already_is_an_ordinary_conflict(new_site: NewSite) -> None:
    b, a = new_site("b", note), new_site("a", note, TWO)
    b.model.create(id="a", title="the hub's")
    b.model.create(id="b", title="2")
    b.sync()
    result = a.sync()
    (conflict,) = result.conflicts
    sides = [conflict.base, conflict.local, conflict.remote, conflict.kept]
    assert sides == [None, {"title": "1"}, {"title": "the hub's"}, {"title": "the hub's"}]
    assert a.rows() == {"a": ("the hub's",), "b": ("2",)}


def test_a_policy_may_merge_them_with_the_hubs(new_site: NewSite) -> None:
    def with_size(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True)
            size = TextField(null=True)

        return Note

    sized = "CREATE TABLE note (id TEXT NOT NULL PRIMARY KEY, title TEXT, size TEXT);"
    b, a = (
        new_site("b", with_size),
        new_site("a", with_size, f"{sized} INSERT INTO note VALUES ('a', 't', NULL);"),
    )
    b.model.create(id="a", size="xl")
    b.sync()
    a.sync(conflict_policy=merge_fields)
    b.sync()
    assert a.rows() == b.rows()
    assert a.operations() == {}


def test_nothing_is_offered_twice(tmp_path: Path, hub: Hub, new_site: NewSite) -> None:
    a = new_site("a", note, TWO)
    a.sync()
    a.store.close()
    with started(tmp_path / "a.db", hub) as again:
        again.store.setup()
        assert again.operations() == {}
    with started(tmp_path / "a.db", hub, kept_local) as other:
        assert other.operations() == {}
        other.execute("INSERT INTO note VALUES ('c', '3')")
        assert other.operations() == {"c": "insert"}


def test_a_table_that_gets_another_name_and_its_own_again_is_not_offered_anew(
    tmp_path: Path, hub: Hub, new_site: NewSite
) -> None:
    def renamed(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True)

            class Meta:
                table_name = "remark"

        return Note

    a = new_site("a", note, TWO)
    a.sync()
    a.execute("ALTER TABLE note RENAME TO remark")
    a.store.close()
    with started(tmp_path / "a.db", hub, renamed) as other:
        assert other.operations() == {}
        other.execute("ALTER TABLE remark RENAME TO note")
    with started(tmp_path / "a.db", hub) as again:
        assert again.operations() == {}
        assert again.rows() == {"a": ("1",), "b": ("2",)}


def test_an_object_that_was_dropped_and_comes_again_is_tracked_for_the_first_time(
    tmp_path: Path, hub: Hub, new_site: NewSite
) -> None:
    a = new_site("a", note, TWO)
    a.sync()
    a.store.drop()
    own: Any = a.store.database
    own.connection().executescript(TWO)
    a.store.close()
    with started(tmp_path / "a.db", hub) as again:
        assert again.operations() == {"a": "insert", "b": "insert"}
        assert again.sync().conflicts == ()
        assert again.rows() == {"a": ("1",), "b": ("2",)}


def test_those_that_stay_local_are_never_sent_and_never_deleted(new_site: NewSite) -> None:
    a, b = new_site("a", kept_local, TWO), new_site("b", note)
    b.model.create(id="c", title="3")
    b.sync()
    assert a.operations() == {}
    a.sync()
    a.execute("UPDATE statesync_cursor SET cursor = 0, rereading = 'horizon', reread_from = cursor")
    a.sync()
    b.sync()
    assert a.rows() == {"a": ("1",), "b": ("2",), "c": ("3",)}
    assert b.rows() == {"c": ("3",)}
    found = a.store.scope(a.remote).diagnose()
    assert (found.is_consistent(), found.objects[0].local_only) == (True, 2)


def test_one_that_stayed_local_and_is_edited_goes_up_as_new(new_site: NewSite) -> None:
    a, b = new_site("a", kept_local, TWO), new_site("b", note)
    a.model.update(title="edited").where(a.model.id == "a").execute()
    a.model.delete_by_id("b")
    assert a.operations() == {"a": "insert"}
    a.sync()
    b.sync()
    assert b.rows() == {"a": ("edited",)}


def test_the_hubs_record_of_the_same_key_is_an_ordinary_download(new_site: NewSite) -> None:
    a, b = new_site("a", kept_local, TWO), new_site("b", note)
    b.model.create(id="a", title="the hub's")
    b.sync()
    a.sync()
    assert a.rows() == {"a": ("the hub's",), "b": ("2",)}


def test_a_row_without_a_key_keeps_no_table_from_being_tracked(new_site: NewSite) -> None:
    loose = "CREATE TABLE note (id TEXT PRIMARY KEY, title TEXT);"
    loose += "INSERT INTO note VALUES (NULL, 'x'), ('a', '1');"
    assert new_site("a", note, loose).operations() == {"a": "insert"}
    assert new_site("b", kept_local, loose).operations() == {}


def test_another_word_for_what_becomes_of_them_is_refused_and_nothing_tracked(tmp_path: Path) -> None:
    class Older(Model):
        id = TextField(primary_key=True)

    some: Any = "upload"
    with Store(tmp_path / "a.db") as store:
        with pytest.raises(BadOptions, match="'offer' or 'local'"):
            store.track(Older, existing=some)
        store.setup()
        assert store.objects == ()


def test_a_hundred_thousand_are_offered_by_one_statement(new_site: NewSite) -> None:
    many = (
        f"{TABLE} INSERT INTO note WITH n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100000) "
        "SELECT printf('%06d', x), 't' FROM n;"
    )
    a = new_site("a", note, many)
    assert a.execute("SELECT count(*), min(position), max(position) FROM statesync_change") == [
        (100_000, 1, 100_000)
    ]
    assert a.execute("SELECT count(*) FROM statesync_log_Note") == [(0,)]
