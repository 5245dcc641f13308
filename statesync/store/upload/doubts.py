"""What becomes of an upload's changes when its batch ends without an answer of the hub.

While the hub may have applied the batch, they stay with it: the next session asks. Else they are ordinary
pending changes again. That it may have is noted when the doubt comes up: what settles or ends the doubt later
need not know of it.
"""

from __future__ import annotations

import sqlite3

from statesync.store.journal import batches
from statesync.store.outbox import changes, shared


def release_changes(connection: sqlite3.Connection, session: str, number: int) -> None:
    """Set the changes of a batch free; a download, and an upload that was never staged, have none."""
    wire_id = batches.wire_id_of(connection, session, number)
    if wire_id is not None:
        changes.release_batch(connection, wire_id)


def keep_doubt(connection: sqlite3.Connection, session: str, number: int, *, doubtful: bool) -> None:
    """Note whether the hub may have applied a batch, and so may have its records."""
    batches.set_doubt(connection, session, number, doubtful=doubtful)
    if doubtful:
        _note_shared(connection, session, number)


def _note_shared(connection: sqlite3.Connection, session: str, number: int) -> None:
    wire_id = batches.wire_id_of(connection, session, number)
    if wire_id is not None:
        shared.note_batch(connection, wire_id)


def release_undoubted(connection: sqlite3.Connection, session: str, number: int) -> None:
    """Set the changes of a batch free, unless the hub may have applied it."""
    if batches.is_in_doubt(connection, session, number):
        _note_shared(connection, session, number)
    else:
        release_changes(connection, session, number)


def resolve_doubts(connection: sqlite3.Connection, space: str) -> None:
    """Let go of the space's batches in doubt: their changes are still pending, and are offered anew."""
    for session, number in batches.all_in_doubt(connection, space):
        let_go(connection, session, number)


def let_go(connection: sqlite3.Connection, session: str, number: int) -> None:
    """Let go of one batch in doubt: nobody will ask the hub any more whether it has applied it."""
    _note_shared(connection, session, number)
    release_changes(connection, session, number)
    batches.resolve_doubt(connection, session, number)
