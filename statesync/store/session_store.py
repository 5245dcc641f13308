"""One session's work on the store: what its transactions write, and what came of it.

``Work`` is the driver's hand on the store. What it and its ``uploads`` and ``downloads`` hold is staged
between two transitions (the next batch, a decoded page, resolved conflicts) and nothing that must survive:
that is in the database.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from statesync.errors import UsageError
from statesync.lifecycle import AnyTrigger, Trigger
from statesync.machine import Move
from statesync.protocol.messages import (
    Adapt,
    BeginSession,
    DropBatch,
    Effect,
    EndSession,
    StoreAnswer,
    StoreAttempt,
    StoreBatch,
    StoreDoubt,
)
from statesync.store import history, journal, outbox, standing
from statesync.store.context import Brief, Timing
from statesync.store.core import Core
from statesync.store.download.downloads import Downloads
from statesync.store.upload.uploads import Uploads
from statesync.values import Direction, SyncOptions, SyncResult

_MUCH = 100
"""Records of a session from which on SQLite's log may be long, and is written back when it has ended."""


class Work:
    """The store as one session sees it. Used by the session's thread alone, inside ``connected``."""

    def __init__(
        self, core: Core, session: str, space: str, names: tuple[str, ...], options: SyncOptions
    ) -> None:
        objects = {name: core.objects[name] for name in names}
        self._brief = Brief(core, session, space, objects, options)
        self.uploads: Uploads = Uploads(self._brief)
        self.downloads: Downloads = Downloads(self._brief)
        self._journal = journal.JournalWriter(session, began=time.monotonic())
        self._batch: int | None = None
        self._details: dict[AnyTrigger, journal.Detail] = {}
        self.timing: Timing = Timing()
        self.committed: int = 0
        """Records of the batch that was committed last."""
        self._stored = 0

    def create(self) -> None:
        """Record the session in the phase idle. Raises ``UsageError`` for an object of another space."""
        brief = self._brief
        with brief.core.database.transaction() as connection:
            elsewhere = standing.belongs(connection, brief.objects, brief.space)
            if elsewhere is not None:
                raise UsageError(
                    f"{elsewhere} belongs to another space than {brief.space!r}, and an object is synced "
                    "with one space of one hub; reset() it first"
                )
            if brief.options.downloads:
                standing.apply_filters(connection, brief.objects, brief.options.filter)
            journal.create_session(connection, brief.session, brief.space, brief.objects)
            journal.prune(connection, brief.core.keep_sessions)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Give the session's thread its connection."""
        with self._brief.core.database.session_connection() as connection:
            self.downloads.connect(connection)
            yield

    def errors_mapped(self) -> AbstractContextManager[None]:
        """Turn what SQLite raises inside the block, also by mere reading, into a ``StoreError``."""
        return self._brief.core.database.errors_mapped()

    def has_doubt(self) -> bool:
        """Tell whether a batch of an earlier session is in doubt in this space."""
        return journal.batch_in_doubt(self._brief.raw(), self._brief.space) is not None

    def may_upload(self) -> bool:
        """Tell whether anything may wait for the hub: what was logged may still come to nothing."""
        return outbox.is_in_use(self._brief.raw(), self._brief.objects)

    def result(self) -> SyncResult:
        """Return what the session did, as the database has it."""
        return history.result(
            self._brief.raw(),
            self._brief.session,
            self.downloads.orphans,
            with_batches=self._brief.options.get_sync_stats,
        )

    # -- transactions --------------------------------------------------------------------------------

    def commit(
        self,
        moves: tuple[Move, ...],
        effects: tuple[Effect, ...],
        details: Mapping[AnyTrigger, journal.Detail],
    ) -> None:
        """Write effects and journal rows in one transaction: the ``Commit`` of the machine.

        ``details`` are kept in the journal rows of their triggers.
        """
        self._details = dict(details)
        with self._brief.core.database.transaction() as connection:
            for effect in effects:
                self._write(connection, effect)
            last = self._journal.write(connection, moves, self._batch, self._details)
        self._journal.last = last

    def _write(self, connection: sqlite3.Connection, effect: Effect) -> None:
        session = self._brief.session
        match effect:
            case BeginSession():
                if effect.uploads:  # otherwise its horizon stays 0, and nothing goes up
                    self.uploads.begin(connection)
            case StoreBatch():
                self._store_batch(connection, effect)
            case StoreAttempt():
                journal.note_attempt(connection, session, effect.number, effect.attempt)
            case StoreAnswer():
                self._store_answer(connection, effect)
            case StoreDoubt():
                journal.set_doubt(connection, session, effect.number, doubtful=effect.doubtful)
            case DropBatch():
                self._drop_batch(connection, effect)
            case Adapt():
                objects = standing.objects_of(connection, self._brief.space, self._brief.core.objects)
                standing.adapt(connection, self._brief.space, objects, effect.problem)
            case EndSession():
                self._end(connection, effect)

    def _store_batch(self, connection: sqlite3.Connection, effect: StoreBatch) -> None:
        self._batch = effect.number
        self.timing = Timing()
        journal.create_batch(
            connection, self._brief.session, effect.number, effect.direction, self._brief.space
        )
        if effect.direction is Direction.UPLOAD:
            self.uploads.stage(connection, effect.number)

    def _store_answer(self, connection: sqlite3.Connection, effect: StoreAnswer) -> None:
        began = time.monotonic()
        only_uploads: dict[str, int] = {}
        if effect.direction is Direction.UPLOAD:
            outcome = self.uploads.store(connection, effect.number)
            self.committed = outcome.accepted
            only_uploads = {"conflicts": outcome.conflicts, "rejected": outcome.rejected}
        else:
            self.committed = self.downloads.store(connection, effect.number)
        self._stored += self.committed
        self._details[Trigger.COMMIT_BATCH] = {
            "direction": effect.direction,
            "records": self.committed,
            "request": self.timing.request,
            "parsing": self.timing.parsing,
            "storing": time.monotonic() - began,
            **only_uploads,
        }

    def _drop_batch(self, connection: sqlite3.Connection, effect: DropBatch) -> None:
        journal.set_doubt(connection, self._brief.session, effect.number, doubtful=effect.doubtful)
        if not effect.doubtful:
            journal.release_batch(connection, self._brief.session, effect.number)
        self.uploads.drop()
        self.downloads.drop()

    def _end(self, connection: sqlite3.Connection, effect: EndSession) -> None:
        message = effect.error.message if effect.error else None
        journal.end_session(connection, self._brief.session, effect.reason, message)
        self._details[Trigger.FAIL] = {"reason": effect.reason, "error": message}
        if self._stored >= _MUCH:
            self._brief.core.database.peewee.put_off_checkpoint()
