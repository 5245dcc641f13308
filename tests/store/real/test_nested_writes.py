"""Writes within writes: a program's own trigger writes a record before the tracking trigger has its turn.

What waits is what became of each record, and what it was is what it was before the outermost write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peewee import ForeignKeyField, IntegerField, TextField
from rig.device import as_downloaded, quick_store
from rig.search import examples

from statesync import Store

from .sites import Site

UNTRACKED = "ALTER TABLE thing ADD COLUMN slot TEXT"
REWRITES = "UPDATE thing SET name = name WHERE id = NEW.id;"
NOTES = "UPDATE thing SET slot = 'seen' WHERE id = NEW.id;"
COUNTS = "UPDATE thing SET number = coalesce(number, 0) + 1 WHERE id = NEW.id;"


def thing(store: Store) -> Any:
    class Thing(store.Model):  # type: ignore[name-defined, misc]
        name = TextField(null=True)
        number = IntegerField(null=True)

    return Thing


def after(event: str, body: str, name: str = "own", temp: str = "") -> str:
    return trigger(f"AFTER {event}", body, name, temp)


def trigger(when: str, body: str, name: str = "own", temp: str = "") -> str:
    return f"CREATE {temp} TRIGGER {name} {when} ON thing BEGIN {body} END"


def give(site: Site, *made: str) -> None:
    """Let a program make triggers, and the store look at its tables."""
    for sql in made:
        site.execute(sql)
    site.store.setup()


@pytest.fixture
def pair(new_site: Callable[..., Site]) -> tuple[Site, Site]:
    """Two devices with the record k; the first has a column that no model knows."""
    a, b = new_site("a", thing), new_site("b", thing)
    a.execute(UNTRACKED)
    a.store.setup()
    a.model.create(id="k", name="x", number=1)
    a.sync()
    b.sync()
    return a, b


# -- an edit that a trigger writes over again --------------------------------------------------------


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("temp", ["", "TEMP"])
@pytest.mark.parametrize("body", [REWRITES, NOTES, REWRITES + NOTES])
def test_an_edit_whose_record_a_trigger_writes_again_reaches_the_others(
    pair: tuple[Site, Site], body: str, temp: str, looked_at: bool
) -> None:
    a, b = pair
    a.execute(after("UPDATE", body, temp=temp))
    if looked_at:
        a.store.setup()
    a.model.update(number=2).execute()
    assert a.operations() == {"k": "update"}
    a.sync()
    b.sync()
    assert b.rows() == {"k": ("x", 2)}


@pytest.mark.parametrize("temp", ["", "TEMP"])
@pytest.mark.parametrize("body", [REWRITES, NOTES, COUNTS])
def test_a_new_record_that_a_trigger_writes_again_reaches_the_others_before_anybody_looks_for_triggers(
    pair: tuple[Site, Site], body: str, temp: str
) -> None:
    a, b = pair
    a.execute(after("INSERT", body, temp=temp))
    a.model.create(id="n", name="new", number=1)
    a.sync()
    b.sync()
    assert b.rows()["n"] == a.rows()["n"]


@pytest.mark.parametrize("body", [REWRITES, NOTES, COUNTS])
def test_a_new_record_that_a_trigger_writes_again_reaches_the_others_and_can_be_taken_back(
    pair: tuple[Site, Site], body: str
) -> None:
    a, b = pair
    give(a, after("INSERT", body))
    a.model.create(id="n", name="new", number=1)
    assert a.operations() == {"n": "insert"}
    a.store.rollback()
    assert a.rows() == {"k": ("x", 1)}
    a.model.create(id="n", name="new", number=1)
    a.sync()
    b.sync()
    assert b.rows()["n"] == a.rows()["n"]


def test_a_rollback_leads_back_to_what_was_before_the_outermost_write(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    give(a, after("UPDATE", COUNTS))
    a.model.update(name="y").execute()
    assert a.rows() == {"k": ("y", 2)}
    a.execute("DROP TRIGGER own")  # else it counts the rollback, too
    a.store.rollback()
    assert a.rows() == {"k": ("x", 1)}


def test_a_conflict_is_held_against_what_was_before_the_outermost_write(pair: tuple[Site, Site]) -> None:
    """Both devices have edited the name; the trigger's own write comes after that on the first."""
    a, b = pair
    give(a, after("UPDATE", COUNTS))
    b.model.update(name="from b").execute()
    b.sync()
    a.model.update(name="from a").execute()
    (conflict,) = a.sync().conflicts
    assert conflict.local == {"name": "from a", "number": 2}
    assert conflict.base == {"name": "x", "number": 1}


