"""Mending what the doctor found, without losing a pending change."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from statesync.store import cursors
from statesync.store.care import doctor
from statesync.store.care.doctor import Complaint, Repair
from statesync.store.care.salvage import salvage
from statesync.store.cursors import EPOCH, MISSED_DELETES
from statesync.store.journal import audit, batches
from statesync.store.outbox import soundness
from statesync.store.outbox.fold import fold
from statesync.store.parts import StoreParts
from statesync.store.rereading import reread
from statesync.store.tracking import triggers
from statesync.store.tracking.objects import Objects


def mend(parts: StoreParts, complaints: Iterable[Complaint]) -> list[Complaint]:
    """Mend what can be mended and return what is left; the caller holds the store's lock.

    What has to come from the hub again comes with the next sync.
    """
    wanted = list(complaints)
    if any(complaint.repair is Repair.SALVAGE for complaint in wanted):
        salvage(parts.database)
        with parts.database.transaction() as connection:
            reread(connection, parts.objects, MISSED_DELETES)
    with parts.database.transaction() as connection:
        for complaint in wanted:
            if complaint.repair is not None:
                _mend(connection, parts.objects, complaint)
    with parts.database.errors_mapped():
        return doctor.examine(parts.database.raw(), parts.objects)


def _mend(connection: sqlite3.Connection, objects: Objects, complaint: Complaint) -> None:
    about = {name: tracked for name, tracked in objects.items() if complaint.about in (name, "file")}
    match complaint.repair:
        case Repair.RETRACK:
            _retrack(connection, about)
        case Repair.REFOLD:
            _refold(connection, objects)
        case Repair.REREAD:
            cursors.distrust(connection, about)
            reread(connection, about, MISSED_DELETES)
        case Repair.CLOSE:
            audit.close(connection, complaint.about)
            _release_stray(connection)


def _retrack(connection: sqlite3.Connection, objects: Objects) -> None:
    """See writes again; those that were not seen are found by comparing with the hub, and offered to it."""
    triggers.switch_on(connection)
    for tracked in objects.values():
        triggers.install(connection, tracked)
    reread(connection, objects, EPOCH)


def _refold(connection: sqlite3.Connection, objects: Objects) -> None:
    fold(connection, objects)
    _release_stray(connection)
    for tracked in objects.values():
        soundness.mend_contradictions(connection, tracked)


def _release_stray(connection: sqlite3.Connection) -> None:
    soundness.release_stray(connection, batches.awaited(connection))
