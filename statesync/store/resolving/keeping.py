"""Storing what is kept of a record in conflict: the record, its change, and the conflict log, in one go.

Every function runs in a transaction that has folded, with tracking switched off.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import partial

from statesync.conflicts import Later, Record
from statesync.store import bases, conflict_log, local_only, quarantine
from statesync.store.conflict_log import Sides
from statesync.store.cursors import knowledge
from statesync.store.download.fitting import attempt
from statesync.store.outbox import changes as outbox
from statesync.store.outbox import lookup
from statesync.store.outbox.changes import Rebase, RemoteImage
from statesync.store.outbox.lookup import Change
from statesync.store.quarantine import Reason
from statesync.store.resolving.asking import Resolution
from statesync.store.resolving.rows import record_here
from statesync.store.tracking import records
from statesync.store.tracking.images import image_of, record_of_image
from statesync.store.tracking.objects import Objects, TrackedObject

Deadly = Mapping[str, Mapping[str, Reason]]
"""The records, by their objects, that may not be written (``SessionContext.deadly``)."""


def store_resolution(
    connection: sqlite3.Connection, session: str, resolution: Resolution, deadly: Deadly
) -> None:
    """Store one resolution, by compare and set on the revision that was looked at.

    Raises ``TransactionLost`` for a record that is not among the ``deadly`` ones, which are not written.
    """
    tracked, key = resolution.tracked, resolution.key
    now = lookup.version_of(connection, tracked.name, key)
    if now is None or now.revision != resolution.revision:
        return
    if resolution.problem is not None:
        outbox.mark_failed(connection, tracked.name, key, resolution.problem, session)
    elif isinstance(resolution.kept, Later):
        _let_wait(connection, session, resolution)
    elif resolution.is_conflict:
        _keep(connection, session, resolution, resolution.kept, deadly)
    else:
        _leave(connection, session, resolution, resolution.kept, deadly)


def _leave(
    connection: sqlite3.Connection, session: str, resolution: Resolution, kept: Record | None, deadly: Deadly
) -> None:
    """Keep what is here where the hub has changed nothing, or the same."""
    tracked, key = resolution.tracked, resolution.key
    is_written = False
    if resolution.goes_up and kept is not None:  # what stands here may have been written untracked since
        is_written = bool(local_only.among(connection, tracked.name, [key]))
    if not is_written or _fits(connection, session, resolution, kept, deadly):
        _follow(connection, resolution, kept, revised=False)


def _let_wait(connection: sqlite3.Connection, session: str, resolution: Resolution) -> None:
    name, key = resolution.tracked.name, resolution.key
    remote = RemoteImage(key, image_of(resolution.remote), resolution.version)
    outbox.contest(connection, name, remote)
    quarantine.release(connection, name, [key])
    sides = Sides(resolution.base, resolution.local, resolution.remote, None)
    conflict_log.let_wait(connection, session, name, key, sides)


def _keep(
    connection: sqlite3.Connection, session: str, resolution: Resolution, kept: Record | None, deadly: Deadly
) -> None:
    tracked, key = resolution.tracked, resolution.key
    if not _fits(connection, session, resolution, kept, deadly):
        return
    sides = Sides(resolution.base, resolution.local, resolution.remote, kept)
    conflict_log.add(connection, session, tracked.name, key, sides)
    _follow(connection, resolution, kept, revised=True)
    _bring(connection, tracked, key, resolution.local, kept)


def _fits(
    connection: sqlite3.Connection, session: str, resolution: Resolution, kept: Record | None, deadly: Deadly
) -> bool:
    """Write what is kept, and tell whether the table takes it; its change fails where it does not."""
    tracked, key = resolution.tracked, resolution.key
    writing = partial(write, connection, tracked, key, kept)
    reason = deadly.get(tracked.name, {}).get(key) or attempt(connection, tracked.name, key, writing)
    if reason is not None:
        outbox.mark_failed(connection, tracked.name, key, f"does_not_fit: {reason.message}", session)
    return reason is None


def _follow(
    connection: sqlite3.Connection, resolution: Resolution, kept: Record | None, *, revised: bool
) -> None:
    """Let the change be what leads from the hub's record to what is kept."""
    # A record that the hub has left alone may know fewer columns than ours: ours is the one to go back to.
    image = image_of(resolution.remote if revised else resolution.base)
    edit = Rebase(_operation(kept, resolution.remote), image, max(resolution.version, 1))
    tracked, key, goes_up = resolution.tracked, resolution.key, resolution.goes_up
    _follow_hub(connection, tracked.name, key, edit if goes_up else None, revised=revised)
    _end_local(connection, tracked, key, kept if goes_up else None, resolution.version, resolution.remote)
    quarantine.release(connection, tracked.name, [key])
    _learn(connection, tracked.name, key, resolution.remote, resolution.version)


