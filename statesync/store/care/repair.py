"""Mending what the doctor found, without losing a pending change."""

from __future__ import annotations

import sqlite3
from functools import partial

from statesync.complaints import Complaint, Repair
from statesync.errors import StoreCorrupt, StoreNotReady
from statesync.store.care import doctor
from statesync.store.care.headers import is_database
from statesync.store.care.losses import Losses
from statesync.store.care.salvage import remove_parts, salvage
from statesync.store.care.settling import settle
from statesync.store.cursors import rereads
from statesync.store.cursors.cursor import MISSED_DELETES, UNLOGGED
from statesync.store.file.database import Database
from statesync.store.indexes import building
from statesync.store.journal import audit, batches
from statesync.store.outbox import soundness
from statesync.store.outbox.fold import fold
from statesync.store.parts import StoreParts
from statesync.store.rereading import reread
from statesync.store.schema import migrating
from statesync.store.tracking import registry, triggers
from statesync.store.tracking.objects import Objects

_ROUNDS = 3
"""What is mended may bring to light what was behind it."""


def mend(parts: StoreParts) -> list[Complaint]:
    """Mend what can be mended; return what is left, and what is gone. The caller holds the store's lock.

    What has to come from the hub again comes with the next sync.
    """
    remove_parts(parts.database.path)
    losses = _salvage_if_damaged(parts)
    left = examine(parts)
    for _ in range(_ROUNDS):
        mendable = [complaint for complaint in left if complaint.repair not in (None, Repair.SALVAGE)]
        if not mendable:
            break
        with parts.database.transaction() as connection:
            objects = _objects(parts, connection)
            for complaint in mendable:
                _mend(connection, objects, complaint)
        left = examine(parts)
    return [*_told(losses), *left]


def check_mendable(parts: StoreParts) -> None:
    """Refuse what is no database at all, before a lock is made beside it."""
    path = parts.database.path
    if not path.is_file():
        raise StoreNotReady(f"there is no file {path}; give the path of a device database")
    if not is_database(path):
        raise StoreCorrupt(
            f"{parts.database}: file is not a database; check the path, or restore the file from a backup"
        )


def examine(parts: StoreParts) -> list[Complaint]:
    """Return everything that is wrong with the store, worst first, as it is at one moment."""
    database = parts.database
    with database.errors_mapped():
        damage = list(doctor.check_file(database.raw()))  # SQLite ends a transaction that meets damage
    if any(complaint.repair is Repair.SALVAGE for complaint in damage):
        return damage  # every other answer would be a guess
    with database.snapshot() as connection:
        lacking = doctor.lacking_tables(connection)
        found = lacking or doctor.examine(connection, _objects(parts, connection))
        return [*damage, *found]


def _objects(parts: StoreParts, connection: sqlite3.Connection) -> Objects:
    """Return the objects as they are described now, those without a table too."""
    if not parts.registry.is_ready:
        return registry.load(connection)
    parts.registry.refresh(connection)
    return parts.registry.known


def _salvage_if_damaged(parts: StoreParts) -> Losses:
    database = parts.database
    if _is_damaged(database) or not _can_be_opened(database):
        opened = parts.registry.known if parts.registry.is_ready else {}
        return salvage(database, partial(settle, opened=opened))
    return Losses(())


def _is_damaged(database: Database) -> bool:
    try:
        with database.errors_mapped():
            found = list(doctor.check_file(database.raw()))
    except StoreCorrupt:  # SQLite cannot even open it
        return True
    return any(complaint.repair is Repair.SALVAGE for complaint in found)


def _can_be_opened(database: Database) -> bool:
    """Tell whether what a store is opened by stands where it should: a page of another table may be there."""
    with database.errors_mapped():
        lacking = migrating.missing_tables(database.raw())
    if len(lacking) == len(migrating.tables()):
        raise StoreNotReady(f"{database} has never been set up as a store by a program")
    if lacking:
        return True  # the doctor tells of it
    try:
        with database.errors_mapped():
            migrating.is_store(database.raw(), str(database))
            registry.load(database.raw())
    except StoreCorrupt:
        return False
    return True


def _told(losses: Losses) -> list[Complaint]:
    return [Complaint(loss.table, loss.in_words(), None) for loss in losses]


def _mend(connection: sqlite3.Connection, objects: Objects, complaint: Complaint) -> None:
    about = {name: tracked for name, tracked in objects.items() if complaint.about in (name, "file")}
    match complaint.repair:
        case Repair.RETRACK:
            _retrack(connection, about)
        case Repair.REFOLD:
            _refold(connection, objects)
        case Repair.REREAD:
            rereads.distrust(connection, about)
            reread(connection, about, MISSED_DELETES)
        case Repair.REINDEX:
            building.build_of(connection)
        case Repair.CLOSE:
            audit.close(connection, complaint.about)  # what it held up is found by the next round


def _retrack(connection: sqlite3.Connection, objects: Objects) -> None:
    """See writes again; those that were not seen are found by comparing with the hub, and offered to it."""
    triggers.switch_on(connection)
    for tracked in objects.values():
        triggers.install(connection, tracked)
    reread(connection, objects, UNLOGGED)


def _refold(connection: sqlite3.Connection, objects: Objects) -> None:
    fold(connection, objects)
    soundness.release_stray(connection, batches.awaited(connection))
    for tracked in objects.values():
        soundness.mend_contradictions(connection, tracked)
