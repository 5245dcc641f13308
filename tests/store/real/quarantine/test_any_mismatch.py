"""Whatever rules a table has and whatever comes: Q1 to Q5 of section 2 of the design's second part.

``STATESYNC_SEARCH=224`` before pytest tries some twenty thousand records.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define
from hypothesis import event, given, settings, target
from hypothesis import strategies as st
from rig.device import quick_store
from rig.search import examples

from statesync import Phase, Store
from statesync.hub import Hub, LocalRemote, prepare

from ..sites import Site
from .tables import item, table
from .test_waiting import balance

KEYS = [f"k{number}" for number in range(6)]
VALUES = st.one_of(
    st.none(),
    st.integers(-3, 12),
    st.sampled_from(["a", "A", "b", "a ", "", "5", "05", "x" * 40]),
    st.sampled_from([0.5, 5.0, True]),
)
TYPES = st.sampled_from(["TEXT", "INTEGER", "REAL", "NUMERIC", ""])
LIMITS = st.sampled_from(
    [
        "",
        "UNIQUE",
        "NOT NULL",
        "UNIQUE COLLATE NOCASE",
        "CHECK ({} <> 'a')",
        "CHECK ({} < 8)",
        "NOT NULL UNIQUE",
    ]
)
RULES = st.sampled_from(
    [
        "UNIQUE (title, n)",
        "CHECK (title IS NOT n)",
        "UNIQUE (n) ON CONFLICT REPLACE",
        "UNIQUE (title) ON CONFLICT ROLLBACK",
    ]
)
EXTRAS = st.sampled_from(
    [
        "CREATE UNIQUE INDEX u ON item (lower(title))",
        "CREATE UNIQUE INDEX u ON item (n) WHERE title = 'a'",
        "CREATE TRIGGER mine BEFORE INSERT ON item WHEN NEW.n > 9 BEGIN SELECT RAISE(ABORT, 'no'); END",
        "CREATE TRIGGER mine AFTER UPDATE ON item WHEN NEW.n = 7 BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
        "CREATE TRIGGER mine BEFORE DELETE ON item WHEN OLD.n = 5 BEGIN SELECT RAISE(FAIL, 'no'); END",
        "CREATE TRIGGER mine BEFORE UPDATE ON item WHEN NEW.n = 3 BEGIN SELECT RAISE(IGNORE); END",
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> str:
    def column(name: str) -> str:
        return f"{draw(TYPES)} {draw(LIMITS)}".replace("{}", name)

    rules = draw(st.lists(RULES, max_size=1))
    extras = draw(st.lists(EXTRAS, max_size=2, unique_by=lambda sql: sql.split()[2]))
    return table(column("title"), column("n"), *rules) + "".join(f"{sql};" for sql in extras)


WRITES = st.lists(
    st.tuples(st.sampled_from(KEYS), st.one_of(st.just("delete"), st.tuples(VALUES, VALUES))), max_size=8
)


@define
class Pair:
    """A device that takes everything, and one with rules, in a folder of their own."""

    folder: Path
    hub: Hub
    free: Site
    strict: Site


def opened(folder: Path, hub: Hub, name: str, before: str = "") -> Site:
    with closing(sqlite3.connect(folder / f"{name}.db")) as plain:
        plain.executescript(before)
    store = quick_store(folder / f"{name}.db")
    model = item(store)
    store.setup()
    return Site(store, model, LocalRemote(hub, "space"))


@contextmanager
def pair_with(rules: str) -> Iterator[Pair]:
    """Open the two, and a hub of their own."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder}/hub.db"
        prepare(url)
        hub = Hub(url, without_tokens=True)
        pair = Pair(folder, hub, opened(folder, hub, "free"), opened(folder, hub, "strict", rules))
        try:
            yield pair
        finally:
            pair.free.store.close()
            pair.strict.store.close()
            hub.close()


def write(site: Site, key: str, values: Any) -> None:
    """Make one write, if the table takes it."""
    try:
        if values == "delete":
            site.model.delete_by_id(key)
        elif not site.model.update(title=values[0], n=values[1]).where(site.model.id == key).execute():
            site.model.create(id=key, title=values[0], n=values[1])
    except Exception as error:  # noqa: BLE001 - whatever a rule of the table raises, through Peewee
        event(f"a local write was refused: {type(error).__name__}")
        if site.store.database.in_transaction():
            site.store.database.rollback()


def as_seen(site: Site) -> dict[str, tuple[Any, ...]]:
    """What a table made of its records: numbers as texts and the like are its columns' doing."""
    return {key: tuple(map(str, values)) for key, values in site.rows().items()}


def as_the_table_has_it(site: Site, values: tuple[Any, ...]) -> tuple[str, ...]:
    """What the strict table's columns, without its rules, make of values."""
    types = dict(site.execute("SELECT name, type FROM pragma_table_info('item')"))
    with closing(sqlite3.connect(":memory:")) as plain:
        plain.execute(f"CREATE TABLE t (title {types['title']}, n {types['n']})")
        plain.execute("INSERT INTO t VALUES (?, ?)", values)
        return tuple(map(str, plain.execute("SELECT title, n FROM t").fetchone()))


