"""The table is described from the table; what cannot be synced is refused in words, with what to do."""

from __future__ import annotations

import datetime
import logging
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from peewee import (
    AutoField,
    BareField,
    CharField,
    DateTimeField,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
    UUIDField,
)
from rig.device import quick_store

from statesync import Store, UnknownObject, UnsupportedModel

from .sites import Site, note

NewSite = Callable[..., Site]


def set_up(path: Path, before: str, define: Callable[[Store], Any]) -> None:
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript(before)
    with quick_store(path) as store:
        define(store)
        store.setup()


def tag(store: Store) -> Any:
    class Tag(Model):
        name = CharField(primary_key=True)
        title = TextField(null=True)

    return store.track(Tag)


# -- generated columns -----------------------------------------------------------------------------

PRICED = (
    "CREATE TABLE item (id TEXT NOT NULL PRIMARY KEY, price INTEGER, count INTEGER, "
    "total INTEGER AS (price * count), shown TEXT AS (price || ' kr') STORED)"
)


def item(store: Store) -> Any:
    class Item(store.Model):  # type: ignore[name-defined, misc]
        price = IntegerField(null=True)
        count = IntegerField(null=True)
        total = BareField(null=True)
        shown = BareField(null=True)

    return Item


def test_generated_columns_neither_travel_nor_are_written(new_site: NewSite) -> None:
    a, b = new_site("a", item, PRICED), new_site("b", item, PRICED)
    a.execute("INSERT INTO item (id, price, count) VALUES ('k', 2, 3)")
    a.sync()
    b.sync()
    assert b.rows() == {"k": (2, 3, 6, "2 kr")}
    b.execute("UPDATE item SET price = 5")
    assert b.operations() == {"k": "update"}
    b.store.rollback()
    assert b.rows() == {"k": (2, 3, 6, "2 kr")}
    b.execute("UPDATE item SET price = 7")
    b.sync()
    a.sync()
    assert a.rows() == {"k": (7, 3, 21, "7 kr")}
    scope = a.store.scope(a.remote)
    assert scope.diagnose().differences == ()
    assert a.store.examine() == []


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (
            "CREATE TABLE real_tag (name TEXT, title TEXT); CREATE VIEW tag AS SELECT * FROM real_tag",
            "a view",
        ),
        ("CREATE VIRTUAL TABLE tag USING fts5 (name, title)", "a virtual table"),
        ("CREATE TABLE tag (name STRING PRIMARY KEY, title TEXT)", "declared STRING"),
        ("CREATE TABLE tag (name UUID PRIMARY KEY, title TEXT)", "declared UUID"),
        ("CREATE TABLE tag (name NUMERIC PRIMARY KEY, title TEXT)", "declared NUMERIC"),
        ("CREATE TABLE tag (name INTEGER PRIMARY KEY, title TEXT)", "declared INTEGER"),
        ("CREATE TABLE tag (name REAL PRIMARY KEY, title TEXT)", "declared REAL"),
        ("CREATE TABLE tag (name TEXT COLLATE NOCASE PRIMARY KEY, title TEXT)", "NOCASE"),
        ("CREATE TABLE tag (name TEXT PRIMARY KEY COLLATE RTRIM, title TEXT)", "RTRIM"),
        ("CREATE TABLE tag (name TEXT, title TEXT, PRIMARY KEY (name COLLATE NOCASE))", "NOCASE"),
        (
            "CREATE TABLE tag (name TEXT COLLATE NOCASE, title TEXT, PRIMARY KEY (name COLLATE BINARY))",
            "without looking at case",
        ),
        ("CREATE TABLE tag (name TEXT, title TEXT)", "does not keep it unique"),
        ("CREATE TABLE tag (name TEXT, title TEXT, PRIMARY KEY (name, title))", "does not keep it unique"),
        ("CREATE TABLE tag (code TEXT PRIMARY KEY, title TEXT)", "no such column"),
        ("CREATE TABLE tag (name TEXT PRIMARY KEY, title TEXT, place TEXT NOT NULL)", "column place"),
    ],
)
def test_a_table_whose_records_cannot_be_kept_is_refused_by_name(
    tmp_path: Path, before: str, said: str
) -> None:
    with pytest.raises(UnsupportedModel, match=said) as refused:
        set_up(tmp_path / "odd.db", before, tag)
    assert "Tag" in str(refused.value)
    assert ";" in str(refused.value)  # what to do stands behind it


def test_a_collation_of_the_programs_own_is_refused(tmp_path: Path) -> None:
    def define(store: Store) -> None:
        database: Any = store.database
        database.register_collation(lambda a, b: (a.lower() > b.lower()) - (a.lower() < b.lower()), "folded")
        database.execute_sql("CREATE TABLE tag (name TEXT COLLATE folded PRIMARY KEY, title TEXT)")
        tag(store)

    with pytest.raises(UnsupportedModel, match="folded"):
        set_up(tmp_path / "own.db", "", define)


