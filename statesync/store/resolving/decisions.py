"""What the program decides of a conflict: one that waits is settled, the loser of a logged one comes back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NoReturn

from attrs import evolve

from statesync.conflicts import Record
from statesync.errors import UsageError
from statesync.store import conflict_log
from statesync.store.outbox import lookup
from statesync.store.outbox.lookup import Change
from statesync.store.resolving.asking import whole
from statesync.store.resolving.keeping import note_settled, settle, write
from statesync.store.resolving.rows import RowForm, record_here
from statesync.store.tracking.images import record_of_image
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.values import ConflictEntry

LOCAL, REMOTE = "local", "remote"

Choice = object
"""``"local"``, ``"remote"``, or values: an instance of the model, or a mapping from fields to values."""


# -- what waits ------------------------------------------------------------------------------------


def waiting(connection: sqlite3.Connection, objects: Objects, limit: int) -> list[ConflictEntry]:
    """Return the newest conflicts that wait, oldest first, with their sides as they are now. Only reads."""
    found = conflict_log.entries(connection, objects=objects, waiting=True, limit=limit)
    looked = (_as_it_is(connection, objects[entry.object], entry) for entry in found)
    return [entry for entry in looked if entry is not None]


def _as_it_is(
    connection: sqlite3.Connection, tracked: TrackedObject, entry: ConflictEntry
) -> ConflictEntry | None:
    change = contested(connection, entry.object, entry.key)
    if change is None:
        return None
    local = _ours(connection, tracked, entry, change.remote)
    return evolve(entry, base=record_of_image(change.image), local=local, remote=change.remote)


def contested(connection: sqlite3.Connection, name: str, key: str) -> Change | None:
    """Return a record's change if it waits for a decision, else None."""
    found = lookup.changes_of_record(connection, name, key)
    return next((change for change in found if change.contested is not None), None)


def find(
    connection: sqlite3.Connection, objects: Iterable[str], conflict: ConflictEntry | int
) -> ConflictEntry:
    """Return a conflict as the log has it now. Raises ``UsageError`` where it has none of these objects."""
    number = conflict.id if isinstance(conflict, ConflictEntry) else conflict
    entry = conflict_log.find(connection, number)
    if entry is None or entry.object not in objects:
        raise UsageError(f"there is no conflict {number}; conflicts() and conflicts(waiting=True) list them")
    if isinstance(conflict, ConflictEntry) and conflict.waiting and not entry.waiting:
        raise UsageError(f"the conflict of {entry.object} {entry.key} has been resolved already")
    return entry


# -- settling one that waits -----------------------------------------------------------------------


def decide(connection: sqlite3.Connection, form: RowForm, entry: ConflictEntry, choice: Choice) -> None:
    """Settle a conflict that waits, in a transaction that has folded, untracked. Raises ``UsageError``."""
    change = contested(connection, entry.object, entry.key)
    if change is None or change.contested is None:
        raise UsageError(f"the change of {entry.object} {entry.key} does not wait any more")
    local = _ours(connection, form.tracked, entry, change.remote)
    if choice == LOCAL and local is None:
        _refuse_lost(connection, entry)
    kept = _chosen(connection, form, entry.key, choice, local, change.remote)
    try:
        settle(connection, form.tracked, change, change.contested, kept)
    except sqlite3.IntegrityError as error:
        _refuse_unfit(entry, error)


def _ours(
    connection: sqlite3.Connection, tracked: TrackedObject, entry: ConflictEntry, remote: Record | None
) -> Record | None:
    """Return our side; columns that this device has only filled in are as the hub has them."""
    local = record_here(connection, tracked, entry.key)
    if local is None or remote is None:
        return local
    spared = lookup.spared_columns(connection, entry.object).get(entry.key, frozenset())
    return {**local, **{column: remote[column] for column in spared & remote.keys() & local.keys()}}


def _refuse_lost(connection: sqlite3.Connection, entry: ConflictEntry) -> None:
    """Refuse to keep what is not here, unless it was deleted: what is lost must not go up as a delete."""
    change = lookup.version_of(connection, entry.object, entry.key)
    if change is None or change.operation != "delete":
        raise UsageError(
            f"{entry.object} {entry.key} is not here any more, and nobody has deleted it: so nothing is "
            "local that could be kept; resolve the conflict by 'remote' or by values"
        )


def take_back(connection: sqlite3.Connection, tracked: TrackedObject, change: Change) -> None:
    """Settle a conflict for the hub, because its change is rolled back; the caller writes the record."""
    if change.contested is not None:
        local = record_here(connection, tracked, str(change.key))
        note_settled(connection, change, change.contested, local, change.remote)


def _chosen(
    connection: sqlite3.Connection,
    form: RowForm,
    key: str,
    choice: Choice,
    local: Record | None,
    remote: Record | None,
) -> Record | None:
    if choice == LOCAL:
        return local
    if choice == REMOTE:
        return remote
    return whole(_values(connection, form, key, choice), local, remote)


# -- bringing back what a logged one has lost ------------------------------------------------------


def bring_back(connection: sqlite3.Connection, form: RowForm, entry: ConflictEntry, choice: Choice) -> None:
    """Write a side of a logged conflict, as an ordinary edit of the record as it is now.

    Fields that were not at stake stay as they are now. In a transaction, tracked. Raises ``UsageError``.
    """
    now = record_here(connection, form.tracked, entry.key)
    if now is None and entry.kept is not None:
        raise UsageError(
            f"{entry.object} {entry.key} was deleted after its conflict; to have it again, create it anew"
        )
    wanted = _wanted(connection, form, entry, choice, now)
    if wanted == now:
        raise UsageError(f"{entry.object} {entry.key} is like that already: there is nothing to bring back")
    try:
        write(connection, form.tracked, entry.key, wanted)
    except sqlite3.IntegrityError as error:
        _refuse_unfit(entry, error)


def _wanted(
    connection: sqlite3.Connection, form: RowForm, entry: ConflictEntry, choice: Choice, now: Record | None
) -> Record | None:
    if choice not in (LOCAL, REMOTE):
        return {**(now or {}), **_values(connection, form, entry.key, choice)}
    side = entry.local if choice == LOCAL else entry.remote
    if side is None:
        return None
    known = form.tracked.known(side)
    if now is None or entry.kept is None:
        return {**(now or {}), **known}
    lost = {column: value for column, value in known.items() if entry.kept.get(column) != value}
    return {**now, **lost}


# -- values ----------------------------------------------------------------------------------------


def _values(connection: sqlite3.Connection, form: RowForm, key: str, choice: Choice) -> Record:
    if isinstance(choice, str):
        raise UsageError(f"a conflict is resolved by 'local', 'remote' or values, not by {choice!r}")
    try:
        return form.record(connection, key, choice)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the conflict of {form.tracked.name} {key} stays as it is: {error}") from error


def _refuse_unfit(entry: ConflictEntry, error: sqlite3.IntegrityError) -> NoReturn:
    raise UsageError(
        f"{entry.object} {entry.key} stays as it is: its table refuses that record ({error}); "
        "resolve it by values that fit"
    ) from error
