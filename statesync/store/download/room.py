"""Making room within a page: unique values that have moved between its records.

Two records have swapped a value, or a whole list of them was shifted: whichever is written first has a value
that another still has. So the old rows of all of them are lifted out, and put back with their new values.
Those that cannot move after all stand where they stood, and with them those that want what these have.

A row is lifted into a table of SQLite's own, with its rowid and all columns, also those that are not tracked.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from statesync.classes import frozen
from statesync.store.download import upserts
from statesync.store.download.fitting import keys_in_the_way
from statesync.store.download.upserts import Row
from statesync.store.quarantine import Reason
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted
from statesync.store.tracking.records import passed_over
from statesync.store.tracking.tables.table import columns_of

_SAVEPOINT = "statesync_room"

Attempt = Callable[[str, Callable[[], None]], Reason | None]
"""Tries to write the record of a key; returns why it does not fit, and has written nothing of it then."""


def write_together(
    connection: sqlite3.Connection, tracked: TrackedObject, rows: Sequence[Row], attempt: Attempt
) -> set[str]:
    """Write rows of (key, *columns) whose unique values are each other's; return the keys that must wait."""
    moving = {str(row[0]): row for row in rows}
    wanted = {key: keys_in_the_way(connection, tracked, row) for key, row in moving.items()}
    staying: set[str] = set()
    while moving := _that_can_move(moving, wanted, staying):
        lift = _Lift(connection, tracked)
        connection.execute(f"SAVEPOINT {_SAVEPOINT}")
        failed = lift.move(moving, attempt)
        if failed:
            connection.execute(f"ROLLBACK TO {_SAVEPOINT}")
        connection.execute(f"RELEASE {_SAVEPOINT}")
        staying |= failed
        if not failed:
            break
    return {str(row[0]) for row in rows} - moving.keys()


def _that_can_move(
    moving: Mapping[str, Row], wanted: Mapping[str, set[str]], staying: set[str]
) -> dict[str, Row]:
    """Leave out the rows that want what somebody has who does not move."""
    stuck = [key for key in moving if key in staying or not wanted[key] <= moving.keys()]
    behind: dict[str, list[str]] = {}
    for key in moving:
        for other in wanted[key]:
            behind.setdefault(other, []).append(key)
    left = dict(moving)
    while stuck:
        if left.pop(key := stuck.pop(), None) is not None:
            stuck += behind.get(key, ())
    return left


@frozen
class _Lift:
    connection: sqlite3.Connection
    tracked: TrackedObject

    def move(self, rows: Mapping[str, Row], attempt: Attempt) -> set[str]:
        """Take the old rows out and put the new ones in; return the keys of those that cannot be."""
        table, key = in_main(self.tracked.table), quoted(self.tracked.key)
        columns = self._columns()
        names = ", ".join(f"{quoted(name)} AS {quoted(name)}" for name in columns)
        self.connection.execute(
            f"CREATE TEMP TABLE statesync_lifted AS SELECT {names} FROM {table} "
            f"WHERE CAST({key} AS TEXT) COLLATE BINARY IN (SELECT value FROM json_each(?))",
            (json.dumps(list(rows)),),
        )
        found = self.connection.execute(f"SELECT CAST({key} AS TEXT) FROM temp.statesync_lifted").fetchall()
        lifted = {str(each) for (each,) in found}
        delete = self.tracked.sql.delete
        failed = {each for each in lifted if attempt(each, partial(self._run, delete, each)) is not None}
        for each, row in rows.items():
            if each not in failed and attempt(each, self._putting(columns, row, each in lifted)) is not None:
                failed.add(each)
        self.connection.execute("DROP TABLE temp.statesync_lifted")
        return failed

    def _run(self, sql: str, *values: object) -> None:
        self.connection.execute(sql, values)

    def _putting(self, columns: Sequence[str], row: Row, is_lifted: bool) -> Callable[[], None]:
        if not is_lifted:
            return lambda: upserts.write_plainly(self.connection, self.tracked, row)
        given = {
            name.lower(): value
            for name, value in zip((self.tracked.key, *self.tracked.column_names), row, strict=True)
            if value is not msgspec.UNSET
        }
        values = [
            f"?{1 + list(given).index(c.lower())}" if c.lower() in given else quoted(c) for c in columns
        ]
        which = is_key(quoted(self.tracked.key), "?1")
        sql = (
            f"INSERT OR ABORT INTO {in_main(self.tracked.table)} ({', '.join(map(quoted, columns))}) "
            f"SELECT {', '.join(values)} FROM temp.statesync_lifted WHERE {which}"
        )
        return lambda: self._put(sql, tuple(given.values()))

    def _put(self, sql: str, values: tuple[object, ...]) -> None:
        if not self.connection.execute(sql, values).rowcount:
            raise passed_over(self.tracked)

    def _columns(self) -> list[str]:
        """Return all that a row is made of: its rowid, if it has one, and every column that is stored."""
        found = columns_of(self.connection, self.tracked.table)
        names = [column.name for column in found if not column.is_generated]
        taken = {column.name.lower() for column in found}
        for rowid in ("rowid", "oid", "_rowid_"):
            if rowid not in taken:
                with suppress(sqlite3.OperationalError):
                    self.connection.execute(f"SELECT {rowid} FROM {in_main(self.tracked.table)} LIMIT 0")
                    return [rowid, *names]
        return names
