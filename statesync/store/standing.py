"""Where the device stands with a hub: its identity there, the hub's id and epoch, and the cursors.

A read from the start (``reread``) keeps pending changes. It is begun when the hub's epoch or horizon says
that the cursors mean nothing any more, when an object got new columns or another filter, and after
``clear()``. It may span sessions: the keys that it met are kept until the feed is drained.

A feed spares a device what it wrote itself. So where an object comes anew to a space that the device has
been in, it is read with the device's own writes: after ``reset()`` or ``drop()`` they are on the hub alone.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Mapping

from attrs import frozen

from statesync.errors import BadAnswer, WrongHub
from statesync.filters import NO_FILTER, Filter, Filters
from statesync.store.journal import release_batch, settle
from statesync.store.outbox import Objects, fold
from statesync.store.tracking.objects import TrackedObject, quoted
from statesync.wire import CLIENT_FORKED, EPOCH_CHANGED, Feed, Problem

EPOCH, HORIZON, EVERYTHING, OWN = "epoch", "horizon", "everything", "own"
"""Why an object is read from the start: the hub lost records, the device missed deletes, it has none, or it
may have forgotten some that it wrote itself."""


@frozen
class Standing:
    """The device in one space. ``number`` counts its acknowledged batches; hub and epoch may be unknown.

    ``head`` is the highest head of the space that the hub has told in this epoch.
    """

    space: str
    client: str
    number: int
    hub: str | None
    epoch: str | None
    head: int = 0


@frozen
class Cursor:
    """How far one object's feed is applied; ``rereading`` is why it is being read from the start."""

    object: str
    position: int
    rereading: str | None
    reread_from: int

    @property
    def is_compared(self) -> bool:
        """Whether the records that the hub does not show are answered for when all has been read."""
        return self.rereading not in (None, OWN)


def standing(connection: sqlite3.Connection, space: str) -> Standing:
    """Return the device's standing in ``space``; a new one is made up on the first call."""
    row = connection.execute(
        "SELECT name, client, number, hub, epoch, head FROM statesync_space WHERE name = ?", (space,)
    ).fetchone()
    if row is not None:
        return Standing(*row)
    fresh = Standing(space, str(uuid.uuid4()), 0, None, None)
    connection.execute("INSERT INTO statesync_space (name, client) VALUES (?, ?)", (space, fresh.client))
    return fresh


def learn(connection: sqlite3.Connection, known: Standing, hub: str, epoch: str, head: int) -> None:
    """Remember the hub that answered first, and how far it has come.

    Raises ``WrongHub`` for another one than the known, and ``BadAnswer`` for an epoch that is not the one
    that was asked in: a hub refuses that, since the cursors would mean nothing.
    """
    if (known.hub, known.epoch) == (hub, epoch) and head <= known.head:
        return
    if known.hub not in (None, hub):
        raise WrongHub(
            f"hub {hub} answered, but the records of space {known.space!r} here belong to hub {known.hub}; "
            "check the address, or reset() the store first"
        )
    if known.epoch not in (None, epoch):
        raise BadAnswer(f"the hub answered for epoch {epoch}, but was asked for {known.epoch}")
    connection.execute(
        "UPDATE statesync_space SET hub = ?, epoch = ?, head = max(head, ?) WHERE name = ?",
        (hub, epoch, head, known.space),
    )


def acknowledge(connection: sqlite3.Connection, space: str, number: int) -> None:
    """Count a batch that the hub has answered."""
    connection.execute("UPDATE statesync_space SET number = ? WHERE name = ?", (number, space))


def objects_of(connection: sqlite3.Connection, space: str, objects: Objects) -> Objects:
    """Return the objects that belong to ``space``."""
    rows = connection.execute("SELECT object FROM statesync_cursor WHERE space = ?", (space,))
    return {name: objects[name] for (name,) in rows if name in objects}


