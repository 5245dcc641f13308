"""Opening a store: its tables, triggers and objects are made or found, and interrupted sessions are ended."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing, nullcontext, suppress
from logging import Logger, getLogger
from pathlib import Path

from statesync.errors import StoreCorrupt, StoreError, StoreFull, StoreNotReady, StoreReadOnly, SyncInProgress
from statesync.store.ending.recovery import recover
from statesync.store.evolution import adopting, columns, steps
from statesync.store.evolution.adopting import Takeover
from statesync.store.evolution.places import fold_where_it_is
from statesync.store.evolution.steps import Step
from statesync.store.file.database import Database
from statesync.store.indexes.building import build_all
from statesync.store.parts import StoreParts
from statesync.store.schema import migrating, notes
from statesync.store.tracking import registry, triggers
from statesync.store.tracking.describe import describe
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.tables.fitting import check, fit, table_of
from statesync.store.tracking.tables.table import Table

logger: Logger = getLogger(__name__)

_ROOM_OF_NEW = 1 << 19
"""Bytes that a new store takes, with its log, before anything is in it; rounded up."""


def set_up(parts: StoreParts, migrations: Sequence[Step]) -> None:
    """Create or migrate tables and triggers, then end sessions that were interrupted.

    The program's migrations find the indexes that wait built. Else they are in the end, if no session runs,
    and there is room for them.
    """
    database = parts.database
    _check_path(database.path)
    _check_room(database.path)
    migrating.migrate(database)
    with database.errors_mapped():
        is_due = steps.are_due(database.raw(), migrations)
    with steps.alone(database, parts.lock) if is_due else nullcontext():
        if is_due:
            build_all(database)
        with database.transaction() as connection:
            _Setup(parts, connection, migrations).run()
            parts.registry.begin(connection)
    with suppress(SyncInProgress), parts.lock.held():
        recover(database)
        _build_if_there_is_room(database)


def _build_if_there_is_room(database: Database) -> None:
    """Build the indexes that wait; a program that has all its records goes on without one."""
    try:
        build_all(database)
    except StoreFull as error:
        logger.warning("an index waits to be built until there is room for it: %s", error)


def follow_tables(parts: StoreParts) -> None:
    """Take over what has become of tables and indexes since the store was set up; cheap if nothing has.

    Raises ``StoreNotReady`` before that.
    """
    database = parts.database
    parts.registry.require_ready()
    with database.errors_mapped():
        if notes.is_as_noted(database.raw()):
            return
    with database.transaction() as connection:
        known = registry.load(connection)
        adopting.follow(connection, known, adopting.lost_among(connection, known))
        notes.note_schema(connection)
        parts.registry.begin(connection)


class _Setup:
    """One transaction of ``set_up``."""

    def __init__(self, parts: StoreParts, connection: sqlite3.Connection, migrations: Sequence[Step]) -> None:
        self._database, self._connection, self._migrations = parts.database, connection, migrations
        self._registry, self._has_migrated = parts.registry, False
        self._models = parts.registry.models
        self._wanted = {name: describe(model, name) for name, model in self._models.items()}
        self._known = registry.load(connection)

    def run(self) -> None:
        """Bring the store and its tables together."""
        connection = self._connection
        notes.settle_steps(connection, len(self._migrations))
        lost = adopting.lost_among(connection, self._known)
        missing = {name for name, one in self._wanted.items() if table_of(connection, one) is None}
        if steps.are_due(connection, self._migrations):
            self._migrate(is_fresh=not self._known and missing == self._models.keys())
            missing = {name for name, one in self._wanted.items() if table_of(connection, one) is None}
        self._database.peewee.create_tables([self._models[name] for name in missing], safe=True)
        # All their columns are there before any trigger is made: a new one may be a foreign key to another.
        found = {name: self._fitted(name, one, self._known.get(name)) for name, one in self._wanted.items()}
        for name, tracked in found.items():
            self._take_over(name, tracked, is_lost=name in lost or name in missing, is_new=name in missing)
        others = {name: tracked for name, tracked in self._known.items() if name not in self._wanted}
        adopting.follow(connection, others, lost)
        notes.note_schema(connection)

    def _migrate(self, *, is_fresh: bool) -> None:
        """Take the program's migrations, but on a fresh file: its tables are made as the models are now."""
        if is_fresh:
            notes.note_steps(self._connection, len(self._migrations))
            return
        self._has_migrated = True
        adopting.note_records(self._connection, self._known)
        for tracked in self._known.values():
            fold_where_it_is(self._connection, tracked)
            triggers.set_aside(self._connection, tracked)
        steps.take(self._database, self._connection, self._migrations)

    def _take_over(self, name: str, tracked: TrackedObject, *, is_lost: bool, is_new: bool) -> None:
        connection, known = self._connection, self._known.get(name)
        if known is None:
            adopting.begin(connection, tracked, keep_local=self._registry.keeps_local(name))
            return
        if is_lost:
            adopting.tell_lost(connection, known)
        adopting.adopt(connection, Takeover(known, tracked, is_lost=is_lost, is_new=is_new))
        if self._has_migrated:
            adopting.keep_made_records(connection, tracked)

    def _fitted(self, name: str, wanted: TrackedObject, known: TrackedObject | None) -> TrackedObject:
        """Return how an object looks, once its table has the model's columns. Raises ``UnsupportedModel``."""
        connection = self._connection
        is_older = notes.steps_taken(connection) > len(self._migrations)
        table = self._table(wanted)
        if columns.add_missing(connection, self._models[name], table, is_older=is_older):
            table = self._table(wanted)
        tracked = fit(table, wanted, known)
        check(connection, table, tracked)
        return tracked

    def _table(self, wanted: TrackedObject) -> Table:
        table = table_of(self._connection, wanted)
        if table is None:
            raise StoreError(f"{self._database}: the table {wanted.table} of {wanted.name} could not be made")
        return table


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
        if not migrating.is_store(plain, str(database)):
            raise StoreNotReady(f"{database} has never been set up as a store by a program")
    migrating.migrate(database)
    with database.errors_mapped():
        parts.registry.begin(database.raw())
    with suppress(StoreError):  # a file that is damaged or cannot be written may be looked at all the same
        follow_tables(parts)


def _check_path(path: Path) -> None:
    if stat.S_ISDIR(_mode(path)):
        raise StoreCorrupt(f"{path} is a folder, not a database file")
    if not stat.S_ISDIR(_mode(path.parent)):
        raise StoreReadOnly(f"the folder {path.parent} does not exist; create it first")


def _check_room(path: Path) -> None:
    """Refuse to begin a store where there is no room for it: an empty file would be left."""
    if _mode(path):
        return
    from shutil import disk_usage  # takes every way of packing along, and few openings begin a file

    whole, _, free = disk_usage(path.parent)
    if whole and free < _ROOM_OF_NEW:
        raise StoreFull(f"{path.name}: the disk is full; free some space, and set it up again")


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
