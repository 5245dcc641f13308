"""Opening a store: its tables, triggers and objects are made or found, and interrupted sessions are ended."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import peewee

from statesync.errors import StoreCorrupt, StoreNotReady, StoreReadOnly
from statesync.store import local_only, schema
from statesync.store.cursors import MISSED_DELETES
from statesync.store.file.database import Database
from statesync.store.outbox import changes
from statesync.store.outbox.fold import fold
from statesync.store.parts import StoreParts
from statesync.store.recovery import recover_if_free
from statesync.store.rereading import reread
from statesync.store.tracking import registry, triggers
from statesync.store.tracking.describe import describe
from statesync.store.tracking.objects import Objects, TrackedObject


def set_up(parts: StoreParts) -> None:
    """Create or migrate tables and triggers, then end sessions that were interrupted."""
    database = parts.database
    _check_path(database.path)
    schema.migrate(database)
    models = parts.registry.models
    with database.transaction() as connection:
        known = registry.load(connection)
        _create_tables(database, models)
        wanted = {name: describe(model, name) for name, model in models.items()}
        for name, tracked in wanted.items():
            if known.get(name) != tracked:
                _adopt(connection, known.get(name), tracked)
            if name not in known:
                _take_in(connection, tracked, keep_local=parts.registry.keeps_local(name))
            triggers.install(connection, tracked)
        parts.registry.begin(connection)
    recover_if_free(database, parts.lock)


def open_existing(parts: StoreParts) -> None:
    """Open a store that a program has set up, with the objects that it left. Runs no recovery.

    Raises ``StoreNotReady`` for a database that is none, and whatever keeps the file from being read.
    """
    database = parts.database
    if not stat.S_ISREG(_mode(database.path)):
        raise StoreNotReady(f"there is no file {database.path}; give the path of a device database")
    _check_path(database.path)
    # A connection of the store's own would leave its journal mode in a file that belongs to others.
    with database.errors_mapped(), closing(sqlite3.connect(database.path)) as plain:
        if not schema.is_store(plain, str(database)):
            raise StoreNotReady(f"{database} has never been set up as a store by a program")
    schema.migrate(database)
    with database.errors_mapped():
        parts.registry.begin(database.raw())


def _check_path(path: Path) -> None:
    if stat.S_ISDIR(_mode(path)):
        raise StoreCorrupt(f"{path} is a folder, not a database file")
    if not stat.S_ISDIR(_mode(path.parent)):
        raise StoreReadOnly(f"the folder {path.parent} does not exist; create it first")


def _mode(path: Path) -> int:
    """Return what stands at a path, as the system says it; 0 if nothing does.

    Raises ``StoreReadOnly`` where the system does not let us look.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise StoreReadOnly(
            f"{path} cannot be reached: {error.strerror}; check the path, and the rights to its folders"
        ) from error


def _create_tables(database: Database, models: dict[str, type[peewee.Model]]) -> None:
    missing = [model for model in models.values() if not database.peewee.table_exists(model._meta.table_name)]
    database.peewee.create_tables(missing, safe=True)


def _adopt(connection: sqlite3.Connection, known: TrackedObject | None, tracked: TrackedObject) -> None:
    """Write down how an object looks now; new columns are read from the hub again from the start."""
    if known is not None:
        before: Objects = {known.name: known}
        fold(connection, before)
        if set(tracked.column_names) - set(known.column_names):
            reread(connection, {tracked.name: tracked}, MISSED_DELETES)
    registry.save(connection, tracked)


def _take_in(connection: sqlite3.Connection, tracked: TrackedObject, *, keep_local: bool) -> None:
    """Answer for the records of a table that is tracked for the first time: no hub has seen them."""
    if keep_local:
        local_only.keep_all(connection, tracked)
    else:
        changes.offer_new(connection, tracked)