def belongs(connection: sqlite3.Connection, objects: Iterable[str], space: str) -> str | None:
    """Return the first of ``objects`` that belongs to another space, or None; claims the others.

    A space that has never answered, such as a mistyped one, owns nothing.
    """
    rows = connection.execute(
        "SELECT object, space, hub FROM statesync_cursor LEFT JOIN statesync_space ON name = space"
    )
    owners = {name: owner for name, *owner in rows}
    for name in objects:
        owner, hub = owners.get(name, (None, None))
        if owner == space:
            continue
        if hub is not None:
            return name
        if owner is not None:
            settle_doubts(connection, owner)
        connection.execute(
            "INSERT INTO statesync_cursor (object, space, rereading) "
            "VALUES (:object, :space, (SELECT :own FROM statesync_space WHERE name = :space)) "
            "ON CONFLICT (object) DO UPDATE SET "
            "space = excluded.space, rereading = coalesce(rereading, excluded.rereading)",
            {"object": name, "space": space, "own": OWN},
        )
    return None


def cursors(connection: sqlite3.Connection, objects: Iterable[str]) -> dict[str, Cursor]:
    """Return the cursors of these objects."""
    wanted = set(objects)
    rows = connection.execute("SELECT object, cursor, rereading, reread_from FROM statesync_cursor")
    return {row[0]: Cursor(*row) for row in rows if row[0] in wanted}


def stored_filters(connection: sqlite3.Connection, objects: Iterable[str]) -> Filters:
    """Return the filters with which these objects are being read."""
    rows = connection.execute(
        "SELECT object, filter FROM statesync_cursor "
        "WHERE filter IS NOT NULL AND object IN (SELECT value FROM json_each(?))",
        (json.dumps(list(objects)),),
    )
    return {name: Filter.from_text(text) for name, text in rows}


def feeds(connection: sqlite3.Connection, objects: Iterable[str], filters: Filters) -> dict[str, Feed]:
    """Return what a pull asks for: each object's cursor, filter, and whether its own writes are needed."""
    return {
        name: Feed(
            cursor.position,
            own=cursor.rereading is not None,
            filter=filters.get(name, NO_FILTER).on_the_wire(),
        )
        for name, cursor in cursors(connection, objects).items()
    }


def move_cursors(connection: sqlite3.Connection, positions: Mapping[str, int]) -> None:
    """Save how far the feeds are applied; in the transaction that applies the page."""
    connection.executemany(
        "UPDATE statesync_cursor SET cursor = ? WHERE object = ?",
        [(position, name) for name, position in positions.items()],
    )


def apply_filters(connection: sqlite3.Connection, objects: Objects, filters: Filters) -> None:
    """Begin to read an object from the start where its filter is not the one that it was read with."""
    rows = connection.execute("SELECT object, filter, cursor FROM statesync_cursor").fetchall()
    for name, before, position in rows:
        if name not in objects:
            continue
        text = filters.get(name, NO_FILTER).as_text()
        if before != text:
            connection.execute("UPDATE statesync_cursor SET filter = ? WHERE object = ?", (text, name))
            if position:
                reread(connection, {name: objects[name]}, HORIZON)


# -- reading from the start ------------------------------------------------------------------------


def reread(connection: sqlite3.Connection, objects: Objects, why: str) -> None:
    """Begin to read these objects from the start. Pending changes stay, their bases become unknown.

    A read after a new epoch that has not ended stays one: it alone offers again what the hub has lost.
    """
    fold(connection, objects)
    for name in objects:
        connection.execute("DELETE FROM statesync_seen WHERE object = ?", (name,))
        connection.execute(
            "UPDATE statesync_cursor SET cursor = 0, reread_from = max(cursor, reread_from), "
            "rereading = CASE WHEN rereading = :epoch AND :why <> :all THEN :epoch ELSE :why END "
            "WHERE object = :name",
            {"why": why, "name": name, "epoch": EPOCH, "all": EVERYTHING},
        )
        if why == EPOCH:
            connection.execute(
                "UPDATE statesync_change SET base = min(base, 1) WHERE object = ?",
                (name,),
            )


