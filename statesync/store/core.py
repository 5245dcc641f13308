"""The store's core: the database, the objects that it tracks, setting up, recovery, and the lock.

One session uses a store at a time, across threads and processes. The lock is a file lock, which dies with
its holder, so a session that the journal shows as running while the lock is free was interrupted.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import peewee

from statesync.errors import (
    Interrupted,
    StoreCorrupt,
    StoreNotReady,
    StoreReadOnly,
    SyncInProgress,
    UnknownObject,
    UnsupportedModel,
)
from statesync.lifecycle import AnyTrigger, BatchPhase, Facts, Phase, Trigger
from statesync.machine import Move, SessionMachine
from statesync.store import journal, schema
from statesync.store.file.database import Database
from statesync.store.file.lock import StoreLock
from statesync.store.outbox import fold
from statesync.store.standing import HORIZON, reread
from statesync.store.tracking import triggers
from statesync.store.tracking.model import Model
from statesync.store.tracking.objects import TrackedObject, describe


class Core:
    """A device database with its tracked objects. Made by ``Store``; not ready before ``setup``."""

    def __init__(self, path: str | Path, busy_timeout: float, keep_sessions: int) -> None:
        self.database: Database = Database(path, busy_timeout)
        self.keep_sessions = keep_sessions
        self._models: dict[str, type[peewee.Model]] = {}
        self._objects: dict[str, TrackedObject] | None = None
        self.lock: StoreLock = StoreLock(self.database.path)

    # -- objects -------------------------------------------------------------------------------------

    @property
    def objects(self) -> dict[str, TrackedObject]:
        """The tracked objects by name. Raises ``StoreNotReady`` before ``setup``."""
        if self._objects is None:
            raise StoreNotReady(f"{self.database} is not set up; call setup() once the models are defined")
        return self._objects

    def register(self, model: type[peewee.Model], name: str | None) -> None:
        """Remember a model; ``setup`` does the rest. Raises ``UnsupportedModel`` for an unfit key."""
        described = describe(model, name)
        for known, other in self._models.items():  # SQLite's names, of tables and triggers, have no case
            if known.lower() == described.name.lower() and (other is not model or known != described.name):
                raise UnsupportedModel(
                    f"{model.__name__} cannot be tracked as {described.name}: another model is tracked as "
                    f"{known}, and names have no case here; name one otherwise: "
                    f"track({model.__name__}, name=…)"
                )
        self._models[described.name] = model

    def name_of(self, model: type[peewee.Model]) -> str:
        """Return the object's name of a model. Raises ``UnknownObject`` if it is not tracked."""
        for name, known in self._models.items():
            if known is model and name in self.objects:
                return name
        raise UnknownObject(
            f"{model.__name__} is not tracked by {self.database}; derive it from store.Model or call "
            "store.track() with it, and then setup()"
        )

    def forget(self, names: Iterable[str]) -> None:
        """Track these objects no longer."""
        for name in names:
            self._models.pop(name, None)
            self.objects.pop(name, None)

    # -- setting up ----------------------------------------------------------------------------------

    def setup(self) -> None:
        """Create or migrate tables and triggers, then end sessions that were interrupted."""
        self._check_file()
        schema.migrate(self.database)
        models = dict(self._models)
        with self.database.transaction() as connection:
            known = load_objects(connection)
            self._create_tables(models)
            wanted = {name: describe(model, name) for name, model in models.items()}
            for name, tracked in wanted.items():
                if known.get(name) != tracked:
                    _adopt(connection, known.get(name), tracked)
                triggers.install(connection, tracked)
            self._objects = known | wanted
        self.recover_if_free()

    def open_existing(self) -> None:
        """Open a store that a program has set up, with the objects that it left. Runs no recovery.

        Raises ``StoreNotReady`` for a database that is none, and whatever keeps the file from being read.
        """
        if not self.database.path.is_file():
            raise StoreNotReady(f"there is no file {self.database.path}; give the path of a device database")
        self._check_file()
        # A connection of the store's own would leave its journal mode in a file that belongs to others.
        with self.database.errors_mapped(), closing(sqlite3.connect(self.database.path)) as plain:
            if not schema.is_store(plain):
                raise StoreNotReady(f"{self.database} has never been set up as a store by a program")
        schema.migrate(self.database)
        with self.database.errors_mapped():
            self._objects = load_objects(self.database.raw())

    def _check_file(self) -> None:
        path = self.database.path
        if path.is_dir():
            raise StoreCorrupt(f"{path} is a folder, not a database file")
        if not path.parent.is_dir():
            raise StoreReadOnly(f"the folder {path.parent} does not exist; create it first")

    def _create_tables(self, models: dict[str, type[peewee.Model]]) -> None:
        missing = [
            model
            for model in models.values()
            if not self.database.peewee.table_exists(model._meta.table_name)
        ]
        self.database.peewee.create_tables(missing, safe=True)

    # -- the lock ------------------------------------------------------------------------------------

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the store for the length of the block."""
        self.lock.acquire()
        try:
            yield
        finally:
            self.lock.release()

    # -- recovery ------------------------------------------------------------------------------------

    def recover_if_free(self) -> None:
        """End interrupted sessions, unless a live one holds the store."""
        with suppress(SyncInProgress), self.held():
            self.recover()

    def recover(self) -> None:
        """End every session that the journal shows as running as ``failed``, interrupted (K8).

        The caller holds the lock, so none of them can be alive. An upload that was under way stays in
        doubt; everything else that was staged is dropped.
        """
        with self.database.errors_mapped():
            rows = self.database.raw().execute(
                "SELECT id, phase FROM statesync_session WHERE phase NOT IN ('done', 'cancelled', 'failed')"
            )
            interrupted = rows.fetchall()
        for session, phase in interrupted:
            self._end_interrupted(session, Phase(phase))

    def _end_interrupted(self, session: str, phase: Phase) -> None:
        raw = self.database.raw()
        last, elapsed = raw.execute(
            "SELECT coalesce(max(number), 0), coalesce(max(elapsed), 0) FROM statesync_transition "
            "WHERE session = ?",
            (session,),
        ).fetchone()
        batch = raw.execute(
            "SELECT number, phase FROM statesync_batch "
            "WHERE session = ? AND phase NOT IN ('committed', 'aborted')",
            (session,),
        ).fetchone()
        writer = journal.JournalWriter(session, began=time.monotonic() - elapsed, last=last)
        number = batch[0] if batch else None
        machine = SessionMachine.standing_at(phase, BatchPhase(batch[1]) if batch else None)
        error = Interrupted("the program ended while the session was running; sync again to go on")

        def commit(moves: tuple[Move, ...]) -> None:
            with self.database.transaction() as connection:
                if number is not None:
                    journal.release_settled(connection, session, number)
                journal.end_session(connection, session, error.reason, error.message)
                writer.write(connection, moves, number, {Trigger.FAIL: {"reason": error.reason}})

        triggers: tuple[AnyTrigger, ...] = (Trigger.ABORT_BATCH, Trigger.FAIL) if batch else (Trigger.FAIL,)
        machine.fire(*triggers, facts=Facts(request_ended=True), commit=commit)


def load_objects(connection: sqlite3.Connection) -> dict[str, TrackedObject]:
    """Return the tracked objects that the database describes."""
    rows = connection.execute("SELECT name, description FROM statesync_object ORDER BY name")
    return {name: TrackedObject.from_json(name, text) for name, text in rows}


def _adopt(connection: sqlite3.Connection, known: TrackedObject | None, tracked: TrackedObject) -> None:
    """Write down how an object looks now; new columns are read from the hub again from the start."""
    if known is not None:
        fold(connection, {known.name: known})
        if set(tracked.column_names) - set(known.column_names):
            reread(connection, {tracked.name: tracked}, HORIZON)
    connection.execute(
        "INSERT INTO statesync_object VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET description = excluded.description",
        (tracked.name, tracked.to_json()),
    )


def model_base(core: Core) -> type[Model]:
    """Return a ``Model`` whose subclasses are tracked by ``core`` as soon as they are made."""

    class Registering(peewee.ModelBase):
        """Registers every subclass as soon as Peewee has made it, so an unfit key is refused right there."""

        def __init__(
            self, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **more: Any
        ) -> None:
            super().__init__(name, bases, namespace, **more)
            if any(isinstance(base, Registering) for base in bases):
                core.register(cast(type[peewee.Model], self), None)

    class Tracked(Model, metaclass=Registering):
        """Derive from it to have a tracked object: its records are synced, its ``id`` is a UUIDv7."""

        class Meta:
            """Where the table lives."""

            database = core.database.peewee

    return Tracked
