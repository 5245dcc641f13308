"""What waits is told without a write: the same answer as a fold gives, and no waiting for a writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from peewee import CharField, IntegerField, TextField
from rig.device import Device
from rig.search import examples

from statesync import HttpRemote, Scope, Store
from statesync.values import PendingChange

KEYS = ["a", "b", "c", "A"]


@define(eq=False)
class Desk:
    """A store with three objects, and the connection of another program that writes to its file."""

    store: Store
    other: sqlite3.Connection
    scopes: dict[str, Scope]

    def folded(self) -> list[PendingChange]:
        """Return what stands in the outbox after a fold, and take the fold back."""
        database: Any = self.store.database
        with database.atomic() as transaction:
            self.store.mark_for_upload()
            rows = database.execute_sql(
                "SELECT object, key, operation, base, revision, deferred, error FROM statesync_change "
                "ORDER BY position"
            ).fetchall()
            transaction.rollback()
        return [
            PendingChange(name, key, operation, base, revision, bool(deferred), error)
            for name, key, operation, base, revision, deferred, error in rows
        ]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    path = tmp_path_factory.mktemp("pending") / "device.db"
    with Store(path) as store:
        database: Any = store.database
        database.pragma("synchronous", "off", permanent=True)

        class Right(store.Model):  # type: ignore[name-defined, misc]
            name = TextField(null=True)
            code = IntegerField(null=True, unique=True)

        class Left(store.Model):  # type: ignore[name-defined, misc]
            name = TextField(null=True)
            code = IntegerField(null=True)

        class Bare(store.Model):  # type: ignore[name-defined, misc]
            id = CharField(primary_key=True)

        store.setup()
        nobody = HttpRemote("http://127.0.0.1:1", "nowhere")  # nothing is synced here
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA synchronous = OFF")
            scopes = {model.__name__: store.scope(nobody, model) for model in (Right, Left, Bare)}
            yield Desk(store, other, scopes)


keys = st.sampled_from(KEYS)
small = st.integers(0, 3)
objects = st.sampled_from(["Right", "Left", "Bare"])
FOLD = "fold"
LOCAL = "local"
"""What follows is written in a block of untracked()."""

Step = tuple[Any, ...]


def step(statement: str, *values: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(statement), *values)


def of_both(statement: str, *values: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.one_of(step(statement.format("right"), *values), step(statement.format("left"), *values))


CHANGE = "UPDATE statesync_change SET"
SEND = f"{CHANGE} batch = 'w', sent = revision WHERE key = ?"
RELEASE = f"{CHANGE} batch = NULL, sent = NULL"
ACCEPT = "DELETE FROM statesync_change WHERE key = ?"
REPLACE = 'REPLACE INTO "right" (id, name, code) VALUES (?, ?, ?)'
IGNORE = 'INSERT OR IGNORE INTO "right" (id, name, code) VALUES (?, ?, ?)'
DELETE = 'DELETE FROM "right" WHERE id = ?'

writes = st.one_of(
    of_both('INSERT OR IGNORE INTO "{}" (id, name, code) VALUES (?, ?, ?)', keys, small, small),
    of_both('REPLACE INTO "{}" (id, name, code) VALUES (?, ?, ?)', keys, small, small),
    of_both('UPDATE OR IGNORE "{}" SET code = ? WHERE id = ?', small, keys),
    of_both('UPDATE OR REPLACE "{}" SET code = ? WHERE id = ?', small, keys),
    of_both('UPDATE OR REPLACE "{}" SET id = ? WHERE id = ?', keys, keys),
    of_both('DELETE FROM "{}" WHERE id = ?', keys),
    step("REPLACE INTO bare VALUES (?)", keys),
    step("DELETE FROM bare WHERE id = ?", keys),
)
steps = st.one_of(
    writes,
    st.tuples(st.just(LOCAL), st.lists(writes, min_size=1, max_size=4)),
    step(FOLD),
    # What sessions do to the outbox and the cursors.
    step(SEND, keys),
    step(RELEASE),
    step(f"{CHANGE} error = 'x: y', failed_in = 's' WHERE key = ?", keys),
    step(f"{CHANGE} shared = 1 WHERE key = ?", keys),
    step(f"{CHANGE} theirs = 'null' WHERE key = ?", keys),
    step(f"{CHANGE} deferred = NOT deferred WHERE key = ?", keys),
    step(ACCEPT, keys),
    step(
        "REPLACE INTO statesync_cursor (object, space, cursor, filter, rereading, reread_from) VALUES "
        "(?, 's', ?, NULL, NULL, 0)",
        objects,
        small,
    ),
    # What no trigger sees.
    step("UPDATE statesync_tracking SET is_on = 1 - is_on"),
    step("UPDATE OR IGNORE bare SET id = ? WHERE id = ?", keys, keys),
)


@settings(
    max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(history=[(REPLACE, "a", 0, 0), (FOLD,), (SEND, "a"), (DELETE, "a")]).via("the hub may have it")
@example(history=[(REPLACE, "a", 0, 0), (FOLD,), (SEND, "a"), (DELETE, "a"), (FOLD,), (RELEASE,)]).via(
    "it came to nothing later, and no fold has looked since"
)
@example(history=[(REPLACE, "a", 0, 1), (FOLD,), (ACCEPT, "a"), (REPLACE, "b", 0, 1)]).via("replaced")
@example(history=[(REPLACE, "a", 0, 0), (FOLD,), (ACCEPT, "a"), (IGNORE, "a", 0, 0)]).via("never written")
@example(history=[(REPLACE, "a", 0, 0), (LOCAL, [(DELETE, "a")])]).via("nothing is left")
@example(history=[(LOCAL, [(REPLACE, "a", 0, 0)]), (REPLACE, "a", 0, 1)]).via("a new one to the hub")
@example(history=[(LOCAL, [(REPLACE, "a", 0, 0)]), (DELETE, "a")]).via("the hub never had it")
@given(history=st.lists(steps, min_size=1, max_size=25))
def test_what_waits_is_told_as_a_fold_would_make_it(desk: Desk, history: list[Step]) -> None:
    desk.other.execute("UPDATE statesync_tracking SET is_on = 1")
    desk.store.clear(discard_pending=True)
    desk.other.execute("DELETE FROM statesync_cursor")
    for statement, *values in history:
        if statement == FOLD:
            desk.store.mark_for_upload()
        elif statement == LOCAL:
            own: Any = desk.store.database
            with desk.store.untracked():
                for sql, *parameters in values[0]:
                    own.execute_sql(sql, parameters)
                    compare(desk)
        else:
            desk.other.execute(statement, values)
        compare(desk)
    event(f"{len(desk.store.pending())} changes")


def compare(desk: Desk) -> None:
    """Hold what is told to what a fold makes, of all objects and of each."""
    expected = desk.folded()
    assert desk.store.pending() == expected
    assert desk.store.has_pending() == bool(expected)
    for name, scope in desk.scopes.items():
        of_scope = [change for change in expected if change.object == name]
        assert (scope.pending(), scope.has_pending()) == (of_scope, bool(of_scope))


def test_telling_what_waits_writes_nothing(here: Device) -> None:
    here.add(3)
    before = here.execute("SELECT (SELECT count(*) FROM statesync_log_Airport)").fetchone()
    version = here.execute("PRAGMA data_version").fetchone()
    with closing(sqlite3.connect(here.store.database.database)) as other:
        seen = other.execute("PRAGMA data_version").fetchone()
        assert len(here.store.pending()) == 3
        assert here.store.has_pending()
        assert other.execute("PRAGMA data_version").fetchone() == seen
    assert here.execute("SELECT (SELECT count(*) FROM statesync_log_Airport)").fetchone() == before == (3,)
    assert here.execute("PRAGMA data_version").fetchone() == version


@contextmanager
def writing(path: str) -> Iterator[sqlite3.Connection]:
    """Hold the write lock as another program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        other.execute("ROLLBACK")


