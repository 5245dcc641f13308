"""Writes within writes, whatever triggers a program has: what waits is what became of each record."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peewee import IntegerField, TextField
from rig.device import as_downloaded, quick_store
from rig.search import examples

from .sites import Site
from .test_nested_writes import thing, trigger

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
)
TABLES = {
    "tracked": "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY, name TEXT, number INTEGER, slot TEXT)",
    "untracked": "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY, name TEXT, number INTEGER, slot TEXT)",
    "unique": "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY, name TEXT, number INTEGER, slot TEXT, "
    "UNIQUE (id, slot))",
    "clashing": "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY, name TEXT, number INTEGER UNIQUE, "
    "slot TEXT)",
}
events = st.sampled_from(["INSERT", "UPDATE", "DELETE"])
writing = st.tuples(
    st.sampled_from(["", "TEMP"]), st.sampled_from(["AFTER", "BEFORE"]), events, st.sampled_from(BODIES)
)
passing_over = st.tuples(
    st.sampled_from(["", "TEMP"]),
    st.just("BEFORE"),
    events,
    st.just("SELECT RAISE(IGNORE) WHERE {row}.id = 'b';"),
)
# What becomes of a row that a BEFORE trigger gives another key, SQLite leaves undefined.
renaming = st.tuples(
    st.sampled_from(["", "TEMP"]),
    st.just("AFTER"),
    events,
    st.just("UPDATE OR REPLACE thing SET id = 'c' WHERE id = {row}.id;"),
)
own_triggers = st.lists(st.one_of(writing, writing, writing, passing_over, renaming), min_size=1, max_size=3)
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


@pytest.fixture(scope="module", params=TABLES)
def shelf(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Site]:
    path = tmp_path_factory.mktemp("shelf") / "thing.db"
    with closing(sqlite3.connect(path)) as plain:
        plain.execute(TABLES[request.param])
    with quick_store(path) as store:
        nowhere: Any = None  # nothing is synced here
        if request.param == "tracked":

            class Thing(store.Model):  # type: ignore[name-defined, misc]
                name = TextField(null=True)
                number = IntegerField(null=True)
                slot = TextField(null=True)

            model: Any = Thing
        else:
            model = thing(store)
        store.setup()
        yield Site(store, model, nowhere)


def drop_own(site: Site) -> None:
    both = "SELECT name FROM {}.sqlite_master WHERE type = 'trigger' AND name LIKE 'own%'"
    for (name,) in site.execute(f"{both.format('main')} UNION {both.format('temp')}"):
        site.execute(f"DROP TRIGGER {name}")


@pytest.mark.parametrize("recursive", ["OFF", "ON"])
@settings(max_examples=examples(2, 24), suppress_health_check=list(HealthCheck), deadline=None)
@given(
    known=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["x", "y"])),
    made=own_triggers,
    written=st.lists(keyed, min_size=1, max_size=5),
)
def test_what_waits_is_what_became_of_the_records(
    shelf: Site,
    recursive: str,
    known: dict[str, str],
    made: list[tuple[str, str, str, str]],
    written: list[tuple[tuple[str, tuple[Any, ...]], str]],
) -> None:
    drop_own(shelf)
    shelf.store.clear(discard_pending=True)
    with as_downloaded(shelf.store):
        for number, (key, name) in enumerate(known.items()):
            shelf.model.create(id=key, name=name, number=number)
    before = shelf.rows()
    for number, (temp, time, event, body) in enumerate(made):
        row, is_temp = "OLD" if event == "DELETE" else "NEW", temp if number else ""
        shelf.execute(trigger(f"{time} {event}", body.format(row=row), f"own{number}", is_temp))
    shelf.store.setup()
    shelf.execute(f"PRAGMA recursive_triggers = {recursive}")
    for (statement, given_values), key in written:
        with suppress(Exception):
            shelf.execute(statement, *given_values, key)
    became, waiting = shelf.rows(), shelf.operations()
    gone, new = before.keys() - became.keys(), became.keys() - before.keys()
    assert {key for key, what in waiting.items() if what == "delete"} == gone
    assert {key for key, what in waiting.items() if what == "insert"} == new
    changed = {key for key in before.keys() & became.keys() if before[key] != became[key]}
    assert changed <= {key for key, what in waiting.items() if what == "update"}
    shelf.fold()
    assert shelf.operations() == waiting
    drop_own(shelf)
    shelf.store.rollback()
    assert shelf.rows() == before
