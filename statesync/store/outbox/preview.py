"""What waits for the hub, as a fold would make it, without a fold: only reads, so it waits for no writer.

The answer is the very same as that of ``fold`` and a look at the outbox. Runs in one snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from attrs import evolve, frozen

from statesync.store import bases, cursors
from statesync.store.outbox.fold import logged
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import quoted
from statesync.values import PendingChange


@frozen
class _Net:
    """One net change. ``place`` orders it among all: by its position, and behind those if it has none yet."""

    place: tuple[int, int]
    change: PendingChange
    has_image: bool
    is_known: bool

    @property
    def is_nothing(self) -> bool:
        """Whether the record was made and deleted here, never sent, and unknown to the hub."""
        return self.change.operation == "delete" and not self.has_image and not self.is_known


class _Logged(NamedTuple):
    """All that was logged of one record."""

    key: str
    first: int
    known: bool
    base: int
    revisions: int
    is_gone: bool


def pending(connection: sqlite3.Connection, objects: Objects) -> list[PendingChange]:
    """Return the net changes of ``objects`` in the order in which the records were first changed."""
    recently = [tracked.name for tracked in logged(connection, objects)]
    found: list[_Net] = []
    for number, (name, tracked) in enumerate(objects.items(), 1):
        found += _net_changes(connection, tracked, number) if name in recently else _kept(connection, name)
    return [net.change for net in sorted(found, key=lambda net: net.place)]


def has_pending(connection: sqlite3.Connection, objects: Objects) -> bool:
    """Tell whether any change of ``objects`` waits; looks no further than at the first, where it can."""
    recently = [tracked.name for tracked in logged(connection, objects)]
    for name, tracked in objects.items():
        if name not in recently:
            found = any(True for _ in _kept(connection, name))
        else:
            found = _has_living(connection, tracked) or bool(_net_changes(connection, tracked, 0))
        if found:
            return True
    return False


def _kept(connection: sqlite3.Connection, name: str) -> Iterator[_Net]:
    """Find the changes that the outbox has of an object."""
    rows = connection.execute(
        "SELECT position, object, key, operation, base, revision, deferred, error, image IS NOT NULL, "
        "batch IS NOT NULL OR theirs IS NOT NULL, contested IS NOT NULL "
        "FROM statesync_change WHERE object = ?",
        (name,),
    )
    for position, of, key, operation, base, revision, deferred, error, has_image, is_known, waits in rows:
        change = PendingChange(of, key, operation, base, revision, bool(deferred), error, bool(waits))
        yield _Net((0, position), change, bool(has_image), bool(is_known))


def _net_changes(connection: sqlite3.Connection, tracked: TrackedObject, number: int) -> list[_Net]:
    """Return the changes of an object that something was logged of; ``number`` is its own among all."""
    found = {net.change.key: net for net in _kept(connection, tracked.name)}
    for record in _log_of(connection, tracked):
        known = found.get(record.key)
        if known is not None:
            found[record.key] = _continued(known, record)
        elif record.revisions:  # without one only an image was kept, for a write that did not follow
            found[record.key] = _begun(tracked.name, record, number)
    return [net for net in found.values() if not net.is_nothing]


def _log_of(connection: sqlite3.Connection, tracked: TrackedObject) -> Iterator[_Logged]:
    key = quoted(tracked.key)
    rows = connection.execute(  # next to min(), SQLite takes a bare column from the row that has the minimum
        f"SELECT logged.key, min(logged.rowid), logged.known, "
        f"CASE WHEN logged.known THEN {bases.base_sql(connection, tracked.name)} ELSE 0 END, "
        f"sum(logged.changed OR now.{key} IS NULL), now.{key} IS NULL "
        f"FROM {quoted(tracked.log)} AS logged "
        f"LEFT JOIN {quoted(tracked.table)} AS now ON now.{key} = logged.key GROUP BY logged.key",
        {"object": tracked.name, "cursor": cursors.position_of(connection, tracked.name)},
    )
    return map(_Logged._make, rows)


def _continued(net: _Net, record: _Logged) -> _Net:
    operation = "delete" if record.is_gone else "update" if net.has_image else "insert"
    revision = net.change.revision + record.revisions
    return evolve(net, change=evolve(net.change, operation=operation, revision=revision))


def _begun(name: str, record: _Logged, number: int) -> _Net:
    operation = "delete" if record.is_gone else "update" if record.known else "insert"
    change = PendingChange(
        name, record.key, operation, record.base, record.revisions, deferred=False, error=None
    )
    return _Net((number, record.first), change, bool(record.known), is_known=False)


def _has_living(connection: sqlite3.Connection, tracked: TrackedObject) -> bool:
    """Tell whether a record was changed that is still there: whatever else was logged, that one waits."""
    key = quoted(tracked.key)
    found = connection.execute(
        f"SELECT 1 FROM {quoted(tracked.log)} AS logged JOIN {quoted(tracked.table)} AS now "
        f"ON now.{key} = logged.key WHERE logged.changed LIMIT 1"
    )
    return found.fetchone() is not None