QUESTIONS: dict[str, Callable[[Store], object]] = {
    "pending": lambda store: [change.key for change in store.pending()],
    "has_pending": lambda store: store.has_pending(),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("in_a_new_thread", [False, True])
def test_asking_what_waits_waits_for_no_writer(tmp_path: Path, question: str, in_a_new_thread: bool) -> None:
    """The store waits for no lock, so an answer that needed one would be ``StoreLocked``."""
    with Store(tmp_path / "device.db", busy_timeout=0) as store:

        class Note(store.Model):  # type: ignore[name-defined, misc]
            text = TextField()

        store.setup()
        Note.create(id="n", text="new")
        with writing(store.database.database) as other:
            other.execute("UPDATE note SET text = 'not committed'")
            if in_a_new_thread:
                with ThreadPoolExecutor(1) as pool:
                    answer = pool.submit(ask_and_leave, store, question).result()
            else:
                answer = QUESTIONS[question](store)
        assert answer in (["n"], True)


def ask_and_leave(store: Store, question: str) -> object:
    try:
        return QUESTIONS[question](store)
    finally:
        store.database.close()


def test_inside_a_transaction_what_it_has_written_waits(here: Device) -> None:
    with here.store.database.atomic() as transaction:
        here.add(1)
        assert here.operations() == {"k00000": "insert"}
        assert here.store.has_pending()
        transaction.rollback()
    assert here.operations() == {}
    assert not here.store.has_pending()


def test_a_deferred_change_waits_and_is_told_by_both(here: Device) -> None:
    here.add(1)
    here.store.defer(here.airport.get_by_id("k00000"))
    assert [(change.key, change.deferred) for change in here.store.pending()] == [("k00000", True)]
    assert here.store.has_pending()
    here.sync()
    assert here.store.has_pending()
    here.store.mark_for_upload(here.airport.get_by_id("k00000"))
    here.sync()
    assert (here.store.pending(), here.store.has_pending()) == ([], False)
