"""Batches in the journal: they are created, sent, and answered, or stay in doubt with their exact payload."""

from __future__ import annotations

import sqlite3
from functools import cached_property

import msgspec

from statesync.classes import frozen
from statesync.lifecycle import BATCH, BatchPhase
from statesync.store.journal.phases import has_not_ended
from statesync.values import Direction
from statesync.wire import Change

_CHANGES = msgspec.json.Decoder(list[Change])

_BLANK = b" "
"""Stands behind a payload that is kept; no payload ends with one."""


@frozen
class WireBatch:
    """An upload batch as the hub knows it: its id, its number among the client's, and its exact payload."""

    id: str
    number: int
    payload: bytes

    @cached_property
    def changes(self) -> list[Change]:
        """Its changes, read from the payload when they are asked for: of most batches nobody does."""
        return _CHANGES.decode(self.payload)


@frozen
class DoubtfulBatch:
    """A batch that the hub may have applied: the batch ``number`` of an earlier ``session``."""

    session: str
    number: int
    wire: WireBatch


@frozen
class OpenBatch:
    """A batch of a session that has not ended."""

    number: int
    direction: Direction
    phase: BatchPhase


def create_batch(
    connection: sqlite3.Connection,
    session: str,
    number: int,
    direction: Direction,
    space: str,
) -> None:
    """Record a new batch in the phase open, and that it is being sent; an upload is in doubt from here on."""
    is_upload = direction is Direction.UPLOAD
    connection.execute(
        "INSERT INTO statesync_batch (session, number, direction, phase, space, attempts, doubt) "
        "VALUES (?, ?, ?, ?, ?, 1, ?)",
        (session, number, direction, BatchPhase.OPEN, space, is_upload),
    )


def stage_upload(
    connection: sqlite3.Connection, session: str, number: int, wire: WireBatch, records: int
) -> None:
    """Keep the exact payload of an upload batch, which takes the place of the session's last one.

    That one's answer is stored. If it had gone with that, its pages would be written twice. So they would be
    if it was deleted now: many builds of SQLite write zeros over what is deleted, and the new one would get
    other pages. A blob that is as long as before is written over it, page by page.
    """
    connection.execute(
        "UPDATE statesync_batch SET wire_id = ?, wire_number = ?, records = ? "
        "WHERE session = ? AND number = ?",
        (wire.id, wire.number, records, session, number),
    )
    payload = _padded(wire.payload)
    last = connection.execute(
        "SELECT kept.rowid FROM statesync_payload AS kept JOIN statesync_batch AS batch "
        "USING (session, number) WHERE session = ? AND NOT doubt",
        (session,),
    ).fetchone()
    if last is None:
        connection.execute("INSERT INTO statesync_payload VALUES (?, ?, ?)", (session, number, payload))
    else:
        connection.execute(
            "UPDATE statesync_payload SET number = ?, payload = ? WHERE rowid = ?", (number, payload, *last)
        )


def _padded(payload: bytes) -> bytes:
    """Return a payload with up to an eighth of blanks: most batches of a session are equally long then."""
    step = 1 << max(0, len(payload).bit_length() - 4)
    return payload.ljust(-(-len(payload) // step) * step, _BLANK)


def note_attempt(connection: sqlite3.Connection, session: str, number: int, attempt: int) -> None:
    """Record that the batch is being sent once more; an upload is in doubt again, also across a crash."""
    connection.execute(
        "UPDATE statesync_batch SET attempts = ?, doubt = (direction = 'upload') "
        "WHERE session = ? AND number = ?",
        (attempt, session, number),
    )


def set_records(connection: sqlite3.Connection, session: str, number: int, records: int) -> None:
    """Record how many records a download batch brought."""
    connection.execute(
        "UPDATE statesync_batch SET records = ? WHERE session = ? AND number = ?", (records, session, number)
    )


def find_open(connection: sqlite3.Connection, session: str) -> OpenBatch | None:
    """Return the batch that a session has open, None if there is none."""
    row = connection.execute(
        f"SELECT number, direction, phase FROM statesync_batch WHERE session = ? AND {has_not_ended(BATCH)}",
        (session,),
    ).fetchone()
    return None if row is None else OpenBatch(row[0], Direction(row[1]), BatchPhase(row[2]))


def wire_id_of(connection: sqlite3.Connection, session: str, number: int) -> str | None:
    """Return the id under which the hub knows a batch; None for a download, or one that was never staged."""
    row = connection.execute(
        "SELECT wire_id FROM statesync_batch WHERE session = ? AND number = ?", (session, number)
    ).fetchone()
    return None if row is None else row[0]


def awaited(connection: sqlite3.Connection) -> list[str]:
    """Return the wire ids of the uploads that are under way or in doubt."""
    rows = connection.execute(
        "SELECT wire_id FROM statesync_batch "
        f"WHERE wire_id IS NOT NULL AND (doubt = 1 OR {has_not_ended(BATCH)})"
    )
    return [wire_id for (wire_id,) in rows]


# -- doubt -----------------------------------------------------------------------------------------


def set_doubt(connection: sqlite3.Connection, session: str, number: int, *, doubtful: bool) -> None:
    """Record whether the hub may have applied the batch."""
    connection.execute(
        "UPDATE statesync_batch SET doubt = ? WHERE session = ? AND number = ?", (doubtful, session, number)
    )


def resolve_doubt(connection: sqlite3.Connection, session: str, number: int) -> None:
    """Take doubt and payload off a batch that another one asks for now, or that nobody asks for any more."""
    set_doubt(connection, session, number, doubtful=False)
    connection.execute("DELETE FROM statesync_payload WHERE session = ? AND number = ?", (session, number))


def is_in_doubt(connection: sqlite3.Connection, session: str, number: int) -> bool:
    """Tell whether the hub may have applied a batch."""
    row = connection.execute(
        "SELECT doubt FROM statesync_batch WHERE session = ? AND number = ?", (session, number)
    ).fetchone()
    return row is not None and bool(row[0])


ANY_IN_DOUBT = (
    "EXISTS (SELECT 1 FROM statesync_batch JOIN statesync_payload USING (session, number) "
    "WHERE space = :space AND doubt = 1)"
)
"""Whether ``:space`` has a batch in doubt that can be sent again, as a part of a statement."""


def find_doubtful(connection: sqlite3.Connection, space: str) -> DoubtfulBatch | None:
    """Return the space's batch in doubt, None if there is none."""
    row = connection.execute(
        "SELECT session, number, wire_id, wire_number, payload "
        "FROM statesync_batch JOIN statesync_payload USING (session, number) "
        "WHERE space = ? AND doubt = 1 ORDER BY statesync_batch.rowid DESC LIMIT 1",
        (space,),
    ).fetchone()
    if row is None:
        return None
    of, number, wire_id, wire_number, payload = row
    return DoubtfulBatch(of, number, WireBatch(wire_id, wire_number, payload.rstrip(_BLANK)))


def all_in_doubt(connection: sqlite3.Connection, space: str) -> list[tuple[str, int]]:
    """Return (session, number) of the space's batches in doubt."""
    return connection.execute(
        "SELECT session, number FROM statesync_batch WHERE space = ? AND doubt = 1", (space,)
    ).fetchall()


def without_payload(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """Return (session, number) of the batches in doubt that cannot be sent again: their payload is lost."""
    return connection.execute(
        "SELECT session, number FROM statesync_batch LEFT JOIN statesync_payload USING (session, number) "
        "WHERE doubt = 1 AND payload IS NULL"
    ).fetchall()
