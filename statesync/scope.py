"""The API: ``Store`` and ``Scope``, and the sessions that they start (section 8 of the design)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, cast

import peewee

from statesync.checks import as_wait, check_callbacks, check_kind, check_remote
from statesync.complaints import Complaint
from statesync.diagnosis.found import Diagnosis, SurveyRemote
from statesync.errors import BadOptions, NothingToCancel, UnknownObject, UsageError
from statesync.remote import Remote
from statesync.session import loading
from statesync.session.handle import OnFailure, OnProgress, OnSuccess, Session
from statesync.session.running import Running
from statesync.store import opening
from statesync.store.awaited.selection import AwaitedSelection
from statesync.store.cursors.applied import stored_filters
from statesync.store.evolution.steps import as_steps
from statesync.store.news.desk import Desk
from statesync.store.parts import StoreParts
from statesync.store.selection import Selection
from statesync.store.tracking.model import Model, model_base
from statesync.store.tracking.wanted import check_names
from statesync.values import CancelOptions, JournalEntry, Reason, SessionInfo, SyncOptions, SyncResult

_Tracked = TypeVar("_Tracked", bound=peewee.Model)


class Store(AwaitedSelection):
    """A device database at ``path`` whose tracked records can be synced with a hub.

    ``path`` stands for the real file that it leads to now. ``busy_timeout`` is how many seconds a write
    waits for another program's. ``keep_sessions`` is how many sessions the history keeps, at least 1. Give
    models to ``track``, or derive them from ``store.Model``, which does that by itself; then call
    ``setup()``. (mypy takes no base class from a value, so it knows only the first way.)
    """

    def __init__(self, path: str | Path, *, busy_timeout: float = 5.0, keep_sessions: int = 1000) -> None:
        parts = StoreParts(path, busy_timeout, keep_sessions)
        super().__init__(parts, None, Desk(parts))
        self.Model: type[Model] = model_base(
            self._parts.registry, self._parts.database.peewee, self._set_up_late
        )
        self._running = Running()
        self._migrations: tuple[Callable[[Any], object], ...] = ()
        self._is_set_up = False

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a device database that a program has set up, without that program's models.

        Raises ``StoreNotReady`` for a file that is none, ``StoreTooNew``, ``StoreCorrupt``, and so on.
        """
        store = cls(path)
        opening.open_existing(store._parts)
        return store

    @property
    def database(self) -> peewee.SqliteDatabase:
        """The Peewee database."""
        return self._parts.database.peewee

    def track(
        self,
        model: type[_Tracked],
        *,
        name: str | None = None,
        existing: Literal["offer", "local"] = "offer",
    ) -> type[_Tracked]:
        """Track a model, and return it: a decorator. ``statesync.Model`` has a fit key; any Peewee model
        with a text or UUID key will do.

        ``name`` is the object's name on the wire, else it is the model's. Binds the model to this store's
        database. Takes effect with ``setup()``; after that, at once. ``existing`` says what becomes of
        records that are in the table when it is tracked for the first time: the hub is offered them as new,
        or they stay ``"local"`` only, as if written in ``untracked()``. Raises ``UnsupportedModel`` for a key
        that two devices would both make up, and ``BadOptions`` for another ``existing`` or for a name that no
        hub takes; nothing is tracked then.
        """
        if existing not in ("offer", "local"):
            raise BadOptions(f"existing is {existing!r}; give 'offer' or 'local'")
        self._parts.registry.register(model, name, keep_local=existing == "local")
        model.bind(self.database)
        self._set_up_late(model)
        return model

    def _set_up_late(self, model: type[peewee.Model]) -> None:
        """Set a model up that is tracked after ``setup()``, or do not track it."""
        if not self._is_set_up:
            return
        try:
            self.setup()
        except BaseException:
            self._parts.registry.unregister(model)
            raise

    def setup(self, migrations: Sequence[Callable[[Any], object]] | None = None) -> None:
        """Create tables and triggers, migrate, and end interrupted sessions (K8). May be called again.

        ``migrations`` are the steps by which the program's tables have changed since its first version. Each
        is taken once, all in one transaction, untracked, without foreign keys: nothing of them goes up, and
        nothing cascades. A step is a function of the ``sqlite3`` connection or, if its parameter is called
        ``migrator``, of Peewee's ``SqliteMigrator``, whose operations it may return. A fresh file takes none.
        New columns that may be empty or have a default are added without a step.

        Raises ``UnsupportedModel`` for a model that does not fit its table, ``SyncInProgress`` where
        migrations wait too long for a session, and what a step raises; nothing was changed then. Raises
        ``StoreTooNew``, ``StoreCorrupt``, ``StoreReadOnly``, ``StoreFull`` or ``StoreLocked``, each with what
        to do.
        """
        if migrations is not None:
            self._migrations = as_steps(migrations)
        opening.set_up(self._parts, self._migrations)
        self._is_set_up = True

    def drop_object(self, name: str) -> None:
        """Delete an object from the device for good, by its name: table, triggers, pending changes.

        For one whose model is gone from the program, or whose table is. Raises ``UnknownObject`` for a name
        that the store does not know, and ``SyncInProgress`` while a session runs.
        """
        check_kind("name", name, str, "a text")
        if name not in self._parts.registry.known:
            known = ", ".join(self._parts.registry.known)
            raise UnknownObject(f"{name} is no object of {self._parts.database}, which has: {known}")
        Selection(self._parts, (name,)).drop()

    def scope(self, remote: Remote, *models: type[peewee.Model]) -> Scope:
        """Return what a session with ``remote`` syncs: these models, or every tracked one.

        Raises ``UnknownObject`` for a model that is not tracked, ``BadOptions`` for what is no remote.
        """
        check_remote(remote)
        names = tuple(self._parts.registry.name_of(model) for model in models)
        return Scope(self._parts, self._running, self._desk, remote, names or None)

    def session(self, session_id: str) -> SessionInfo:
        """Return one session of the history by its id or the beginning of it; else ``UnknownObject``.

        Raises ``BadOptions`` for what is no text, and so does ``journal``.
        """
        from statesync.store.journal import history

        check_kind("session_id", session_id, str, "a text")
        with self._parts.database.errors_mapped():
            return history.session(self._parts.database.raw(), session_id)

    def journal(self, session_id: str) -> list[JournalEntry]:
        """Return every transition of a session, in the order in which it was taken."""
        from statesync.store.journal import history

        with self._parts.database.errors_mapped():
            return history.journal(self._parts.database.raw(), self.session(session_id).id)

    def examine(self) -> list[Complaint]:
        """Hold file, triggers, outbox, cursors and journal against each other; return what is wrong.

        An empty list is a sound store. Reads the whole file, so its time follows the database's size; a
        session that runs meanwhile goes on, and one state of the store is read.
        """
        # Thirteen modules that a program which only syncs need not load.
        from statesync.store.care.repair import examine

        return examine(self._parts)

    def repair(self) -> list[Complaint]:
        """Mend what ``examine`` finds; return what could not be mended, and what is gone, table by table.

        No pending change that can be read is lost, and no record that cannot be read is taken for deleted.
        What has to come from the hub, or has to be compared with it, comes with the next sync. A copy of a
        damaged file is kept, with ``.damaged`` at its end. May be called before ``setup()``, which refuses a
        damaged file. Raises ``SyncInProgress`` while a session runs, ``StoreLocked`` while another connection
        has a damaged file open, ``StoreCorrupt`` for a file of which not even the list of tables can be read,
        and ``StoreError`` where the program's collations or functions are needed: register them on
        ``database`` first. The file is as it was then.
        """
        from statesync.store.care.repair import check_mendable, mend

        check_mendable(self._parts)
        with self._desk.paused(), self._parts.lock.held():
            return mend(self._parts)

    async def setup_async(self, migrations: Sequence[Callable[[Any], object]] | None = None) -> None:
        """Do what ``setup`` does, beside the event loop."""
        await self._beside(partial(self.setup, migrations))

    async def examine_async(self) -> list[Complaint]:
        """Do what ``examine`` does, beside the event loop."""
        return await self._beside(self.examine)

    async def repair_async(self) -> list[Complaint]:
        """Do what ``repair`` does, beside the event loop."""
        return await self._beside(self.repair)

    async def close_async(self, grace: float | None = None) -> None:
        """Do what ``close`` does, beside the event loop; closes the connection of its thread, too."""
        await self._beside(partial(self.close, grace))
        self._parts.database.close()

    def close(self, grace: float | None = None) -> None:
        """Stop keepers, cancel a running session, wait for both, and close the calling thread's connection.

        ``grace`` are the seconds that its batch in flight may take; None: as its ``cancel_grace`` says. A
        callback of its end that hangs gets no more, and one that is beginning in another thread ends, too.
        Whoever observes the store is told nothing any more; a callback that is under way gets as long.
        Raises ``BadOptions`` for what is no number of seconds, and ``UsageError`` in a callback of that
        session, which it cannot wait for; it is cancelled all the same.
        """
        seconds = CancelOptions(grace=grace).grace
        keepers = self._running.end_keepers(seconds)
        unfinished = self._running.unfinished()
        for session in unfinished:
            if grace is None:
                session.cancel_in_time(Reason.SHUTDOWN)
            else:
                session.cancel(grace, reason=Reason.SHUTDOWN)
        for session in unfinished:
            session.wait()
        for keeper in keepers:
            keeper.wait()
        self._desk.close(as_wait(seconds))
        self._parts.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Scope(AwaitedSelection):
    """What one session syncs with one remote. Made by ``Store.scope``."""

    def __init__(
        self,
        parts: StoreParts,
        running: Running,
        desk: Desk,
        remote: Remote,
        names: tuple[str, ...] | None,
    ) -> None:
        super().__init__(parts, names, desk)
        self.remote = remote
        self._running = running

    def start_sync(
        self,
        options: SyncOptions | None = None,
        on_success: OnSuccess | None = None,
        on_failure: OnFailure | None = None,
        on_progress: OnProgress | None = None,
    ) -> Session:
        """Start a session and return it at once.

        ``on_success`` gets the ``SyncResult``, ``on_failure`` the error, ``on_progress`` its ``Progress``:
        ten times a second at most, and at once each part, each failure and the end.
        What is wrong before a session exists is raised here, and nothing is recorded: ``SyncInProgress``,
        ``UsageError`` (also inside a transaction of the calling thread), ``BadOptions`` for a filter on a
        column that is not there, ``StoreError``.
        """
        session = self._begin(options, on_success, on_failure, on_progress)
        try:
            session.wait_for_start()
        except BaseException:  # a Ctrl-C, perhaps: nobody else has the session, to end it
            session.cancel_in_time()
            raise
        return session

    def _begin(
        self,
        options: SyncOptions | None,
        on_success: OnSuccess | None = None,
        on_failure: OnFailure | None = None,
        on_progress: OnProgress | None = None,
    ) -> Session:
        """Return a session that is being started, and has not begun yet: who waits for it is told of that."""
        chosen = options if options is not None else SyncOptions()
        check_kind("options", chosen, SyncOptions, "SyncOptions")
        check_callbacks(on_success=on_success, on_failure=on_failure, on_progress=on_progress)
        check_names(chosen.filter, self.objects)
        if self._parts.database.in_transaction():
            raise UsageError(
                "a sync cannot run inside a transaction of the thread that starts it: each would wait for "
                "the other; end the transaction first"
            )
        loading.load()
        self._parts.lock.acquire()
        try:
            session = Session(
                self._parts, self.remote, self.objects, chosen, on_success, on_failure, on_progress
            )
        except BaseException:
            self._parts.lock.release()
            raise
        self._running.begin(session)
        session.start()
        return session

    def cancel_sync(
        self,
        options: CancelOptions | None = None,
        on_success: Callable[[object], object] | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        """Cancel the running session of these objects; returns at once.

        ``on_success`` is called when the session has ended in ``cancelled``, ``on_failure`` when it ended
        otherwise. With nothing to cancel, ``on_failure`` gets ``NothingToCancel``; without it, it is raised.
        Of a session that has ended, and whose callbacks hang, only the wait for them is cut (``grace``).
        """
        check_kind("options", options, (CancelOptions, NoneType), "CancelOptions")
        check_callbacks(on_success=on_success, on_failure=on_failure)
        session, grace = self._running.session, options.grace if options else None
        if session is not None and set(session.objects) & set(self.objects) and not session.is_over():
            is_heard = session.on_cancel(on_success, on_failure)
            session.cancel(grace)
            if is_heard or (grace is not None and on_failure is None):
                return
        nothing = NothingToCancel(f"no sync of {', '.join(self.objects)} is running")
        if on_failure is None:
            raise nothing
        on_failure(nothing)

    def sync(self, options: SyncOptions | None = None, on_progress: OnProgress | None = None) -> SyncResult:
        """Run one session and wait for it. A ``KeyboardInterrupt`` cancels it and waits for the drain.

        That takes no longer than the options' ``cancel_grace`` and a second.
        """
        session = self._begin(options, on_progress=on_progress)
        try:
            return session.result()
        except KeyboardInterrupt:
            session.cancel_in_time()
            session.wait()
            raise

    def diagnose(self) -> Diagnosis:
        """Compare the device with the hub by checksums, down to the records that differ; changes nothing.

        Cheap enough to run daily: where all is equal it is one small request an object (some, of a very large
        one). Raises ``RemoteError``, and ``UsageError`` for a remote that cannot be asked.
        """
        if not hasattr(self.remote, "survey"):
            raise UsageError(f"{type(self.remote).__name__} has no survey(); it cannot be compared with")
        from statesync.diagnosis.comparing import diagnose

        with self._folded() as connection:
            filters = stored_filters(connection, self.objects)
        return diagnose(connection, cast(SurveyRemote, self.remote), self._tracked(), filters)

    async def diagnose_async(self) -> Diagnosis:
        """Do what ``diagnose`` does, beside the event loop."""
        return await self._beside(self.diagnose)

    async def sync_async(
        self, options: SyncOptions | None = None, on_progress: OnProgress | None = None
    ) -> SyncResult:
        """Run one session beside the event loop. Cancelling the task cancels it and waits for the drain.

        That takes no longer than the options' ``cancel_grace`` and a second.
        """
        # asyncio is a tenth of what the import of statesync takes, and most programs have threads.
        from statesync.session.aio import follow

        if not loading.is_loaded() and not self._parts.database.in_transaction():
            await self._beside(loading.load)
        return await follow(self._begin(options, on_progress=on_progress))