@pytest.mark.parametrize("declared", ["TEXT", "VARCHAR(9)", "CHAR", "BLOB", "", "TEXT COLLATE BINARY"])
def test_a_key_that_keeps_texts_is_taken(tmp_path: Path, declared: str) -> None:
    set_up(tmp_path / "fit.db", f"CREATE TABLE tag (name {declared} PRIMARY KEY, title TEXT)", tag)


def test_a_table_in_another_schema_is_refused(tmp_path: Path) -> None:
    with quick_store(tmp_path / "main.db") as store:
        database: Any = store.database
        database.attach(str(tmp_path / "other.db"), "other")
        database.execute_sql("CREATE TABLE other.tag (name TEXT PRIMARY KEY, title TEXT)")
        tag(store)
        with pytest.raises(UnsupportedModel, match="schema 'other'"):
            store.setup()
        with pytest.raises(UnsupportedModel, match="schema 'other'"):

            class Elsewhere(store.Model):  # type: ignore[name-defined, misc]
                class Meta:
                    schema = "other"

        database.execute_sql("CREATE TEMP TABLE tag (name TEXT PRIMARY KEY, title TEXT)")
        with pytest.raises(UnsupportedModel, match="schema 'temp'"):
            store.setup()


def test_a_foreign_key_to_a_key_that_each_device_counts_is_refused(tmp_path: Path) -> None:
    """Ann's note would be Bob's on the other device."""
    with quick_store(tmp_path / "counted.db") as store:

        class Person(Model):
            number = AutoField()

        with pytest.raises(UnsupportedModel, match="counts for itself"):

            class Letter(store.Model):  # type: ignore[name-defined, misc]
                person = ForeignKeyField(Person)

    before = (
        "CREATE TABLE person (number INTEGER PRIMARY KEY); "
        "CREATE TABLE tag (name TEXT PRIMARY KEY, title INTEGER REFERENCES person)"
    )
    with pytest.raises(UnsupportedModel, match=r"Tag\.title names records of person"):
        set_up(tmp_path / "by_hand.db", before, tag)


# -- what does not fit -----------------------------------------------------------------------------


def test_a_column_that_cannot_be_added_is_named_with_the_line_that_adds_it(tmp_path: Path) -> None:
    path = tmp_path / "short.db"
    set_up(path, "", note)
    with quick_store(path) as store:

        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True)
            rating = IntegerField()

        with pytest.raises(UnsupportedModel, match="lacks the column rating") as refused:
            store.setup()
        assert "migrator.add_column('note', 'rating', IntegerField(default=…))" in str(refused.value)


def test_a_model_that_is_made_after_setup_is_set_up_then(new_site: NewSite) -> None:
    a, b = new_site("a", note), new_site("b", note)
    late: dict[str, Any] = {}
    for site in (a, b):

        class Late(site.store.Model):  # type: ignore[name-defined, misc]
            text = TextField()

        late[site.store.database.database] = Late
        tag(site.store)
    first, second = late.values()
    first.create(id="k", text="here")
    a.execute("INSERT INTO tag VALUES ('t', 'tagged')")
    a.sync()
    b.sync()
    assert second.get_by_id("k").text == "here"
    assert b.execute("SELECT * FROM tag") == [("t", "tagged")]


def test_a_model_that_is_made_after_setup_and_does_not_fit_is_not_tracked(new_site: NewSite) -> None:
    a = new_site("a", note)
    a.execute("CREATE TABLE tag (name STRING PRIMARY KEY, title TEXT)")
    with pytest.raises(UnsupportedModel, match="STRING"):
        tag(a.store)
    assert a.store.objects == ("Note",)
    a.store.setup()


# -- tables that went, moved, came back ------------------------------------------------------------


@pytest.fixture
def edited(new_site: NewSite) -> tuple[Site, Site]:
    """Two devices with two records; the first has an edit, a new record and a delete that are only logged."""
    a, b = new_site("a", note), new_site("b", note)
    for key in ("k", "other", "third"):
        a.model.create(id=key, title="1")
    a.sync()
    b.sync()
    a.model.update(title="2").where(a.model.id == "k").execute()
    a.model.create(id="new", title="2")
    a.model.delete_by_id("third")
    return a, b


WAITING = {"k": "update", "new": "insert", "third": "delete"}


def reopened(site: Site, define: Callable[[Store], Any] = note) -> Site:
    """The program starts again."""
    path = site.store.database.database
    site.store.close()
    store = quick_store(path)
    model = define(store)
    store.setup()
    return Site(store, model, site.remote)