def still_fits(site: Site, key: str, record: dict[str, Any] | None) -> bool:
    """Whether a record that waits would be taken by its table now, by a plain program."""
    with closing(sqlite3.connect(site.store.database.database, isolation_level=None)) as plain:
        before = plain.execute("SELECT title, n FROM item WHERE id = ?", (key,)).fetchone()
        plain.execute("BEGIN")
        plain.execute("UPDATE statesync_tracking SET is_on = 0")
        try:
            if record is None:
                plain.execute("DELETE FROM item WHERE id = ?", (key,))
                wanted = None
            else:
                wanted = (record["title"], record["n"])
                verb = "UPDATE OR ABORT item SET title = ?, n = ? WHERE id = ?"
                sql = "INSERT OR ABORT INTO item (title, n, id) VALUES (?, ?, ?)" if before is None else verb
                plain.execute(sql, (*wanted, key))
            after = plain.execute("SELECT title, n FROM item WHERE id = ?", (key,)).fetchone()
        except sqlite3.Error:
            return False
        finally:
            if plain.in_transaction:
                plain.execute("ROLLBACK")
        return (after is None) == (wanted is None) and (after != before or after is None)


def check(pair: Pair, result: Any) -> int:
    """Hold the strict device against the free one; return how many records wait."""
    free, strict = pair.free, pair.strict
    assert result.phase is Phase.DONE
    waiting = {one.key: one for one in strict.store.quarantine()}
    here, there = as_seen(strict), free.rows()
    for key in KEYS:
        if key in waiting:  # in the version that the hub has
            record = waiting[key].record
            assert (record and (record["title"], record["n"])) == there.get(key)
            assert not still_fits(strict, key, record), waiting[key]
        elif key in there:  # Q1
            assert here[key] == as_the_table_has_it(strict, there[key])
        else:
            assert key not in here
    assert result.quarantined == len(waiting) == balance(strict)  # Q3
    assert strict.store.pending() == []
    return len(waiting)


@settings(max_examples=examples(5), deadline=None)
@given(
    rules=tables(), rounds=st.lists(st.tuples(WRITES, st.sampled_from([1, 2, 500])), min_size=1, max_size=4)
)
def test_every_record_is_in_its_table_or_waits_and_heals_once_the_rules_are_gone(
    rules: str, rounds: list[tuple[list[tuple[str, Any]], int]]
) -> None:
    with pair_with(rules) as pair:
        mismatches = 0
        for writes, size in rounds:
            for key, values in writes:
                write(pair.free, key, values)
            pair.free.sync()
            mismatches += check(pair, pair.strict.sync(download_batch_size=size))
        target(mismatches)
        heal(pair)


def heal(pair: Pair) -> None:
    """Q5: a migration takes the rules away, and the next session needs no read from the start."""
    pair.strict.store.close()
    again = Store(pair.folder / "strict.db")
    model = item(again)

    def without_rules(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE free (id TEXT NOT NULL PRIMARY KEY, title, n)")
        connection.execute("INSERT INTO free SELECT id, title, n FROM item")
        connection.execute("DROP TABLE item")
        connection.execute("ALTER TABLE free RENAME TO item")

    again.setup(migrations=[without_rules])
    result = again.scope(pair.strict.remote).sync()
    assert result.quarantined == 0
    healed = {row[0]: tuple(map(str, row[1:])) for row in model.select().tuples()}
    assert healed.keys() == pair.free.rows().keys()
    again.close()


@settings(max_examples=examples(3), deadline=None)
@given(
    rules=tables(),
    rounds=st.lists(st.tuples(WRITES, WRITES, st.sampled_from(["client_wins", "server_wins"])), max_size=4),
)
def test_edits_on_both_sides_lose_nothing_and_agree_in_the_end(rules: str, rounds: list[Any]) -> None:
    """An edit of a row whose newer version waits is never taken for an edit of that version."""
    with pair_with(rules) as pair:
        free, strict = pair.free, pair.strict
        for ours, theirs, policy in rounds:
            for key, values in theirs:
                write(free, key, values)
            free.sync(conflict_policy=policy)
            hidden = {one.key: one.version for one in strict.store.quarantine()}
            for key, values in ours:
                write(strict, key, values)
            for change in strict.store.pending():
                assert change.base < hidden.get(change.key, change.base + 1)
            strict.sync(conflict_policy=policy)
            free.sync(conflict_policy=policy)
        for _ in range(3):
            strict.sync(conflict_policy="client_wins")
            free.sync(conflict_policy="client_wins")
        waiting = {one.key: one for one in strict.store.quarantine()}
        pending = {change.key for change in strict.store.pending()}
        here, there = as_seen(strict), free.rows()
        for key in set(KEYS) - pending:
            if key in waiting:
                record = waiting[key].record
                assert (record and (record["title"], record["n"])) == there.get(key)
            elif key in there:
                assert here[key] == as_the_table_has_it(strict, there[key])
            else:
                assert key not in here
        assert len(waiting) == balance(strict)
