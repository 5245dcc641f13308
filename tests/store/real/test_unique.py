"""Unique indexes of any kind: a record that a write makes room for is deleted, and can be brought back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peewee import SQL, IntegerField, TextField
from rig.device import as_downloaded, quick_store
from rig.search import examples

from statesync import Store, UsageError

from .sites import Site

KEYS = ("k1", "k2", "k3", "K1")
TEXTS = (None, "a", "A", "a ", "b", "'")
NUMBERS = (None, 1, 2, -1)
INDEXES = (
    "CREATE UNIQUE INDEX one ON thing (name)",
    "CREATE UNIQUE INDEX one ON thing (name, number)",
    'CREATE UNIQUE INDEX "o)n(e" ON thing (number DESC, name ASC)',
    "CREATE UNIQUE INDEX one ON thing (name COLLATE NOCASE)",
    "CREATE UNIQUE INDEX one ON thing (name COLLATE RTRIM, number)",
    "CREATE UNIQUE INDEX one ON thing (name) WHERE number > 1",
    "CREATE UNIQUE INDEX one ON thing (number) WHERE name IS NOT NULL AND name <> 'b'",
    "CREATE UNIQUE INDEX one ON thing (lower(name))",
    "CREATE UNIQUE INDEX one ON thing (abs(number), trim(name) COLLATE NOCASE) WHERE (number) IN (1, 2, -1)",
    "CREATE UNIQUE INDEX one ON thing (coalesce(name, 'a, (b'), number /* a ( comment */ + 1)",
    'CREATE UNIQUE INDEX one ON thing ([name] || "number" -- what they say\n, number)',
    "CREATE UNIQUE INDEX one ON thing (folded)",
    "CREATE UNIQUE INDEX one ON thing (folded || local)",
    "CREATE UNIQUE INDEX one ON thing (id COLLATE NOCASE)",
    "CREATE UNIQUE INDEX one ON thing (substr(id, 2))",
)
TABLE = (
    "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY, name TEXT, number INTEGER, "
    "local TEXT DEFAULT 'mine', folded TEXT AS (upper(name)))"
)

rows = st.tuples(st.sampled_from(KEYS), st.sampled_from(TEXTS), st.sampled_from(NUMBERS))
insert = st.tuples(
    st.sampled_from(["INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE"]).map(
        lambda verb: f"{verb} INTO thing (id, name, number) VALUES (?, ?, ?)"
    ),
    rows,
)
update = st.tuples(
    st.sampled_from(
        [
            "UPDATE OR REPLACE thing SET name = ?, number = ? WHERE id = ?",
            "UPDATE OR IGNORE thing SET name = ?, number = ? WHERE id = ?",
        ]
    ),
    rows.map(lambda row: (row[1], row[2], row[0])),
)
rekey = st.tuples(
    st.just("UPDATE OR REPLACE thing SET id = ? WHERE id = ?"),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)),
)
delete = st.tuples(st.just("DELETE FROM thing WHERE id = ?"), st.tuples(st.sampled_from(KEYS)))
statements = st.one_of(insert, insert, update, rekey, delete)


def thing(store: Store) -> Any:
    class Thing(store.Model):  # type: ignore[name-defined, misc]
        name = TextField(null=True)
        number = IntegerField(null=True)

    return Thing


@contextmanager
def shelf(path: Path, index: str) -> Iterator[Site]:
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript(f"{TABLE};{index};")
    with quick_store(path) as store:
        model = thing(store)
        store.setup()
        nowhere: Any = None  # nothing is synced here
        yield Site(store, model, nowhere)


@pytest.mark.parametrize("index", INDEXES)
@settings(max_examples=examples(3, 30), suppress_health_check=list(HealthCheck), deadline=None)
@given(known=st.lists(rows, max_size=3), written=st.lists(statements, min_size=1, max_size=6))
def test_what_waits_is_what_became_of_the_records(
    tmp_path_factory: pytest.TempPathFactory,
    index: str,
    known: list[tuple[Any, ...]],
    written: list[tuple[str, tuple[Any, ...]]],
) -> None:
    with shelf(tmp_path_factory.mktemp("shelf") / "thing.db", index) as site:
        with as_downloaded(site.store):
            for row in known:
                site.execute("INSERT OR IGNORE INTO thing (id, name, number) VALUES (?, ?, ?)", *row)
        before = site.rows()
        for statement, values in written:
            site.execute(statement, *values)
        after, waiting = site.rows(), site.operations()
        gone, new = before.keys() - after.keys(), after.keys() - before.keys()
        assert {key for key, what in waiting.items() if what == "delete"} == gone
        assert {key for key, what in waiting.items() if what == "insert"} == new
        changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
        assert changed <= {key for key, what in waiting.items() if what == "update"}
        site.store.rollback()
        assert site.rows() == before


def test_indexes_that_no_field_tells_of_are_known(tmp_path: Path) -> None:
    """``Model.add_index`` and ``Meta.constraints``, as Peewee makes them."""
    with quick_store(tmp_path / "made.db") as store:

        class Seat(store.Model):  # type: ignore[name-defined, misc]
            hall = TextField()
            place = TextField()
            number = IntegerField()

            class Meta:
                constraints = (SQL("UNIQUE (hall, number)"),)

        Seat.add_index(Seat.index(Seat.place, unique=True, where=Seat.number > 0))
        store.setup()
        with as_downloaded(store):
            Seat.create(id="a", hall="h", place="p", number=1)
        Seat.replace(id="b", hall="h", place="q", number=1).execute()
        assert {c.key: c.operation for c in store.pending()} == {"a": "delete", "b": "insert"}
        Seat.replace(id="c", hall="g", place="q", number=2).execute()
        assert {c.key: c.operation for c in store.pending()} == {"a": "delete", "c": "insert"}


def test_an_index_that_is_made_later_is_known_to_the_next_session(new_site: Any) -> None:
    a, b = new_site("a", thing), new_site("b", thing)
    a.model.create(id="k1", name="a")
    a.sync()
    b.sync()
    a.execute("CREATE UNIQUE INDEX late ON thing (lower(name))")
    a.sync()
    a.execute("REPLACE INTO thing (id, name) VALUES ('k2', 'A')")
    assert a.operations() == {"k1": "delete", "k2": "insert"}
    a.sync()
    b.sync()
    assert b.rows() == {"k2": ("A", None)}


def test_a_rollback_that_would_need_the_value_of_another_record_is_refused_and_changes_nothing(
    new_site: Any,
) -> None:
    """The two have changed names, and one of them has gone up since."""
    a = new_site("a", thing)
    a.execute("CREATE UNIQUE INDEX one ON thing (name)")
    for key, name in (("k1", "a"), ("k2", "b")):
        a.model.create(id=key, name=name)
    a.sync()
    for key, name in (("k1", "on the way"), ("k2", "a"), ("k1", "b")):
        a.execute("UPDATE thing SET name = ? WHERE id = ?", name, key)
    a.store.defer(a.model.get_by_id("k1"))
    a.sync()
    before = a.rows(), a.store.pending()
    assert a.operations() == {"k1": "update"}
    with pytest.raises(UsageError, match="Thing k1 cannot be taken back"):
        a.store.rollback()
    assert (a.rows(), a.store.pending()) == before


TEXT_KEY = "id TEXT NOT NULL PRIMARY KEY"
OWN_TRIGGER = (
    "CREATE TRIGGER own AFTER UPDATE ON item WHEN NEW.code = 7 "
    "BEGIN UPDATE item SET code = 8 WHERE id = NEW.id; END"
)


@pytest.mark.crossed
@pytest.mark.parametrize("own", ["", OWN_TRIGGER], ids=["plain", "nested"])
@pytest.mark.parametrize(
    ("columns", "write"),
    [
        (
            "number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT, code INTEGER",
            "REPLACE INTO item (number, id) SELECT number, 'c' FROM item WHERE id = 'a'",
        ),
        (
            "number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT, code INTEGER",
            "UPDATE OR REPLACE item SET number = (SELECT number FROM item WHERE id = 'a') WHERE id = 'b'",
        ),
        (
            f"{TEXT_KEY}, name TEXT NOT NULL DEFAULT 'one' UNIQUE, code INTEGER",
            "REPLACE INTO item (id) VALUES ('c')",
        ),
        (
            f'{TEXT_KEY}, name TEXT NOT NULL DEFAULT "one" UNIQUE, code INTEGER',
            "REPLACE INTO item (id, name) VALUES ('c', NULL)",
        ),
        (
            f"{TEXT_KEY}, name TEXT NOT NULL ON CONFLICT REPLACE DEFAULT ('one') "
            "UNIQUE ON CONFLICT REPLACE, code INTEGER",
            "UPDATE item SET name = NULL WHERE id = 'b'",
        ),
        (
            f"{TEXT_KEY}, name TEXT, code INTEGER NOT NULL DEFAULT '1' UNIQUE",
            "UPDATE OR REPLACE item SET code = NULL WHERE id = 'b'",
        ),
        (
            f"{TEXT_KEY}, name TEXT NOT NULL DEFAULT 'one', code INTEGER); "
            "CREATE UNIQUE INDEX some ON item (upper(name)",
            "REPLACE INTO item (id, name) VALUES ('c', NULL)",
        ),
        (
            f"{TEXT_KEY}, name TEXT NOT NULL DEFAULT 'one', code INTEGER NOT NULL DEFAULT 1); "
            "CREATE UNIQUE INDEX some ON item (name) WHERE (code = '1'",
            "REPLACE INTO item (id, name, code) VALUES ('c', 'one', 1)",
        ),
        (
            "id TEXT NOT NULL PRIMARY KEY DEFAULT 'a', name TEXT, code INTEGER",
            "REPLACE INTO item (id, name) VALUES (NULL, 'three')",
        ),
    ],
)
def test_what_a_write_replaces_is_seen_whatever_it_had_in_common(
    tmp_path: Path, columns: str, write: str, own: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "item.db", isolation_level=None)) as other:
        other.executescript(f"CREATE TABLE item ({columns}); {own}")
        with quick_store(tmp_path / "item.db") as store:

            class Item(store.Model):  # type: ignore[name-defined, misc]
                name = TextField(null=True)
                code = IntegerField(null=True)

            store.setup()
            with as_downloaded(store):
                Item.create(id="a", name="one", code=1)
                Item.create(id="b", name="two", code=2)
            other.execute(write)
            left = {key for (key,) in other.execute("SELECT id FROM item")}
            told = {change.key: change.operation for change in store.pending()}
            assert {key for key, operation in told.items() if operation == "delete"} == {"a", "b"} - left
            assert {key for key, operation in told.items() if operation == "insert"} == left - {"a", "b"}
            store.rollback()
            rows = set(other.execute("SELECT id, name, code FROM item"))
            assert rows == {("a", "one", 1), ("b", "two", 2)}
