"""Mending what the doctor found, without losing a pending change."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from statesync.lifecycle import Phase
from statesync.store import standing
from statesync.store.care import doctor
from statesync.store.care.doctor import Complaint, Repair
from statesync.store.care.salvage import salvage
from statesync.store.core import Core
from statesync.store.outbox import Objects, fold
from statesync.store.tracking import triggers


def mend(core: Core, complaints: Iterable[Complaint]) -> list[Complaint]:
    """Mend what can be mended and return what is left; the caller holds the store's lock.

    What has to come from the hub again comes with the next sync.
    """
    wanted = list(complaints)
    if any(complaint.repair is Repair.SALVAGE for complaint in wanted):
        salvage(core.database)
        with core.database.transaction() as connection:
            standing.reread(connection, core.objects, standing.HORIZON)
    with core.database.transaction() as connection:
        for complaint in wanted:
            if complaint.repair is not None:
                _mend(connection, core.objects, complaint)
    with core.database.errors_mapped():
        return doctor.examine(core.database.raw(), core.objects)


def _mend(connection: sqlite3.Connection, objects: Objects, complaint: Complaint) -> None:
    about = {name: tracked for name, tracked in objects.items() if complaint.about in (name, "file")}
    match complaint.repair:
        case Repair.RETRACK:
            _retrack(connection, about)
        case Repair.REFOLD:
            _refold(connection, objects)
        case Repair.REREAD:
            connection.executemany(
                "UPDATE statesync_cursor SET cursor = 0, reread_from = 0 WHERE object = ?",
                [(name,) for name in about],
            )
            standing.reread(connection, about, standing.HORIZON)
        case Repair.CLOSE:
            _close(connection, complaint.about)


def _retrack(connection: sqlite3.Connection, objects: Objects) -> None:
    """See writes again; those that were not seen are found by comparing with the hub, and offered to it."""
    triggers.switch_on(connection)
    for tracked in objects.values():
        triggers.install(connection, tracked)
    standing.reread(connection, objects, standing.EPOCH)


def _refold(connection: sqlite3.Connection, objects: Objects) -> None:
    fold(connection, objects)
    connection.execute(f"UPDATE statesync_change SET batch = NULL, sent = NULL WHERE {doctor.STRAY}")
    for name, tracked in objects.items():
        connection.execute(
            "UPDATE statesync_change SET revision = revision + 1, operation = CASE "
            "WHEN operation <> 'delete' THEN 'delete' WHEN image IS NULL THEN 'insert' ELSE 'update' END "
            f"WHERE position IN (SELECT change.position {doctor.wrong_operations(tracked)})",
            (name,),
        )


def _close(connection: sqlite3.Connection, session: str) -> None:
    """Keep the session as failed with a journal that says nothing; a batch in doubt stays in doubt."""
    connection.execute("DELETE FROM statesync_transition WHERE session = ?", (session,))
    connection.execute(
        "INSERT INTO statesync_transition SELECT id, 1, 'session', NULL, 'fail', 'idle', 'failed', started, "
        "0, '{}' FROM statesync_session WHERE id = ?",
        (session,),
    )
    connection.execute(
        "UPDATE statesync_session SET phase = ?, reason = 'journal_damaged', "
        "error = 'its journal was damaged; what it had committed is still there' WHERE id = ?",
        (Phase.FAILED, session),
    )
    connection.execute("DELETE FROM statesync_batch WHERE session = ? AND doubt = 0", (session,))
    connection.execute("UPDATE statesync_batch SET phase = 'open' WHERE session = ?", (session,))
