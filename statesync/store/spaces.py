"""Who the device is in a space: its identity there, the hub's id and epoch. Owns ``statesync_space``."""

from __future__ import annotations

import sqlite3
import uuid

from attrs import evolve

from statesync.classes import frozen
from statesync.errors import BadAnswer, WrongHub
from statesync.wire import MAX_NUMBER

TABLE = "statesync_space"


@frozen
class SpaceState:
    """The device in one space. ``number`` counts its acknowledged batches; hub and epoch may be unknown.

    ``head`` is the highest head of the space that the hub has told in this epoch.
    """

    space: str
    client: str
    number: int
    hub: str | None
    epoch: str | None
    head: int = 0


def load_or_create(connection: sqlite3.Connection, space: str) -> SpaceState:
    """Return what the device is in ``space``; on the first call it gets an identity there, which is kept.

    A number that no hub has given out may be there, believed by an older version: the hub tells the right
    one.
    """
    row = connection.execute(
        "SELECT name, client, number, hub, epoch, head FROM statesync_space WHERE name = ?", (space,)
    ).fetchone()
    if row is not None:
        state = SpaceState(*row)
        return state if state.number <= MAX_NUMBER else evolve(state, number=MAX_NUMBER)
    fresh = SpaceState(space, str(uuid.uuid4()), 0, None, None)
    connection.execute("INSERT INTO statesync_space (name, client) VALUES (?, ?)", (space, fresh.client))
    return fresh


def hubs(connection: sqlite3.Connection) -> dict[str, str | None]:
    """Return the hub of each space that the device has been in, None where none has answered yet."""
    return dict(connection.execute("SELECT name, hub FROM statesync_space").fetchall())


def head_of(connection: sqlite3.Connection, space: str) -> int:
    """Return the highest head of a space that the hub has told; 0 where the device was never there."""
    row = connection.execute("SELECT head FROM statesync_space WHERE name = ?", (space,)).fetchone()
    return 0 if row is None else int(row[0])


def learn(connection: sqlite3.Connection, known: SpaceState, hub: str, epoch: str, head: int) -> None:
    """Remember the hub that answered first, and how far it has come.

    Raises ``WrongHub`` for another one than the known, and ``BadAnswer`` for an epoch that is not the one
    that was asked in: a hub refuses that, since the cursors would mean nothing.
    """
    if (known.hub, known.epoch) == (hub, epoch) and head <= known.head:
        return
    if known.hub not in (None, hub):
        raise WrongHub(
            f"hub {hub} answered, but the records of space {known.space!r} here belong to hub {known.hub}; "
            "check the address; if this is the new one, reset(keep_records=True) offers it all records"
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


def change_client(connection: sqlite3.Connection, space: str) -> None:
    """Take a new identity in a space: a copy of this database has used the old one."""
    connection.execute(
        "UPDATE statesync_space SET client = ?, number = 0 WHERE name = ?", (str(uuid.uuid4()), space)
    )


def change_epoch(connection: sqlite3.Connection, space: str, epoch: str | None, number: int) -> None:
    """Follow the hub into a new epoch, in which it has acknowledged ``number`` batches."""
    connection.execute(
        "UPDATE statesync_space SET epoch = ?, number = ?, head = 0 WHERE name = ?", (epoch, number, space)
    )


def remove(connection: sqlite3.Connection, space: str) -> None:
    """Forget who the device is in a space."""
    connection.execute("DELETE FROM statesync_space WHERE name = ?", (space,))
