"""Which changes are under way with a batch. It alone owns ``statesync_sent``.

A change says by itself with which batch it went up (``batch``), and as which revision (``sent``). Where the
changes of a batch are a run, one row here says so of all of them: most batches are accepted whole, and then
no change was ever marked. Whatever is about one of them spreads that over the changes first.
"""

from __future__ import annotations

import sqlite3

from statesync.store.outbox import settled
from statesync.store.outbox.settled import WAITING

TABLE = "statesync_sent"

_RUN = "FROM statesync_sent AS run WHERE position BETWEEN run.first AND run.last"

BATCH = f"coalesce(batch, (SELECT run.batch {_RUN}))"
"""The wire id of the batch that a change is under way with, NULL if it is not, as a part of a statement."""

SENT = f"coalesce(sent, (SELECT run.revision {_RUN}))"
"""The revision as which it went up."""

OF_BATCH = (
    f"position IN (SELECT position FROM {WAITING} WHERE batch = :batch UNION ALL "
    f"SELECT change.position FROM statesync_sent AS run JOIN {WAITING} AS change "
    "ON change.position BETWEEN run.first AND run.last WHERE run.batch = :batch)"
)
"""Says of a change that it is under way with ``:batch``."""


def begin(connection: sqlite3.Connection, wire_id: str, first: int, last: int, revision: int) -> None:
    """Note that all changes between two positions go up with the batch ``wire_id``, in one revision."""
    connection.execute(
        "INSERT INTO statesync_sent (batch, first, last, revision) VALUES (?, ?, ?, ?)",
        (wire_id, first, last, revision),
    )


def spread(connection: sqlite3.Connection) -> None:
    """Let each change that is under way say so by itself. In a transaction."""
    runs = connection.execute("SELECT batch, revision, first, last FROM statesync_sent").fetchall()
    if runs:
        connection.executemany(
            "UPDATE statesync_change SET batch = ?, sent = ? WHERE position BETWEEN ? AND ?", runs
        )
        connection.execute("DELETE FROM statesync_sent")


def forget_unedited(connection: sqlite3.Connection, wire_id: str) -> None:
    """Forget the changes that are as they went up with the batch; the others say so by themselves then."""
    run = connection.execute(
        "SELECT first, last, revision FROM statesync_sent WHERE batch = ?", (wire_id,)
    ).fetchone()
    if run is not None and settled.settle(connection, *run):
        connection.execute("DELETE FROM statesync_sent WHERE batch = ?", (wire_id,))
        return
    if run is not None:
        connection.execute(
            "DELETE FROM statesync_change WHERE position BETWEEN ? AND ? AND revision = ?", run
        )
        spread(connection)
    connection.execute("DELETE FROM statesync_change WHERE batch = ? AND revision = sent", (wire_id,))