@pytest.mark.parametrize(
    "outside",
    [
        "DROP TABLE note",
        "ALTER TABLE note RENAME TO memo",
        "DROP TABLE note; CREATE TABLE note (id TEXT NOT NULL PRIMARY KEY, title TEXT)",
        "CREATE TABLE copied AS SELECT * FROM note; DROP TABLE note; "
        "CREATE TABLE note (id TEXT NOT NULL PRIMARY KEY, title TEXT); INSERT INTO note SELECT * FROM copied",
    ],
)
def test_a_table_that_went_keeps_what_waits_and_is_read_again(
    edited: tuple[Site, Site], outside: str, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = edited
    with a.other_program() as other:
        other.executescript(outside)
    with caplog.at_level(logging.WARNING):
        a = reopened(a)
    assert "note of Note" in caplog.text
    assert a.operations() == WAITING
    a.sync()
    b.sync()
    assert b.rows().keys() >= {"k", "other"}  # nobody has lost a record that was not deleted
    assert "third" not in b.rows()
    assert a.rows()["other"] == ("1",)
    a.store.close()


def test_a_table_that_was_made_anew_with_its_records_loses_nothing_that_was_written_unseen(
    edited: tuple[Site, Site],
) -> None:
    a, b = edited
    a.sync()
    with a.other_program() as other:
        other.executescript(
            "CREATE TABLE fresh (id TEXT NOT NULL PRIMARY KEY, title TEXT); "
            "INSERT INTO fresh SELECT * FROM note; DROP TABLE note; ALTER TABLE fresh RENAME TO note; "
            "INSERT INTO note VALUES ('unseen', '3')"
        )
    a = reopened(a)
    a.sync()
    a.sync()
    b.sync()
    assert b.rows() == a.rows() == {"k": ("2",), "other": ("1",), "new": ("2",), "unseen": ("3",)}
    a.store.close()


def test_a_table_that_is_gone_is_told_of_and_what_waits_of_it_is_kept_without_the_model(
    edited: tuple[Site, Site], caplog: pytest.LogCaptureFixture
) -> None:
    a, _ = edited
    path = a.store.database.database
    a.store.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE note")
    with caplog.at_level(logging.WARNING), Store.open(path) as tool:
        assert "Note has no table note any more" in caplog.text
        assert {change.key: change.operation for change in tool.pending()} == WAITING
        assert [complaint.about for complaint in tool.examine()] == ["Note"]
        tool.scope(a.remote).sync()
        assert {change.key for change in tool.pending()} == WAITING.keys()
    again = reopened(a)
    again.sync()
    assert again.rows().keys() == {"other"}
    again.store.close()


def test_a_table_and_its_model_may_be_renamed_together(edited: tuple[Site, Site]) -> None:
    a, b = edited
    a.execute("ALTER TABLE note RENAME TO memo")
    a.execute("ALTER TABLE memo RENAME COLUMN id TO code")

    def memo(store: Store) -> Any:
        class Note(Model):
            code = CharField(primary_key=True)
            title = TextField(null=True)

            class Meta:
                table_name = "memo"

        return store.track(Note)

    a = reopened(a, memo)
    assert a.operations() == WAITING
    a.sync()
    b.sync()
    assert a.rows() == b.rows() == {"k": ("2",), "other": ("1",), "new": ("2",)}
    a.store.close()


def test_a_renamed_key_column_keeps_no_tool_from_syncing(edited: tuple[Site, Site]) -> None:
    a, b = edited
    a.execute("ALTER TABLE note RENAME COLUMN id TO code")
    path = a.store.database.database
    with pytest.raises(UnsupportedModel, match=r"Note\.id is the key, but the table note has no such column"):
        reopened(a)
    with Store.open(path) as tool:
        tool.scope(a.remote).sync()
    b.sync()
    assert b.rows() == {"k": ("2",), "other": ("1",), "new": ("2",)}


@pytest.mark.parametrize("is_dropped", [False, True])
def test_an_object_can_be_dropped_by_its_name(edited: tuple[Site, Site], is_dropped: bool) -> None:
    a, _ = edited
    path = a.store.database.database
    a.store.close()
    if is_dropped:
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE note")
    with quick_store(Path(path)) as store:
        tag(store)
        store.setup()
        with pytest.raises(UnknownObject, match="Elsewhere"):
            store.drop_object("Elsewhere")
        store.drop_object("Note")
        assert store.objects == ("Tag",)
        assert store.pending() == []
        assert store.examine() == []
    with closing(sqlite3.connect(path)) as other:
        found = other.execute("SELECT name FROM sqlite_master WHERE name LIKE '%note%'").fetchall()
    assert found == []


# -- defaults --------------------------------------------------------------------------------------


def test_a_default_that_is_computed_is_computed_for_each_record(new_site: NewSite) -> None:
    made = iter(range(1000))

    def numbered(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True)
            number = IntegerField(default=lambda: next(made), unique=True)

        return Note

    a, b = new_site("a", note), new_site("b", numbered)
    for key in ("k", "l", "m"):
        a.model.create(id=key, title="1")
    a.sync()
    b.sync()
    numbers = {key: row[1] for key, row in b.rows().items()}
    assert len(set(numbers.values())) == 3
    a.model.update(title="2").execute()
    a.sync()
    b.sync()
    assert {key: row[1] for key, row in b.rows().items()} == numbers
    assert b.store.scope(b.remote).diagnose().differences == ()


def test_a_computed_default_is_no_other_description_each_time(new_site: NewSite) -> None:
    def dated(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            at = DateTimeField(default=datetime.datetime.now)
            code = UUIDField(default=uuid.uuid4)

        return Note

    a = new_site("a", dated)
    first = a.execute("SELECT description FROM statesync_object")
    a = reopened(a, dated)
    assert a.execute("SELECT description FROM statesync_object") == first
    a.store.close()