def note_seen(connection: sqlite3.Connection, name: str, keys: Iterable[str]) -> None:
    """Remember the keys that a read from the start has met."""
    connection.executemany(
        "INSERT OR IGNORE INTO statesync_seen VALUES (?, ?)", ((name, key) for key in keys)
    )


def finish_reread(connection: sqlite3.Connection, tracked: TrackedObject, cursor: Cursor) -> None:
    """End a read from the start, with tracking off: answer for the records that the hub did not show.

    After a new epoch they were lost by the hub and are offered again; otherwise they were deleted there,
    and go here too. Records with a pending change stay for the conflict that the hub will see.
    """
    if cursor.is_compared:
        _answer_for_unseen(connection, tracked, cursor)
    connection.execute("DELETE FROM statesync_seen WHERE object = ?", (tracked.name,))
    connection.execute(
        "UPDATE statesync_cursor SET rereading = NULL, reread_from = 0 WHERE object = ?", (tracked.name,)
    )


def _answer_for_unseen(connection: sqlite3.Connection, tracked: TrackedObject, cursor: Cursor) -> None:
    table, key = quoted(tracked.table), quoted(tracked.key)
    unseen = (
        f"{key} NOT IN (SELECT key FROM statesync_seen WHERE object = :object) "
        f"AND {key} NOT IN (SELECT key FROM statesync_change WHERE object = :object)"
    )
    if cursor.rereading == EPOCH:
        connection.execute(
            "INSERT INTO statesync_change (object, key, operation, base, revision) "
            f"SELECT :object, {key}, 'insert', 0, 1 FROM {table} WHERE {unseen}",
            {"object": tracked.name},
        )
    else:
        connection.execute(f"DELETE FROM {table} WHERE {unseen}", {"object": tracked.name})


def adapt(connection: sqlite3.Connection, space: str, objects: Objects, problem: Problem) -> None:
    """Follow a hub that says that our identity, its epoch or its horizon is not what we believe.

    ``objects`` are all that belong to the space, whatever the session's scope: the epoch holds for all.
    """
    if problem.code == CLIENT_FORKED:
        settle_doubts(connection, space)
        connection.execute(
            "UPDATE statesync_space SET client = ?, number = 0 WHERE name = ?", (str(uuid.uuid4()), space)
        )
        # A hub spares those who are new to it the deletes; who uploaded under the old identity is not.
        unread = {name for name, cursor in cursors(connection, objects).items() if cursor.position == 0}
        reread(connection, {name: objects[name] for name in unread}, HORIZON)
    elif problem.code == EPOCH_CHANGED:
        settle_doubts(connection, space)
        connection.execute(
            "UPDATE statesync_space SET epoch = ?, number = ?, head = 0 WHERE name = ?",
            (problem.epoch, problem.number or 0, space),
        )
        reread(connection, objects, EPOCH)
    else:
        reread(connection, objects, HORIZON)


def forget(connection: sqlite3.Connection, objects: Iterable[str]) -> None:
    """Forget where these objects stand, and every space that none is left of."""
    for name in objects:
        connection.execute("DELETE FROM statesync_cursor WHERE object = ?", (name,))
        connection.execute("DELETE FROM statesync_seen WHERE object = ?", (name,))
    left = "SELECT space FROM statesync_cursor"
    for (space,) in connection.execute(
        f"SELECT name FROM statesync_space WHERE name NOT IN ({left})"
    ).fetchall():
        settle_doubts(connection, space)
        connection.execute("DELETE FROM statesync_space WHERE name = ?", (space,))


def settle_doubts(connection: sqlite3.Connection, space: str) -> None:
    """Let go of a batch in doubt: its changes are still pending, and are offered anew."""
    batches = connection.execute(
        "SELECT session, number FROM statesync_batch WHERE space = ? AND doubt = 1", (space,)
    ).fetchall()
    for session, number in batches:
        release_batch(connection, session, number)
        settle(connection, session, number)
