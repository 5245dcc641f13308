"""The store as one session sees it: what its transactions write, and what they came to.

``SessionStore`` is the only door between a session's loop and the device database (``session.storage``). What
it and its ``uploads`` and ``downloads`` hold is staged between two transitions (the next batch, a decoded
page, resolved conflicts) and nothing that must survive: that is in the database.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from statesync.errors import InternalError, StoreChanged, StoreLocked, UsageError
from statesync.lifecycle import AnyTrigger
from statesync.machine import Move
from statesync.protocol.conversation import Committed
from statesync.protocol.messages import (
    Adapt,
    Answered,
    Begin,
    BeginSession,
    ComposeAhead,
    Effect,
    Prepare,
    Prepared,
    StoreAnswer,
    StoreBatch,
)
from statesync.store import claims, opening, rereading
from statesync.store.context import SessionContext
from statesync.store.download.downloads import Downloads
from statesync.store.download.fitting import PageDoesNotFit, TransactionLost
from statesync.store.effects import Effects
from statesync.store.ending.leaving import LeftEnd, end_left
from statesync.store.ending.recovery import recover
from statesync.store.file.tenure import Tenure
from statesync.store.indexes.building import build_all
from statesync.store.journal import batches, history, sessions
from statesync.store.journal.transitions import Detail, JournalWriter
from statesync.store.outbox import queue
from statesync.store.parts import StoreParts
from statesync.store.tracking.objects import Objects, chosen
from statesync.store.tracking.wanted import fitted
from statesync.store.upload.uploads import Uploads
from statesync.values import Reason, SyncOptions, SyncResult
from statesync.wire import Page, Pull, Push, PushAnswer

_OF_THE_STORE = (BeginSession, StoreBatch, StoreAnswer, Adapt)
"""Effects that act on records: they hold only for the store as it was when the session began."""

NOTHING_COMMITTED = Committed()


class SessionStore:
    """What one session does with the store. Used by the session's thread alone, inside ``connected``.

    ``open`` comes first.
    """

    _context: SessionContext
    _uploads: Uploads
    _downloads: Downloads
    _effects: Effects

    def __init__(
        self,
        parts: StoreParts,
        session: str,
        space: str,
        names: tuple[str, ...],
        options: SyncOptions,
        tenure: Tenure,
        tell_recorded: Callable[[], object],
    ) -> None:
        self._parts, self._session, self._space, self._names = parts, session, space, names
        self._tenure, self._options, self._tell_recorded = tenure, options, tell_recorded
        self._journal = JournalWriter(session, began=time.monotonic())
        self._found: Begin | None = None
        self.is_recorded: bool = False

    def open(self) -> None:
        """Let the store follow its tables, end what was interrupted, and record the session.

        Where it finds nothing to send, and nothing else to write down, its first transition records it: that
        is a commit less. Whoever keeps the file from being written, or read, is waited for as for another
        writer. Raises what ``create`` raises, and ``StoreError``; nothing is recorded then.
        """
        until = time.monotonic() + self._parts.database.busy_timeout
        while True:
            try:
                self._open()
            except StoreLocked:
                if time.monotonic() >= self._tenure.may_wait_until(until):
                    raise
            else:
                return

    def _open(self) -> None:
        self._tenure.check()
        opening.follow_tables(self._parts)
        recover(self._parts.database)
        if not self._may_be_recorded_later():
            self.create()

    def _may_be_recorded_later(self) -> bool:
        """Tell whether the objects are as a session of this space left them, and nothing waits to go up."""
        with self._errors_mapped():
            raw = self._parts.database.raw()
            self._know(self._parts.registry.refresh(raw))
            if not self._downloads.are_ready(raw):
                return False
            self._found = found = self._look()
            return not (found.waiting or found.replay)

    def create(self) -> None:
        """Record the session in the phase idle, for the objects as they are described now.

        Raises ``UsageError`` for an object of another space, ``UnknownObject`` for one that is not tracked
        any more, and ``BadOptions`` for a filter on a column that an object has not.
        """
        with self._parts.database.transaction() as connection:
            self._know(self._parts.registry.refresh(connection))
            context, self._found = self._context, None
            elsewhere = claims.claim_objects(connection, context.objects, context.space)
            if elsewhere is not None:
                raise UsageError(
                    f"{elsewhere} belongs to another space than {context.space!r}, and an object is synced "
                    "with one space of one hub; reset() it first"
                )
            if context.options.downloads:
                rereading.apply_filters(connection, context.objects, context.filters)
            self._record(connection)
        self._note_recorded()

    def _know(self, tracked: Objects) -> None:
        self._context = context = self._context_of(tracked)
        self._uploads, self._downloads = Uploads(context), Downloads(context)
        self._effects = Effects(context, self._uploads, self._downloads)

    def _record(self, connection: sqlite3.Connection) -> None:
        context = self._context
        sessions.create_session(connection, context.session, context.space, context.objects)
        sessions.prune(connection, context.parts.keep_sessions)

    def _note_recorded(self) -> None:
        self.is_recorded = True
        self._tell_recorded()

    def _context_of(self, tracked: Objects) -> SessionContext:
        objects = chosen(tracked, self._names)
        filters = {name: fitted(wanted, objects[name]) for name, wanted in self._options.filter.items()}
        return SessionContext(
            self._parts, self._session, self._space, objects, tracked, self._options, filters
        )

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Give the session's thread its connection, for as long as its tenure lasts."""
        with self._parts.database.session_connection(self._tenure):
            yield

    def clear_up_request(self) -> None:
        """Close what a remote of the program's own has opened in the calling thread, that of a request."""
        self._parts.database.clear_up()

    def interrupt(self) -> None:
        """Let the statement fail that the session's thread is in. From another thread."""
        self._parts.database.peewee.interrupt_session()

    def end_left(self, reason: Reason) -> LeftEnd:
        """End the session without its thread, whose tenure is over. From another thread; see ``end_left``."""
        return end_left(self._context, self._journal.began, reason)

    def result(self) -> SyncResult:
        """Return what the session did, as the database has it; raises ``StoreError``."""
        left_out = self._downloads.left_out()
        with self._errors_mapped():
            return history.result(
                self._context.raw(),
                self._context.session,
                left_out.errors,
                left_out.quarantined,
                with_batches=self._context.options.get_sync_stats,
                has_uploaded=self._uploads.has_looked,
                has_moved=self._uploads.has_looked or self._downloads.has_brought,
            )

    # -- what the session's loop asks for --------------------------------------------------------------

    def begin(self) -> Begin:
        """Look for a batch in doubt, and whether anything may wait: what was logged may come to nothing.

        It makes the connection ready for pages, too.
        """
        with self._errors_mapped():
            return self._found or self._look()

    def _look(self) -> Begin:
        raw, context = self._context.raw(), self._context
        self._downloads.connect(raw)
        asked = f"SELECT {batches.ANY_IN_DOUBT}, {queue.any_waiting(context.objects)}"
        in_doubt, waiting = raw.execute(asked, {"space": context.space}).fetchone()
        return Begin(replay=bool(in_doubt), waiting=bool(waiting))

    def prepare(self, wanted: Prepare) -> Prepared:
        """Stage the next upload batch."""
        with self._errors_mapped():
            return self._uploads.prepare(wanted)

    def compose_ahead(self, wanted: ComposeAhead) -> None:
        """Compose the upload batch that may follow; writes nothing."""
        with self._errors_mapped():
            self._uploads.compose_ahead(wanted)

    def push_request(self) -> Push:
        """Return the request of the open upload."""
        with self._errors_mapped():
            return self._uploads.request()

    def page_request(self, page_size: int) -> Pull:
        """Return the request of the open download, for up to ``page_size`` records; 0: the hub's choice."""
        with self._errors_mapped():
            return self._downloads.request(page_size)

    def request_ahead(self, page_size: int) -> Pull:
        """Return the request that follows once the staged page is stored."""
        with self._errors_mapped():
            return self._downloads.request_ahead(page_size)

    def take(self, request: Push | Pull, answer: PushAnswer | Page) -> Answered:
        """Check an answer and stage it; writes nothing. Raises ``BadAnswer``."""
        with self._errors_mapped():
            if isinstance(answer, PushAnswer):
                return self._uploads.take(answer)
            if isinstance(request, Pull):
                return self._downloads.take(request, answer)
        raise UsageError("a page is no answer to an upload")

    def build(self, is_called: Callable[[], bool]) -> bool:
        """Build the indexes that wait; False if that was broken off. The log is written back afterwards."""
        self._parts.database.peewee.put_off_checkpoint()
        return build_all(self._parts.database, is_called)

    def _errors_mapped(self) -> AbstractContextManager[None]:
        return self._parts.database.errors_mapped()

    # -- transactions --------------------------------------------------------------------------------

    def commit(self, moves: tuple[Move, ...], effects: tuple[Effect, ...]) -> Committed:
        """Write effects and journal rows in one transaction: the ``Commit`` of the machine.

        A page with a record that does not fit its table is rolled back, and stored record by record. That
        costs nothing where all fit: a savepoint would copy every page of the file before it is written.
        """
        while True:
            try:
                return self._commit(moves, effects)
            except (PageDoesNotFit, TransactionLost) as found:
                self._downloads.look_closer(found)
            except StoreChanged:  # while another writer was waited for: the session has yet to begin
                if self.is_recorded:
                    raise
                self.create()
                self._look()

    def _commit(self, moves: tuple[Move, ...], effects: tuple[Effect, ...]) -> Committed:
        details: dict[AnyTrigger, Detail] = {}
        committed = NOTHING_COMMITTED
        self._refuse_open_transaction()
        with self._parts.database.transaction() as connection:
            if any(isinstance(effect, _OF_THE_STORE) for effect in effects):
                self._context.check_store(connection)
            if not self.is_recorded:
                self._record(connection)
            for effect in effects:
                committed = self._effects.write(connection, effect, details) or committed
            last = self._journal.write(connection, moves, self._effects.batch, details)
        self._refuse_open_transaction()
        if any(isinstance(effect, StoreAnswer) for effect in effects):
            self._downloads.end_page()  # it would lie beside the page that is decoded next
        self._journal.last = last
        if not self.is_recorded:
            self._note_recorded()
        return committed

    def _refuse_open_transaction(self) -> None:
        """Raise ``InternalError`` in a transaction that is not ours to commit."""
        if self._parts.database.in_transaction():
            raise InternalError(
                f"{self._parts.database}: code of the program's left a transaction open on the session's own "
                "connection: nothing of the session would be stored in it"
            )
