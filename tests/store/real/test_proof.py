"""A delete is made of what was seen being deleted, and of nothing else: any writes, seen and unseen."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from attrs import define, field
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from peewee import IntegerField, TextField
from rig.search import examples

from statesync import Store

Rows = dict[str, tuple[Any, ...]]

STATEMENTS = {
    "insert": "INSERT INTO item (id, name, code) VALUES (:key, :name, :code)",
    "ignore": "INSERT OR IGNORE INTO item (id, name, code) VALUES (:key, :name, :code)",
    "replace": "INSERT OR REPLACE INTO item (id, name, code) VALUES (:key, :name, :code)",
    "upsert": "INSERT INTO item (id, name, code) VALUES (:key, :name, :code) "
    "ON CONFLICT (id) DO UPDATE SET name = excluded.name, code = excluded.code",
    "edit": "UPDATE item SET name = :name WHERE id = :key",
    "edit_all": "UPDATE item SET name = :name",
    "shove": "UPDATE OR REPLACE item SET code = :code, name = :name WHERE id = :key",
    "rekey": "UPDATE OR REPLACE item SET id = :other, name = :name WHERE id = :key",
    "delete": "DELETE FROM item WHERE id = :key",
    "empty": "DELETE FROM item",
}
keys = st.sampled_from("abcd")
values = st.fixed_dictionaries({"key": keys, "other": keys, "code": st.none() | st.integers(1, 3)})
seen = st.tuples(st.sampled_from(sorted(STATEMENTS)), values, st.just(True))
unseen = st.tuples(st.sampled_from(["delete", "empty", "insert", "rekey"]), values, st.just(False))
Step = tuple[str, dict[str, Any], bool]
fold: st.SearchStrategy[Step] = st.just(("fold", {}, True))


@define
class Witness:
    """Looks at the table around every statement, and so knows what was deleted, and by whom."""

    known: dict[str, bool] = field(factory=dict)
    """By the key of each record that a seen statement has written: whether it was there before the first."""
    deleted: set[str] = field(factory=set)
    """The records that a seen statement has deleted last, and no fold has looked at."""
    waiting: set[str] = field(factory=set)
    """Those of which a fold has made a delete."""

    def look(self, before: Rows, after: Rows) -> None:
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                self.known.setdefault(key, key in before)
                self.waiting.discard(key)
                (self.deleted.discard if key in after else self.deleted.add)(key)

    def fold(self, now: Rows) -> None:
        """A record that is there at a fold is not deleted; one that was made and deleted comes to nothing."""
        gone = self.deleted - now.keys()
        self.waiting |= {key for key in gone if self.known[key]}
        for key in gone - self.waiting:
            del self.known[key]
        self.deleted.clear()

    def deletes(self, now: Rows) -> set[str]:
        """Return the records of which a delete has to go up."""
        return self.waiting | {key for key in self.deleted if self.known[key] and key not in now}


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("proof") / "items.db") as store:
        database: Any = store.database
        database.pragma("synchronous", "off", permanent=True)

        class Item(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()
            code = IntegerField(null=True, unique=True)

        store.setup()
        yield store


def rows(other: sqlite3.Connection) -> Rows:
    return {key: tuple(row) for key, *row in other.execute("SELECT id, name, code FROM item")}


def run(other: sqlite3.Connection, name: str, arguments: dict[str, Any], *, is_seen: bool) -> None:
    other.execute("UPDATE statesync_tracking SET is_on = ?", (is_seen,))
    with suppress(sqlite3.IntegrityError):
        other.execute(STATEMENTS[name], arguments)
    other.execute("UPDATE statesync_tracking SET is_on = 1")


A = {"key": "a", "other": "b", "code": 1}
B = A | {"key": "b"}
C = A | {"key": "c", "code": 3}


@pytest.mark.parametrize("recursive", ["OFF", "ON"])
@settings(
    max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(start={"a": 1}, history=[("edit", A, True), ("delete", A, False)]).via("lost")
@example(start={"a": 1}, history=[("edit", A, True), ("delete", A, True)]).via("deleted")
@example(start={"a": 1}, history=[("delete", A, True), ("insert", A, False)]).via("deleted, and there again")
@example(start={"a": 1}, history=[("ignore", A, True)]).via("in the way of a write that did not follow")
@example(start={"a": 1}, history=[("ignore", A, True), ("delete", A, False)]).via("the same, and lost then")
@example(start={"a": 1}, history=[("ignore", A, True), ("delete", A, False), ("insert", B, True)]).via(
    "the same, lost then, and another one was written"
)
@example(start={"a": 1}, history=[("ignore", B, True), ("delete", A, False), ("insert", B, True)]).via(
    "in the way of a write, lost, and the write was tried again"
)
@example(
    start={"a": 1, "b": 2},
    history=[("ignore", A, True), ("delete", B, True), ("delete", A, False), ("insert", C, True)],
).via("the same, lost then, after a delete and before a write")
@example(start={"a": 1}, history=[("replace", B, True)]).via("replaced")
@example(start={"a": 1}, history=[("edit", A, True), ("delete", A, False), ("replace", B, True)]).via(
    "lost, and another record has its place"
)
@given(
    start=st.dictionaries(keys, st.sampled_from([1, 2, 3]), max_size=3),
    history=st.lists(st.one_of(seen, seen, unseen, fold), max_size=12),
)
def test_a_delete_is_made_of_what_was_seen_being_deleted(
    items: Store, recursive: str, start: dict[str, int], history: list[Step]
) -> None:
    items.clear(discard_pending=True)
    witness = Witness()
    with closing(sqlite3.connect(items.database.database, isolation_level=None)) as other:
        other.execute("PRAGMA synchronous = OFF")
        other.execute(f"PRAGMA recursive_triggers = {recursive}")
        for key, code in start.items():
            run(other, "insert", {"key": key, "name": "before", "code": code}, is_seen=False)
        for number, (name, drawn, is_seen) in enumerate(history):
            arguments = drawn | {"name": f"{number}"}  # so that every write shows
            if name == "fold":
                items.mark_for_upload()
                witness.fold(rows(other))
                continue
            before = rows(other)
            run(other, name, arguments, is_seen=is_seen)
            if is_seen:
                witness.look(before, rows(other))
        expected = witness.deletes(rows(other))
    told = {change.key for change in items.pending() if change.operation == "delete"}
    items.mark_for_upload()
    folded = {change.key for change in items.pending() if change.operation == "delete"}
    assert told == folded == expected
