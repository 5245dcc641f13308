"""A page's rows are stored to the byte, and what does not change is not written again."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from rig.search import examples

from statesync.store.download import upserts
from statesync.store.tracking.description import SCALAR, Column
from statesync.store.tracking.objects import TrackedObject

COLUMNS = ("plain", "sorted", "loose", "pair")
THING = TrackedObject("Thing", "Thing", "id", tuple(Column(name, SCALAR) for name in COLUMNS))

# One column whose collation takes A for a, one whose type keeps 1 from 1.0, and an index over two.
SCHEMA = """
CREATE TABLE Thing (id TEXT NOT NULL PRIMARY KEY, plain, sorted TEXT COLLATE NOCASE, loose, pair)
"""
INDEXES = (
    "CREATE INDEX by_sorted ON Thing (sorted)",
    "CREATE INDEX by_loose ON Thing (loose)",
    "CREATE INDEX by_pair ON Thing (pair, plain)",
    "CREATE INDEX by_length ON Thing (length(plain))",
    "CREATE INDEX some_of_loose ON Thing (loose) WHERE plain IS NOT NULL",
    "CREATE INDEX by_key ON Thing (id, sorted)",
)
VALUES: tuple[tuple[Any, ...], ...] = (("long", "longer", None), ("a", "A"), (1, 1.0, "1"), (1, 2, None))
"""Few for each column, so that a record often keeps one that another differs from by a hair."""
Row = tuple[Any, ...]


def stored(connection: sqlite3.Connection) -> dict[str, Row]:
    """Return every record with its values as Python has them: 1 is not 1.0 there either, by its text."""
    rows = connection.execute("SELECT id, plain, sorted, loose, pair FROM Thing").fetchall()
    return {key: tuple(map(repr, values)) for key, *values in rows}


keys = st.sampled_from("abcdefgh")
columns = [st.sampled_from(some) for some in VALUES]
whole_rows = st.lists(st.tuples(keys, *columns), max_size=12)
part_rows = st.lists(
    st.tuples(keys, *[column | st.just(UNSET) for column in columns]),
    max_size=8,
    unique_by=lambda row: row[0],
)


@settings(max_examples=examples(25))
@given(
    pages=st.lists(whole_rows | part_rows, min_size=2, max_size=4),
    chosen=st.sets(st.sampled_from(INDEXES)),
    together=st.integers(1, 5),
)
def test_a_page_is_stored_to_the_byte_and_in_its_order_whatever_is_indexed(
    pages: list[list[Row]], chosen: set[str], together: int
) -> None:
    expected: dict[str, list[Any]] = {}
    with closing(sqlite3.connect(":memory:")) as connection, pytest.MonkeyPatch.context() as patched:
        patched.setattr(upserts, "_TOGETHER", together)
        for statement in (SCHEMA, *sorted(chosen)):
            connection.execute(statement)
        for page in pages:
            upserts.write(connection, THING, page)
            for key, *new in page:
                record = expected.setdefault(key, [None] * 4)
                for at, value in enumerate(new):
                    if value is not UNSET:
                        record[at] = value
            assert stored(connection) == {key: tuple(map(repr, new)) for key, new in expected.items()}


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "things.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(SCHEMA)
        yield connection


def pages_written(connection: sqlite3.Connection, some: list[Row]) -> int:
    """Write rows in a transaction; return how many pages of the database that was."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("BEGIN IMMEDIATE")
    upserts.write(connection, THING, some)
    connection.execute("COMMIT")
    pages: int = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    return pages


def many(count: int) -> list[Row]:
    source = random.Random(0)
    return [
        (f"{source.getrandbits(64):016x}", "x" * 100, f"{source.getrandbits(64):016x}", n, n)
        for n in range(count)
    ]


def test_the_pages_of_an_index_are_not_written_where_its_columns_stay_as_they_are(
    connection: sqlite3.Connection,
) -> None:
    everything = many(20_000)
    pages_written(connection, everything)
    some = everything[::100]
    without = pages_written(connection, [(key, "y" * 100, *rest) for key, _, *rest in some])
    connection.execute("CREATE INDEX by_sorted ON Thing (sorted)")
    assert pages_written(connection, [(key, "z" * 100, *rest) for key, _, *rest in some]) == without
    assert pages_written(connection, [(*row[:2], f"new {row[2]}", *row[3:]) for row in some]) > 1.5 * without


def test_a_trigger_of_the_program_sees_each_record_once(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE INDEX by_sorted ON Thing (sorted)")
    connection.execute("CREATE TABLE Seen (id TEXT, plain TEXT)")
    connection.execute(
        "CREATE TRIGGER note AFTER UPDATE ON Thing BEGIN INSERT INTO Seen VALUES (NEW.id, NEW.plain); END"
    )
    upserts.write(connection, THING, [("a", "one", "x", 1, 1), ("b", "one", "y", 2, 2)])
    upserts.write(connection, THING, [("a", "two", "x", 1, 1), ("b", "two", "other", 2, 2)])
    assert connection.execute("SELECT * FROM Seen").fetchall() == [("a", "two"), ("b", "two")]


def test_a_record_may_take_over_the_unique_value_of_one_that_changes_before_it(
    connection: sqlite3.Connection,
) -> None:
    connection.execute("CREATE UNIQUE INDEX only ON Thing (sorted)")
    upserts.write(connection, THING, [("a", "one", "x", 1, 1)])
    upserts.write(connection, THING, [("a", "one", "y", 1, 1), ("b", "one", "x", 1, 1)])
    assert stored(connection)["b"][1] == "'x'"
