"""Taking a change back: its record becomes what it is without it. In a transaction, with tracking off."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from statesync.conflicts import Record
from statesync.errors import UsageError
from statesync.store import bases, local_only, quarantine
from statesync.store.cursors import knowledge
from statesync.store.download.fitting import TransactionLost, attempt
from statesync.store.file.reading import key_for_people
from statesync.store.outbox import changes
from statesync.store.outbox.lookup import Change
from statesync.store.quarantine import Misfit, Reason
from statesync.store.tracking import records
from statesync.store.tracking.images import record_of_image
from statesync.store.tracking.objects import TrackedObject


def make_room(connection: sqlite3.Connection, tracked: TrackedObject, change: Change) -> None:
    """Delete a record that would be in the way: values that must be unique may have moved between some.

    One that a rule of its table holds fast stays; it may not be in the way at all.
    """
    if tracked.uniques:
        deleting = partial(records.delete, connection, tracked, change.key)
        _attempt(connection, tracked, change, deleting)


def undo(connection: sqlite3.Connection, tracked: TrackedObject, change: Change) -> None:
    """Make the record what it is without the change, and forget the change.

    One that was local only before is that again, unless the hub has sent news of it since. News that do not
    fit the table wait in quarantine, and the record becomes what it was before.
    """
    record = change.record_before
    if isinstance(change.key, str):
        local = local_only.among(connection, tracked.name, [change.key]).get(change.key)
        if local is not None and local.here is not None:
            record = local.record_here
        elif local is not None:
            local_only.end(connection, tracked.name, [change.key])
    writing = partial(_write, connection, tracked, change, record)
    reason = _attempt(connection, tracked, change, writing)
    if reason is not None:
        _write_as_before(connection, tracked, change)
        _let_wait(connection, tracked, change, reason)
    changes.forget(connection, change.position)


def _attempt(
    connection: sqlite3.Connection, tracked: TrackedObject, change: Change, write: Callable[[], None]
) -> Reason | None:
    try:
        return attempt(connection, tracked.name, str(change.key), write)
    except TransactionLost as lost:
        _refuse(tracked, change, str(lost), lost)


def _write_as_before(connection: sqlite3.Connection, tracked: TrackedObject, change: Change) -> None:
    try:
        _write(connection, tracked, change, record_of_image(change.image))
    except sqlite3.IntegrityError as error:
        why = f"what it was before does not fit its table any more ({error})"
        _refuse(tracked, change, f"{why}; sync, or change what is in the way", error)


def _refuse(tracked: TrackedObject, change: Change, why: str, cause: Exception) -> NoReturn:
    key = key_for_people(change.key)
    raise UsageError(f"the change of {tracked.name} {key} cannot be taken back: {why}") from cause


def _write(
    connection: sqlite3.Connection, tracked: TrackedObject, change: Change, record: Record | None
) -> None:
    if record is None:
        records.delete(connection, tracked, change.key)
    else:
        records.write(connection, tracked, change.key, tracked.known(record))


def _let_wait(connection: sqlite3.Connection, tracked: TrackedObject, change: Change, reason: Reason) -> None:
    """Put what the hub has sent since into quarantine; nobody knows its version, but it was read."""
    name, key = tracked.name, str(change.key)
    version = change.contested or knowledge.read_until(connection, name, key)
    misfit = Misfit(key, version, _travelling(tracked, change.remote), reason)
    quarantine.hold(connection, name, [misfit], "")
    bases.remember(connection, name, key, max(1, change.base))


def _travelling(tracked: TrackedObject, remote: Record | None) -> bytes | None:
    if remote is None:
        return None
    missing = set(tracked.column_names) - remote.keys()
    return tracked.wire.text(tuple(remote.get(name) for name in tracked.column_names), missing)
