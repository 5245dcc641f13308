"""Writing the records of a page, with the indexes left alone whose columns stay as they are.

SQLite takes an entry out of its index and puts it back whenever its column is set, even to the value that it
has. In a large table that is a page more to read, and to write to the log, for each record and index, and
most changes touch no indexed column. So a known record is set without them, as long as that goes well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from statesync.store.file.reading import read
from statesync.store.tracking import records
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, quoted

Row = tuple[object, ...]

_INDEXED = r"""
SELECT part.name, listed."unique" AND listed.origin <> 'pk'
FROM pragma_index_list(:table, 'main') AS listed JOIN pragma_index_info(listed.name, 'main') AS part
WHERE NOT EXISTS (
    SELECT 1 FROM main.sqlite_master
    WHERE type = 'trigger' AND tbl_name = :table COLLATE NOCASE AND name NOT LIKE 'statesync\_%' ESCAPE '\'
)
"""
_TOGETHER = 50
"""Rows that are written at once, and once more as a whole if an indexed column is new in one of them."""


def write(
    connection: sqlite3.Connection, tracked: TrackedObject, rows: Sequence[Row], *, are_whole: bool = False
) -> None:
    """Insert or update rows of (key, *columns). Of two rows with one key the last one stays.

    Where ``are_whole`` none of them misses a column.

    ``UNSET`` is a column that the record's writer did not know: it is left as it is, or gets its default.
    Runs in a transaction. Raises ``sqlite3.IntegrityError`` for a row that its table cannot hold.
    """
    if not rows:
        return
    spared = _spared(connection, tracked)
    parts = {tracked.column_names: rows} if are_whole else _by_columns(tracked, rows)
    for columns, some in parts.items():
        _write_columns(connection, tracked, columns, some, spared)


def changed(connection: sqlite3.Connection, tracked: TrackedObject, rows: Sequence[Row]) -> Sequence[Row]:
    """Return those of some rows in the order of their keys that are not in the table as they are.

    To write one that is there costs as much as to write a new one: a page of the log, and of the file.
    """
    if not rows:
        return rows
    key = quoted(tracked.key)
    names = ", ".join(map(quoted, (tracked.key, *tracked.column_names)))
    sql = (
        f"SELECT {names} FROM {in_main(tracked.table)} "
        f"WHERE {key} COLLATE BINARY >= ? AND {key} COLLATE BINARY <= ?"
    )
    ends = (rows[0][0], rows[-1][0])
    there = {row[0]: row for row in read(connection, lambda: connection.execute(sql, ends).fetchall())}
    return [row for row in rows if not _is_same(there.get(row[0]), row)]


def _is_same(there: Row | None, row: Row) -> bool:
    """Tell whether a row is as another one: a number that is whole is not the same as one with a fraction."""
    return there == row and [type(value) is float for value in row] == [type(v) is float for v in there or ()]


def write_plainly(connection: sqlite3.Connection, tracked: TrackedObject, row: Row) -> None:
    """Insert or update one row of (key, *columns), with all its columns at once. Raises as ``write`` does.

    A known row is updated, and never inserted on the way: a trigger may refuse what is inserted.
    """
    is_known = records.is_there(connection, tracked, str(row[0]))
    for columns, some in _by_columns(tracked, [row]).items():
        if some and columns and is_known:
            if not connection.execute(tracked.sql.update(columns), some[0]).rowcount:
                raise records.passed_over(tracked)
        elif some:
            _write_columns(connection, tracked, columns, some, frozenset())


def _by_columns(tracked: TrackedObject, rows: Sequence[Row]) -> dict[tuple[str, ...], Sequence[Row]]:
    """Part rows by the columns that they have; those of an older program miss some."""
    incomplete = [row for row in rows if msgspec.UNSET in row]
    if not incomplete:
        return {tracked.column_names: rows}
    parts: dict[tuple[str, ...], Sequence[Row]] = {
        tracked.column_names: [row for row in rows if msgspec.UNSET not in row]
    }
    partial: dict[tuple[int, ...], list[Row]] = {}
    for row in incomplete:
        present = tuple(index for index, value in enumerate(row) if value is not msgspec.UNSET)
        partial.setdefault(present, []).append(tuple(row[index] for index in present))
    for present, some in partial.items():
        parts[tuple(tracked.column_names[index - 1] for index in present[1:])] = some
    return parts


def _write_columns(
    connection: sqlite3.Connection,
    tracked: TrackedObject,
    columns: tuple[str, ...],
    rows: Sequence[Row],
    spared: frozenset[str],
) -> None:
    computed = tuple(name for name in tracked.computed if name not in columns)
    if computed:  # a new record whose writer did not know a column gets a value of its own there
        rows = [(*row, *(tracked.computed[name]() for name in computed)) for row in rows]
    done = 0
    if not spared.isdisjoint(columns):
        sparing = tracked.sql.upsert(columns, spared, computed)
        while some := rows[done : done + _TOGETHER]:
            if connection.executemany(sparing, some).rowcount < len(some):
                break
            done += len(some)
    rest, whole = rows[done:], tracked.sql.upsert(columns, computed=computed)
    if rest and connection.executemany(whole, rest).rowcount < len(rest):
        records.refuse_twins(connection, tracked, (str(row[0]) for row in rest))
        if columns:  # a record that is nothing but its key is left alone where it is known
            raise records.passed_over(tracked)


def _spared(connection: sqlite3.Connection, tracked: TrackedObject) -> frozenset[str]:
    """Return the indexed columns, or none where rows have to be written once, and in their order.

    A record may take over the unique value of one that changes before it; a trigger of the program's would
    see a row twice.
    """
    parts = connection.execute(_INDEXED, {"table": tracked.table}).fetchall()
    if any(is_unique for _, is_unique in parts):
        return frozenset()
    return frozenset(name for name, _ in parts)
