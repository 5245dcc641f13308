"""Taking a change back: its record becomes what it is without it. In a transaction, with tracking off."""

from __future__ import annotations

import sqlite3
from functools import partial

from statesync.conflicts import Record
from statesync.errors import StoreError, UsageError
from statesync.store import bases, cursors, local_only, quarantine
from statesync.store.download.fitting import TransactionLost, attempt
from statesync.store.file.reading import key_for_people
from statesync.store.outbox import changes
from statesync.store.outbox.lookup import Change
from statesync.store.quarantine import Misfit, Reason
from statesync.store.tracking import records
from statesync.store.tracking.images import record_of_image
from statesync.store.tracking.objects import TrackedObject


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
    try:
        reason = attempt(connection, tracked.name, str(change.key), writing)
    except TransactionLost as lost:
        raise StoreError(str(lost)) from lost
    if reason is not None:
        _write_as_before(connection, tracked, change)
        _let_wait(connection, tracked, change, reason)
    changes.forget(connection, change.position)


def _write_as_before(connection: sqlite3.Connection, tracked: TrackedObject, change: Change) -> None:
    try:
        _write(connection, tracked, change, record_of_image(change.image))
    except sqlite3.IntegrityError as error:
        raise UsageError(
            f"the change of {tracked.name} {key_for_people(change.key)} cannot be taken back: what it "
            f"was before does not fit its table any more ({error}); sync, or change what is in the way"
        ) from error


def _write(
    connection: sqlite3.Connection, tracked: TrackedObject, change: Change, record: Record | None
) -> None:
    if record is None:
        records.delete(connection, tracked, change.key)
    else:
        kept = {name: value for name, value in record.items() if name in tracked.column_names}
        records.write(connection, tracked, change.key, kept)


def _let_wait(connection: sqlite3.Connection, tracked: TrackedObject, change: Change, reason: Reason) -> None:
    """Put what the hub has sent since into quarantine; nobody knows its version, but it was read."""
    name, key = tracked.name, str(change.key)
    version = change.contested or cursors.position_of(connection, name)
    misfit = Misfit(key, version, _travelling(tracked, change.remote), reason)
    quarantine.hold(connection, name, [misfit], "")
    bases.remember(connection, name, key, max(1, change.base))


def _travelling(tracked: TrackedObject, remote: Record | None) -> bytes | None:
    if remote is None:
        return None
    missing = set(tracked.column_names) - remote.keys()
    return tracked.wire.text(tuple(remote.get(name) for name in tracked.column_names), missing)
