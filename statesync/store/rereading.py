"""Reading an object from the start again: why it is begun, and what becomes of records that do not come.

A read from the start keeps pending changes. It is begun when the hub says that its epoch is another or that
the device missed deletes, when an object got new columns or another filter, and after ``clear()``. It is a
scan, in the order of the keys (``download.scans``). An older hub knows none, and is read in the order of the
versions: the keys that were met are kept until its feed is drained, as that may span sessions.

A feed spares a device what it wrote itself. So where an object comes anew to a space that the device has
been in, it is read with the device's own writes: after ``reset()`` or ``drop()`` they are on the hub alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping

from statesync.filters import Filters
from statesync.store import local_only, quarantine, spaces
from statesync.store.cursors import applied, rereads
from statesync.store.cursors.cursor import EPOCH, MISSED_DELETES, SEEN_KEYS, UNLOGGED, Cursor
from statesync.store.download import lost
from statesync.store.local_only import LOCAL_KEYS
from statesync.store.outbox import changes, shared
from statesync.store.outbox.fold import fold
from statesync.store.outbox.lookup import PENDING_KEYS
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import quoted
from statesync.store.upload.doubts import resolve_doubts
from statesync.wire import CLIENT_FORKED, EPOCH_CHANGED, Problem


def reread(connection: sqlite3.Connection, objects: Objects, why: str) -> None:
    """Begin to read these objects from the start. Pending changes stay, their bases become unknown."""
    fold(connection, objects)
    for name in objects:
        rereads.start_over(connection, name, why)
        if why == EPOCH:
            changes.leave_epoch(connection, name)


def apply_filters(connection: sqlite3.Connection, objects: Objects, filters: Filters) -> None:
    """Begin to read an object from the start where its filter is not the one that it was read with."""
    for name in applied.keep_filters(connection, objects, filters):
        local_only.forget_what_was_hidden(connection, name)
        if not applied.cursors(connection, [name])[name].is_unread:
            reread(connection, {name: objects[name]}, MISSED_DELETES)


def adapt(connection: sqlite3.Connection, space: str, objects: Objects, problem: Problem) -> None:
    """Follow a hub that says that our identity or its epoch is another, or that we have missed deletes.

    ``objects`` are all that belong to the space, whatever the session's scope: the epoch holds for all.
    """
    if problem.code == CLIENT_FORKED:
        resolve_doubts(connection, space)
        fold(connection, objects)
        shared.note_all(connection, objects)  # the other copy of this file may have sent what waits here
        spaces.change_client(connection, space)
        # The hub sends no deletes to a new client; this device uploaded under its old id and needs them.
        found = applied.cursors(connection, objects)
        unread = {name: objects[name] for name, cursor in found.items() if cursor.is_unread}
        reread(connection, unread, MISSED_DELETES)
    elif problem.code == EPOCH_CHANGED:
        resolve_doubts(connection, space)
        spaces.change_epoch(connection, space, problem.epoch, problem.number or 0)
        reread(connection, objects, EPOCH)
        if problem.highest is not None:
            _forget_above(connection, objects, problem.highest)
    else:
        reread(connection, objects, MISSED_DELETES)


def _forget_above(connection: sqlite3.Connection, objects: Objects, version: int) -> None:
    """Forget what was seen above ``version``: the hub never gave that out, or does not know of it any more.

    So nothing that is there is offered over what the hub has, and no record comes back over its delete.
    """
    for name in objects:
        rereads.forget_above(connection, name, version)
        changes.forget_versions_above(connection, name, version)
        local_only.forget_versions_above(connection, name, version)


def finish_reread(
    connection: sqlite3.Connection,
    tracked: TrackedObject,
    cursor: Cursor,
    session: str,
    delete: Callable[[str], None],
) -> int:
    """End a read from the start in the order of versions: answer for the records that the hub did not show.

    After a new epoch the hub has lost them, and they are offered again, and so are they where writes are not
    logged: they may be new. Otherwise they were deleted there, and are deleted here. Records with a pending
    change stay for the conflict that the hub will see. So do those that are local only. The caller has
    switched tracking off; its ``delete`` deletes the rows for which a condition holds, ``:object`` being the
    object. Returns how many records left quarantine with that.
    """
    released = 0
    if cursor.is_compared:
        _offer_or_delete_unseen(connection, tracked, cursor, delete)
        unseen, known = f"key NOT IN ({SEEN_KEYS})", {"object": tracked.name}
        if cursor.rereading == EPOCH:
            lost.log_unseen(connection, tracked, unseen, known, session)
        released = quarantine.release_those(connection, tracked.name, unseen, known)
        quarantine.keep_its_bases_alone(connection, tracked.name)
    rereads.end_reread(connection, tracked.name)
    return released


def by_floors(
    tracked: TrackedObject, cursor: Cursor, where: str, known: Mapping[str, object]
) -> Iterator[tuple[str, Mapping[str, object], int]]:
    """Part the rows that ``where`` picks by how far they were read before, which is the third of each.

    A part is what no part before it has taken: those come first of which most was read.
    """
    key = quoted(tracked.key)
    for top, since in sorted(cursor.tops):
        within = f"{where} AND {key} COLLATE BINARY <= :top"
        yield within, {**known, "top": top}, max(since, cursor.missed_from)
    yield where, known, cursor.missed_from


def _offer_or_delete_unseen(
    connection: sqlite3.Connection, tracked: TrackedObject, cursor: Cursor, delete: Callable[[str], None]
) -> None:
    key, known = quoted(tracked.key), {"object": tracked.name}
    changes.lose_remote_images(connection, f"key NOT IN ({SEEN_KEYS})", known)
    # A row that its table takes for a pending one's is spared: it may be the very one, written otherwise.
    unseen = f"{key} COLLATE BINARY NOT IN ({SEEN_KEYS}) AND {key} NOT IN ({PENDING_KEYS})"
    unseen += f" AND {key} COLLATE BINARY NOT IN ({LOCAL_KEYS})"
    if cursor.rereading in (EPOCH, UNLOGGED):
        for where, values, until in by_floors(tracked, cursor, unseen, known):
            changes.offer_again(connection, tracked, where, values, base=max(1, until))
    else:
        delete(unseen)