def settle(
    connection: sqlite3.Connection, tracked: TrackedObject, change: Change, version: int, kept: Record | None
) -> None:
    """Settle a contested change: its record becomes ``kept``, and goes up unless it is the hub's.

    ``version`` is that of the hub's record. Raises ``sqlite3.IntegrityError`` where the table refuses it.
    """
    name, key, remote = tracked.name, str(change.key), change.remote
    local = record_here(connection, tracked, key)
    write(connection, tracked, key, kept)
    edit = Rebase(_operation(kept, remote), image_of(remote), version)
    _follow_hub(connection, name, key, None if kept == remote else edit, revised=True)
    _bring(connection, tracked, key, local, kept)
    _end_local(connection, tracked, key, None if kept == remote else kept, version, remote)
    note_settled(connection, change, version, local, kept)


def note_settled(
    connection: sqlite3.Connection, change: Change, version: int, local: Record | None, kept: Record | None
) -> None:
    """Log what was kept of a contested change, whose record was ``local`` until now."""
    key = str(change.key)
    sides = Sides(record_of_image(change.image), local, change.remote, kept)
    conflict_log.settle(connection, change.object, key, sides)
    _learn(connection, change.object, key, change.remote, version)


def write(connection: sqlite3.Connection, tracked: TrackedObject, key: str, kept: Record | None) -> None:
    """Make a record what is kept of it; a delete spares one that is local only."""
    if kept is not None:
        records.write(connection, tracked, key, tracked.known(kept))
    elif not local_only.among(connection, tracked.name, [key]):
        records.delete(connection, tracked, key)


def take_spared(connection: sqlite3.Connection, wire_id: str, objects: Objects, deadly: Deadly) -> None:
    """Let accepted records have what the hub has in the columns that their changes have spared.

    Where the hub showed a record while its change waited, nothing of it was stored, nor is it shown again.
    What the table refuses stays as it is.
    """
    for name, key, spared, theirs in lookup.shown_of_batch(connection, wire_id):
        if name not in objects or key in deadly.get(name, {}):
            continue
        tracked = objects[name]
        here = record_here(connection, tracked, key)
        if here is not None and not local_only.among(connection, name, [key]):
            shown = {column: theirs[column] for column in spared & theirs.keys() & here.keys()}
            attempt(connection, name, key, partial(write, connection, tracked, key, {**here, **shown}))


def _operation(kept: Record | None, remote: Record | None) -> str:
    """Return what leads from the hub's record to the one that is kept."""
    if kept is None:
        return "delete"
    return "insert" if remote is None else "update"


def _follow_hub(
    connection: sqlite3.Connection, name: str, key: str, edit: Rebase | None, *, revised: bool
) -> None:
    """Make a change an edit of what the hub has, or forget it where there is none."""
    if edit is None:
        outbox.forget_record(connection, name, key)
    else:
        outbox.rebase(connection, name, key, edit, revised=revised)


def _bring(
    connection: sqlite3.Connection,
    tracked: TrackedObject,
    key: str,
    local: Record | None,
    kept: Record | None,
) -> None:
    """Let the columns that a decision has written go up, also those that nobody had written before."""
    before = local or {}
    written = [name for name, value in tracked.known(kept or {}).items() if before.get(name) != value]
    if written:
        outbox.no_longer_spare(connection, tracked.name, key, written)


def _end_local(
    connection: sqlite3.Connection,
    tracked: TrackedObject,
    key: str,
    goes_up: Record | None,
    version: int,
    remote: Record | None,
) -> None:
    """Let a record be an ordinary one again if the whole of it goes up, or if it is as the hub has it."""
    if not local_only.among(connection, tracked.name, [key]):
        return
    if goes_up is not None:
        local_only.end(connection, tracked.name, [key])
    else:
        compare_local(connection, tracked, key, version, remote)


def compare_local(
    connection: sqlite3.Connection, tracked: TrackedObject, key: str, version: int, at_hub: Record | None
) -> None:
    """Let a record that is local only be an ordinary one if it is as the hub has it, at ``version``."""
    if record_here(connection, tracked, key) == at_hub:
        local_only.end(connection, tracked.name, [key])
    else:
        local_only.note_at_hub(connection, tracked.name, key, version, at_hub)


def _learn(connection: sqlite3.Connection, name: str, key: str, remote: Record | None, version: int) -> None:
    """Remember which version of a record has come, where the object's feed has not come so far."""
    if remote is not None and version > knowledge.read_until(connection, name, key):
        bases.remember(connection, name, key, version)