# -- records that come and go within a write ----------------------------------------------------------


def test_a_record_that_its_own_insert_removes_is_nothing(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    give(a, after("INSERT", "DELETE FROM thing WHERE id = NEW.id;"))
    a.execute("INSERT INTO thing (id, name) VALUES ('n', 'gone')")
    assert a.operations() == {}
    assert a.errors() == {}


def test_a_record_that_its_own_update_removes_is_deleted_everywhere(pair: tuple[Site, Site]) -> None:
    a, b = pair
    give(a, after("UPDATE", "DELETE FROM thing WHERE id = NEW.id;"))
    a.model.update(number=2).execute()
    assert a.operations() == {"k": "delete"}
    a.sync()
    b.sync()
    assert b.rows() == {}


def test_a_record_that_its_own_delete_brings_back_is_an_update(pair: tuple[Site, Site]) -> None:
    a, b = pair
    give(a, after("DELETE", "INSERT INTO thing (id, name) VALUES (OLD.id, 'again');"))
    a.execute("DELETE FROM thing WHERE id = 'k'")
    assert a.operations() == {"k": "update"}
    a.sync()
    b.sync()
    assert b.rows() == {"k": ("again", None)}


def test_a_parent_of_itself_that_gets_another_key_is_new(tmp_path: Path) -> None:
    """The foreign key's own action writes the record before any trigger has its turn."""
    with quick_store(tmp_path / "tree.db") as store:

        class Node(store.Model):  # type: ignore[name-defined, misc]
            parent = ForeignKeyField("self", null=True, on_update="CASCADE")

        store.setup()
        with as_downloaded(store):
            Node.create(id="k", parent="k")
        Node.update(id="n").execute()
        assert list(Node.select().tuples()) == [("n", "n")]
        assert {each.key: each.operation for each in store.pending()} == {"k": "delete", "n": "insert"}
        store.rollback()
        assert list(Node.select().tuples()) == [("k", "k")]


# -- whatever triggers do ------------------------------------------------------------------------------

KEYS = ("a", "b", "c")
BODIES = (
    "UPDATE thing SET name = name;",
    "UPDATE thing SET name = 'z' WHERE id = {row}.id;",
    "UPDATE thing SET slot = 'z' WHERE id = {row}.id;",
    "UPDATE thing SET number = 2 - number WHERE id = {row}.id;",
    "UPDATE thing SET number = 9 WHERE id <> {row}.id;",
    "DELETE FROM thing WHERE id = {row}.id;",
    "DELETE FROM thing WHERE id = (SELECT max(id) FROM thing);",
    "INSERT OR IGNORE INTO thing (id, name, number) VALUES ({row}.id, 'back', 7);",
    "INSERT INTO thing (id, name) VALUES ({row}.id, 'u') ON CONFLICT (id) DO UPDATE SET name = 'v';",
    "REPLACE INTO thing (id, name, number) VALUES ('a', 'r', 8);",
    "UPDATE thing SET number = 1; UPDATE thing SET number = 2;",
    "UPDATE OR IGNORE thing SET number = 1 WHERE id = {row}.id;",
    "UPDATE OR REPLACE thing SET number = 1 - number WHERE id = 'b';",
    "SELECT RAISE(IGNORE) WHERE {row}.id = 'b';",
    "UPDATE OR REPLACE thing SET id = 'c' WHERE id = {row}.id;",
)
TABLES = {
    "tracked": "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY, name TEXT, number INTEGER, slot TEXT)",
    "untracked": "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY, name TEXT, number INTEGER, slot TEXT)",
    "unique": "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY, name TEXT, number INTEGER, slot TEXT, "
    "UNIQUE (id, slot))",
    "clashing": "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY, name TEXT, number INTEGER UNIQUE, "
    "slot TEXT)",
}
own_triggers = st.lists(
    st.tuples(
        st.sampled_from(["", "TEMP"]),
        st.sampled_from(["AFTER", "AFTER", "BEFORE"]),
        st.sampled_from(["INSERT", "UPDATE", "DELETE"]),
        st.sampled_from(BODIES),
    ),
    min_size=1,
    max_size=3,
)
values = st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 2))
writes = st.one_of(
    st.tuples(
        st.sampled_from(["INSERT OR IGNORE", "REPLACE"]).map(
            lambda verb: f"{verb} INTO thing (name, number, id) VALUES (?, ?, ?)"
        ),
        values,
    ),
    st.tuples(
        st.sampled_from(["", "OR REPLACE", "OR IGNORE"]).map(
            lambda how: f"UPDATE {how} thing SET name = ?, number = ? WHERE id = ?"
        ),
        values,
    ),
    st.tuples(
        st.just(
            "INSERT INTO thing (name, number, id) VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET name = excluded.name"
        ),
        values,
    ),
    st.tuples(st.just("DELETE FROM thing WHERE ? IS NOT ? AND id = ?"), st.just(("x", "y"))),
    st.tuples(st.just("UPDATE OR IGNORE thing SET id = ?, number = ? WHERE id = ?"), st.just(("d", 5))),
)
keyed = st.tuples(writes, st.sampled_from(KEYS))


