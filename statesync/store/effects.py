"""What a session has decided, written: each effect in the transaction of its transitions."""

from __future__ import annotations

import sqlite3
import time

from statesync.lifecycle import AnyTrigger, Trigger
from statesync.protocol.conversation import Committed
from statesync.protocol.messages import (
    Adapt,
    BeginSession,
    DropBatch,
    Effect,
    EndSession,
    HoldBack,
    StoreAnswer,
    StoreAttempt,
    StoreBatch,
    StoreDoubt,
    StoreReason,
)
from statesync.store import claims, rereading
from statesync.store.context import SessionContext
from statesync.store.download.downloads import Downloads
from statesync.store.journal import batches, sessions
from statesync.store.journal.transitions import Detail
from statesync.store.outbox import queue, settled
from statesync.store.upload.doubts import keep_doubt, release_changes
from statesync.store.upload.uploads import Uploads
from statesync.values import Direction
from statesync.wire import Rejected

_MUCH = 100
"""Records of a session from which on SQLite's log may be long, and is written back when it has ended."""


class Effects:
    """Writes the effects of one session, with what its ``uploads`` and ``downloads`` have staged."""

    def __init__(self, context: SessionContext, uploads: Uploads, downloads: Downloads) -> None:
        self._context, self._uploads, self._downloads = context, uploads, downloads
        self._stored = 0
        self.batch: int | None = None
        """The number of the batch that was opened last."""

    def write(
        self, connection: sqlite3.Connection, effect: Effect, details: dict[AnyTrigger, Detail]
    ) -> Committed | None:
        """Write one effect, add to the journal's details, and return what only the database knew."""
        session = self._context.session
        match effect:
            case BeginSession():
                return self._begin(connection, effect)
            case StoreAnswer():
                return self._store_answer(connection, effect, details)
            case StoreBatch():
                self._store_batch(connection, effect)
            case StoreAttempt() if effect.attempt > 1:  # the first is recorded with the batch
                batches.note_attempt(connection, session, effect.number, effect.attempt)
            case StoreDoubt():
                keep_doubt(connection, session, effect.number, doubtful=effect.in_doubt)
            case DropBatch():
                self._drop_batch(connection, effect)
            case HoldBack():
                self._uploads.hold_back(
                    connection, Rejected(effect.code, effect.message, retry_after=effect.retry_after)
                )
            case Adapt():
                objects = claims.objects_of(connection, self._context.space, self._context.tracked)
                rereading.adapt(connection, self._context.space, objects, effect.problem)
                self._downloads.begin_again()
            case StoreReason():
                details[Trigger.CANCEL] = {"reason": effect.reason}
            case EndSession():
                details[Trigger.FAIL] = self._end(connection, effect)
        return None

    def _begin(self, connection: sqlite3.Connection, effect: BeginSession) -> Committed:
        if not effect.uploads:
            return Committed(upload_limit=0, waiting=0 if self._context.options.uploads else None)
        limit = self._uploads.fix_limit(connection)
        waiting = queue.count_waiting(connection, self._context.objects, time.time()) if limit else 0
        return Committed(upload_limit=limit, waiting=waiting)

    def _store_batch(self, connection: sqlite3.Connection, effect: StoreBatch) -> None:
        self.batch = effect.number
        context = self._context
        batches.create_batch(connection, context.session, effect.number, effect.direction, context.space)
        if effect.direction is Direction.UPLOAD:
            self._uploads.stage(connection, effect.number)

    def _store_answer(
        self,
        connection: sqlite3.Connection,
        effect: StoreAnswer,
        details: dict[AnyTrigger, Detail],
    ) -> Committed:
        began = time.monotonic()
        more: dict[str, int] = {}
        if effect.direction is Direction.UPLOAD:
            outcome, committed = self._uploads.store(connection, effect.number)
            more = {"conflicts": outcome.conflicts, "rejected": outcome.rejected}
            if outcome.released:
                more["released"] = outcome.released
        else:
            stored = self._downloads.store(connection, effect.number)
            committed = Committed(stored.records)
            more = (
                {"held": stored.held, "released": stored.released} if stored.held or stored.released else {}
            )
        self._stored += committed.records
        details[Trigger.COMMIT_BATCH] = {
            "direction": effect.direction,
            "records": committed.records,
            "request": effect.spent.request,
            "parsing": effect.spent.parsing,
            "storing": time.monotonic() - began,
            **more,
        }
        return committed

    def _drop_batch(self, connection: sqlite3.Connection, effect: DropBatch) -> None:
        keep_doubt(connection, self._context.session, effect.number, doubtful=effect.in_doubt)
        if not effect.in_doubt:
            release_changes(connection, self._context.session, effect.number)
        self._uploads.drop()
        self._downloads.drop()

    def _end(self, connection: sqlite3.Connection, effect: EndSession) -> Detail:
        message = effect.error.message if effect.error else None
        session = self._context.session
        sessions.note_end(connection, session, effect.reason, message)
        if self._uploads.has_looked:
            sessions.drop_payloads(connection, session)
            settled.sweep(connection)
        if self._stored >= _MUCH:
            self._context.parts.database.peewee.put_off_checkpoint()
        return {"reason": effect.reason, "error": message}
