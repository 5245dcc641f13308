"""What waits in the outbox, in the order in which records were first changed. Only reads, and never folds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

from attrs import asdict, evolve

from statesync.classes import frozen
from statesync.store.file.reading import StoredKey, read
from statesync.store.outbox.parking import IS_LET_GO
from statesync.store.outbox.settled import WAITING
from statesync.store.outbox.shared import IS_MERE_OFFER
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted

_READY = f"deferred = 0 AND contested IS NULL AND {IS_LET_GO}"


# The + keeps SQLite from reading, and sorting, all that waits of the object for every batch.
_OF_THESE = "+object IN (SELECT value FROM json_each(:names))"


class Waiting(NamedTuple):
    """One change that waits for the hub."""

    position: int
    object: str
    key: StoredKey
    operation: str
    base: int
    since: int
    revision: int
    is_mere_offer: int
    """Whether nobody made it here, as SQLite says it: it offers again what a restored hub has lost."""


WaitingRow = tuple[int, str, StoredKey, str, int, int, int, int]
"""What a ``Waiting`` is made of: of most batches nobody needs the names."""

Mark = tuple[int, int, int]
"""A change's position, revision and base: one of them moves whenever anything happens to it.

Marks are held against each other as a whole, so they have no names: each would cost as much as its row.
"""


@frozen
class Window:
    """Which changes may go into a batch: at most ``limit`` of those between two positions.

    ``now`` is the wall clock's time: what the hub refused for a time waits for its end.
    """

    after: int
    up_to: int
    limit: int
    now: float
    skip_failed: bool

    def has_bounds_of(self, other: Window) -> bool:
        """Tell whether both are the same, but for the time at which somebody looks."""
        return self == evolve(other, now=self.now)


@frozen
class Run:
    """Inserts and updates of one object that stand side by side, and are alike but for their records.

    Nothing has kept any of them here, none spares a column, and there is no room for another change between
    them, whatever happens meanwhile.
    """

    first: int
    last: int
    object: str
    revision: int
    base: int
    since: int
    is_mere_offer: int

    @property
    def records(self) -> int:
        """How many changes there are."""
        return self.last - self.first + 1


_ALIKE = (
    "position BETWEEN :first AND :last AND revision = :revision AND base = :base AND since = :since "
    f"AND +object = :object AND operation <> 'delete' AND ({IS_MERE_OFFER}) = :is_mere_offer "
    "AND deferred = 0 AND contested IS NULL AND parked IS NULL AND error IS NULL AND spared IS NULL"
)
"""Says of a change that it belongs to a ``Run``; the + as above."""


def last_position(connection: sqlite3.Connection) -> int:
    """Return the position of the last change: a session that starts now uploads up to it."""
    row = connection.execute(f"SELECT max(position) FROM {WAITING}").fetchone()
    return int(row[0] or 0)


def any_waiting(objects: Objects) -> str:
    """Return whether anything waits, or was logged of ``objects``, as a part of a statement."""
    tables = [WAITING, *(in_main(tracked.log) for tracked in objects.values())]
    return " OR ".join(f"EXISTS (SELECT 1 FROM {table})" for table in tables)


def has_waiting(connection: sqlite3.Connection, *, after: int, up_to: int) -> bool:
    """Tell whether any change stands between two positions; needs no transaction."""
    found = connection.execute(
        f"SELECT 1 FROM {WAITING} WHERE position > ? AND position <= ? LIMIT 1", (after, up_to)
    )
    return found.fetchone() is not None


def has_more(
    connection: sqlite3.Connection, names: Iterable[str], *, after: int, up_to: int, now: float
) -> bool:
    """Tell whether a change of these objects waits between two positions."""
    found = connection.execute(
        f"SELECT 1 FROM {WAITING} WHERE position > :after AND position <= :up_to AND {_READY} "
        f"AND {_OF_THESE} LIMIT 1",
        {"after": after, "up_to": up_to, "now": now, "names": json.dumps(list(names))},
    ).fetchone()
    return found is not None


def count_waiting(connection: sqlite3.Connection, names: Iterable[str], now: float) -> int:
    """Return how many changes of these objects a session would send: no deferred, contested, parked ones."""
    row = connection.execute(
        f"SELECT count(*) FROM {WAITING} WHERE {_READY} AND {_OF_THESE}",
        {"now": now, "names": json.dumps(list(names))},
    ).fetchone()
    return int(row[0])


def mark_of_ready(connection: sqlite3.Connection, names: Iterable[str], now: float) -> Mark:
    """Return how many changes a session would send, the last one's position, and all their revisions.

    The same mark twice means that nothing has come, as far as what is ready goes.
    """
    row: Mark = connection.execute(
        f"SELECT count(*), ifnull(max(position), 0), ifnull(sum(revision), 0) FROM {WAITING} "
        f"WHERE {_READY} AND {_OF_THESE}",
        {"now": now, "names": json.dumps(list(names))},
    ).fetchone()
    return row


def count_by_why(connection: sqlite3.Connection, names: Iterable[str]) -> tuple[int, int, int, int]:
    """Return how many changes there are, and how many are in conflict, parked and deferred, each once."""
    row: tuple[int, int, int, int] = connection.execute(
        "SELECT count(*), ifnull(sum(contested IS NOT NULL), 0), "
        "ifnull(sum(contested IS NULL AND parked IS revision), 0), "
        "ifnull(sum(contested IS NULL AND parked IS NOT revision AND deferred), 0) "
        f"FROM {WAITING} WHERE {_OF_THESE}",
        {"names": json.dumps(list(names))},
    ).fetchone()
    return row


def count_pending(connection: sqlite3.Connection, name: str) -> int:
    """Return how many changes of one object wait, deferred ones included."""
    row = connection.execute(f"SELECT count(*) FROM {WAITING} WHERE object = ?", (name,)).fetchone()
    return int(row[0])


def waiting_in(connection: sqlite3.Connection, objects: Objects, window: Window) -> list[WaitingRow]:
    """Return the changes of ``objects`` in the window, in their order."""
    columns = f"position, object, key, operation, base, since, revision, {IS_MERE_OFFER}"
    return read(connection, lambda: _look(connection, objects, window, columns).fetchall())


def marks_in(connection: sqlite3.Connection, objects: Objects, window: Window) -> list[Mark]:
    """Return the marks of the changes of ``objects`` in the window."""
    return _look(connection, objects, window, "position, revision, base").fetchall()


def _look(connection: sqlite3.Connection, objects: Objects, window: Window, columns: str) -> sqlite3.Cursor:
    return connection.execute(
        f"SELECT {columns} FROM {WAITING} WHERE position > :after AND position <= :up_to AND {_READY} "
        f"{'AND error IS NULL ' if window.skip_failed else ''}"
        f"AND {_OF_THESE} ORDER BY position LIMIT :limit",
        {
            "after": window.after,
            "up_to": window.up_to,
            "limit": window.limit,
            "now": window.now,
            "names": json.dumps(list(objects)),
        },
    )


# -- runs ------------------------------------------------------------------------------------------


def run_in(connection: sqlite3.Connection, objects: Objects, window: Window) -> Run | None:
    """Return the run that the window may begin with, if there is one: whoever reads its records finds out."""
    columns = f"position, object, revision, base, since, {IS_MERE_OFFER}"
    found = _look(connection, objects, evolve(window, limit=1), columns).fetchone()
    if found is None:
        return None
    first, *alike = found
    last = min(first + window.limit - 1, window.up_to)
    (there,) = connection.execute(
        f"SELECT max(position) FROM {WAITING} WHERE position <= ?", (last,)
    ).fetchone()
    is_whole = there == last or not has_waiting(connection, after=last, up_to=window.up_to)
    return Run(first, there, *alike) if is_whole else None


def records_of_run(
    connection: sqlite3.Connection, tracked: TrackedObject, run: Run
) -> list[tuple[Any, ...]] | None:
    """Return (key, *columns) of the records of a run, in its order; None if it is none, or one is missing."""
    key = f"now.{quoted(tracked.key)}"
    names = ", ".join(f"now.{quoted(name)}" for name in (tracked.key, *tracked.column_names))
    # Only the subquery can see the columns of the outbox by their bare names: a record may have the same.
    changes = f"(SELECT position, key FROM {WAITING} WHERE {_ALIKE}) AS change"
    sql = (
        f"SELECT {names} FROM {changes} CROSS JOIN {in_main(tracked.table)} AS now "
        f"ON {is_key(key, 'change.key')} ORDER BY change.position"
    )
    rows = read(connection, lambda: connection.execute(sql, asdict(run)).fetchall())
    return rows if len(rows) == run.records else None


def is_still_there(connection: sqlite3.Connection, objects: Objects, window: Window, run: Run) -> bool:
    """Tell whether the window begins with this very run."""
    if run_in(connection, objects, window) != run:
        return False
    alike = connection.execute(f"SELECT count(*) FROM {WAITING} WHERE {_ALIKE}", asdict(run))
    return bool(alike.fetchone()[0] == run.records)


def glance(connection: sqlite3.Connection) -> int:
    """Return a number that is another one as soon as another connection has committed anything."""
    return int(connection.execute("PRAGMA main.data_version").fetchone()[0])
