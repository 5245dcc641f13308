"""What waits for the hub, as a fold would make it, without a fold: only reads, so it waits for no writer.

The answer is the very same as that of ``fold`` and a look at the outbox. Runs in one snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from attrs import evolve

from statesync.classes import frozen
from statesync.store import local_only
from statesync.store.cursors import knowledge
from statesync.store.file.reading import StoredKey, key_for_people, read
from statesync.store.outbox.fold import logged
from statesync.store.outbox.parking import COLUMNS, Told
from statesync.store.outbox.proof import is_gone, is_write
from statesync.store.outbox.settled import WAITING
from statesync.store.outbox.shared import NEVER_LEFT
from statesync.store.outbox.spared import LEAST_BASE, keys_of_unseen, untold_keys
from statesync.store.tracking import triggers
from statesync.store.tracking.log import KEPT
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted
from statesync.values import PendingChange


@frozen
class _Net:
    """One net change. ``place`` orders it among all: by its position, and behind those if it has none yet."""

    place: tuple[int, int]
    key: StoredKey
    change: PendingChange
    has_image: bool
    has_left: bool
    may_spare: bool
    """Whether columns may be spared: of a change that is not folded yet, or that spares some already."""

    @property
    def is_nothing(self) -> bool:
        """Whether the record was made and deleted here, and is certainly on no hub."""
        return self.change.operation == "delete" and not self.has_left


class _Logged(NamedTuple):
    """All that was logged of one record."""

    key: StoredKey
    first: int
    known: bool
    base: int
    revisions: int
    is_gone: bool


def pending(connection: sqlite3.Connection, objects: Objects) -> list[PendingChange]:
    """Return the net changes of ``objects`` in the order in which the records were first changed."""
    return read(connection, lambda: _pending(connection, objects))


def _pending(connection: sqlite3.Connection, objects: Objects) -> list[PendingChange]:
    recently = [tracked.name for tracked in logged(connection, objects)]
    found: list[_Net] = []
    for number, (name, tracked) in enumerate(objects.items(), 1):
        found += _net_changes(connection, tracked, number) if name in recently else _kept(connection, name)
    return [net.change for net in sorted(found, key=lambda net: net.place)]


def pending_of_record(
    connection: sqlite3.Connection, tracked: TrackedObject, key: str
) -> PendingChange | None:
    """Return the net change of one record, if it has one; takes longer while something is logged of it."""
    return read(connection, lambda: _pending_of_record(connection, tracked, key))


def _pending_of_record(
    connection: sqlite3.Connection, tracked: TrackedObject, key: str
) -> PendingChange | None:
    logged = connection.execute(f"SELECT 1 FROM {in_main(tracked.log)} WHERE key = ? LIMIT 1", (key,))
    is_logged = logged.fetchone() is not None
    found = _net_changes(connection, tracked, 1) if is_logged else _kept(connection, tracked.name, key)
    return next((net.change for net in found if net.key == key), None)


def has_pending(connection: sqlite3.Connection, objects: Objects) -> bool:
    """Tell whether any change of ``objects`` waits; looks no further than at the first, where it can."""
    return read(connection, lambda: _has_pending(connection, objects))


def _has_pending(connection: sqlite3.Connection, objects: Objects) -> bool:
    recently = [tracked.name for tracked in logged(connection, objects)]
    for name, tracked in objects.items():
        if name not in recently:
            found = any(True for _ in _kept(connection, name))
        elif triggers.are_local(connection):
            found = bool(_net_changes(connection, tracked, 0))
        else:
            found = _has_living(connection, tracked) or bool(_net_changes(connection, tracked, 0))
        if found:
            return True
    return False


def _kept(connection: sqlite3.Connection, name: str, key: str | None = None) -> Iterator[_Net]:
    """Find the changes that the outbox has of an object, or of its record with this key."""
    rows = connection.execute(
        "SELECT position, object, key, operation, base, revision, deferred, error, image IS NOT NULL, "
        f"NOT ({NEVER_LEFT}), spared IS NOT NULL, contested IS NOT NULL, {COLUMNS} FROM {WAITING} "
        f"WHERE object = :object {'' if key is None else 'AND key = :key'}",
        {"object": name, "key": key},
    )
    for (
        position,
        of,
        stored_key,
        operation,
        base,
        revision,
        deferred,
        error,
        has_image,
        has_left,
        spares,
        waits,
        *told,
    ) in rows:
        shown, parked = key_for_people(stored_key), Told._make(told).value()
        change = PendingChange(
            of, shown, operation, base, revision, bool(deferred), error, bool(waits), parked
        )
        yield _Net((0, position), stored_key, change, bool(has_image), bool(has_left), bool(spares))


def _net_changes(connection: sqlite3.Connection, tracked: TrackedObject, number: int) -> list[_Net]:
    """Return the changes of an object that something was logged of; ``number`` is its own among all."""
    found = {net.key: net for net in _kept(connection, tracked.name)}
    if triggers.are_local(connection):
        gone = {record.key for record in _log_of(connection, tracked) if record.is_gone}
        return [net for net in found.values() if net.key not in gone or net.change.operation == "delete"]
    unseen = keys_of_unseen(connection, tracked)
    for record in _log_of(connection, tracked):
        key, known = record.key, found.get(record.key)
        if known is not None:
            found[key] = _continued(known, record)
        elif record.revisions:  # without one it was only looked at, for a write that did not follow
            found[key] = _begun(tracked.name, record, number)
        if key in unseen and key in found:
            found[key] = _with_least_base(found[key])
    return [net for net in found.values() if not net.is_nothing]


def _log_of(connection: sqlite3.Connection, tracked: TrackedObject) -> Iterator[_Logged]:
    """Return what was logged of each record: its first row says what it was, its last write what it is."""
    base, gone = knowledge.base_sql(connection, tracked.name).version, is_gone(tracked)
    wrote = is_write(tracked)
    last = f"coalesce(max(CASE WHEN {wrote} THEN 2 * logged.rowid + {gone} END), 0)"
    was = local_only.origin(tracked, exempt=local_only.has_any(connection, tracked.name))
    rows = connection.execute(
        f"SELECT logged.key, min(2 * logged.rowid + ({was.known})), {last}, sum({wrote}), {base} "
        f"FROM {in_main(tracked.log)} AS logged {was.join} "
        f"WHERE {_telling(connection, tracked)} GROUP BY logged.key",
        {"object": tracked.name},
    )
    for key, first, last, revisions, version in rows:
        known = bool(first % 2)
        yield _Logged(key, first // 2, known, version if known else 0, revisions, bool(last % 2))


def _continued(net: _Net, record: _Logged) -> _Net:
    if not record.revisions:
        return net
    operation = "delete" if record.is_gone else "update" if net.has_image else "insert"
    revision = net.change.revision + record.revisions
    # An edit lets go what is parked.
    return evolve(net, change=evolve(net.change, operation=operation, revision=revision, parked=None))


def _begun(name: str, record: _Logged, number: int) -> _Net:
    operation = "delete" if record.is_gone else "update" if record.known else "insert"
    shown = key_for_people(record.key)
    change = PendingChange(name, shown, operation, record.base, record.revisions, deferred=False, error=None)
    known = record.known
    return _Net((number, record.first), record.key, change, known, has_left=known, may_spare=True)


def _with_least_base(net: _Net) -> _Net:
    """Return a change of which a column was written that the device had not read."""
    if not (net.has_image and net.may_spare):
        return net
    return evolve(net, change=evolve(net.change, base=min(net.change.base, LEAST_BASE)))


def _has_living(connection: sqlite3.Connection, tracked: TrackedObject) -> bool:
    """Tell whether a record was changed that is still there: whatever else was logged, that one waits."""
    key = f"now.{quoted(tracked.key)}"
    found = connection.execute(
        f"SELECT 1 FROM {in_main(tracked.log)} AS logged JOIN {in_main(tracked.table)} AS now "
        f"ON {is_key(key, 'logged.key')} WHERE logged.changed > {KEPT} "
        f"AND {_telling(connection, tracked)} LIMIT 1"
    )
    return found.fetchone() is not None


def _telling(connection: sqlite3.Connection, tracked: TrackedObject) -> str:
    """Return the condition on the rows of the log that a fold makes changes of."""
    untold = untold_keys(connection, tracked)
    return "TRUE" if untold is None else f"logged.key NOT IN ({untold})"