@contextmanager
def shelf(path: Path, table: str) -> Iterator[Site]:
    with closing(sqlite3.connect(path)) as plain:
        plain.execute(TABLES[table])
    with quick_store(path) as store:
        nowhere: Any = None  # nothing is synced here
        if table == "tracked":

            class Thing(store.Model):  # type: ignore[name-defined, misc]
                name = TextField(null=True)
                number = IntegerField(null=True)
                slot = TextField(null=True)

            model: Any = Thing
        else:
            model = thing(store)
        store.setup()
        yield Site(store, model, nowhere)


@pytest.mark.parametrize("recursive", ["OFF", "ON"])
@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=examples(60), suppress_health_check=list(HealthCheck), deadline=None)
@given(
    known=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["x", "y"])),
    made=own_triggers,
    written=st.lists(keyed, min_size=1, max_size=5),
)
def test_what_waits_is_what_became_of_the_records(
    tmp_path_factory: pytest.TempPathFactory,
    table: str,
    recursive: str,
    known: dict[str, str],
    made: list[tuple[str, str, str, str]],
    written: list[tuple[tuple[str, tuple[Any, ...]], str]],
) -> None:
    with shelf(tmp_path_factory.mktemp("shelf") / "thing.db", table) as site:
        with as_downloaded(site.store):
            for number, (key, name) in enumerate(known.items()):
                site.model.create(id=key, name=name, number=number)
        before = site.rows()
        for number, (temp, time, event, body) in enumerate(made):
            row = "OLD" if event == "DELETE" else "NEW"
            when = f"{time} {event}"
            site.execute(trigger(when, body.format(row=row), f"own{number}", temp if number else ""))
        site.store.setup()
        site.execute(f"PRAGMA recursive_triggers = {recursive}")
        for (statement, given_values), key in written:
            with suppress(Exception):
                site.execute(statement, *given_values, key)
        became, waiting = site.rows(), site.operations()
        gone, new = before.keys() - became.keys(), became.keys() - before.keys()
        assert {key for key, what in waiting.items() if what == "delete"} == gone
        assert {key for key, what in waiting.items() if what == "insert"} == new
        changed = {key for key in before.keys() & became.keys() if before[key] != became[key]}
        assert changed <= {key for key, what in waiting.items() if what == "update"}
        site.fold()
        assert site.operations() == waiting
        for number in range(len(made)):
            site.execute(f"DROP TRIGGER own{number}")
        site.store.rollback()
        assert site.rows() == before
