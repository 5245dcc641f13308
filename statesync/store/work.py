"""One session's work on the store: what its transactions write, what it sends, what it was answered.

``Work`` is the driver's hand on the store. It holds what is staged between two transitions (the next
batch, a decoded page, resolved conflicts) and nothing that must survive: that is in the database.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import msgspec

from statesync.errors import BadAnswer, UsageError
from statesync.lifecycle import AnyTrigger, Trigger
from statesync.machine import Move
from statesync.messages import (
    Adapt,
    Answered,
    BeginSession,
    DropBatch,
    Effect,
    EndSession,
    StoreAnswer,
    StoreAttempt,
    StoreBatch,
    StoreDoubt,
)
from statesync.store import history, journal, orphans, outbox, pages, standing, verdicts
from statesync.store.core import Core
from statesync.store.staging import Download, Timing, Upload
from statesync.store.tracking import switched_off
from statesync.values import Direction, RecordError, SyncOptions, SyncResult
from statesync.wire import Page, Pull, Push, PushAnswer, Rejected

_MUCH = 100
"""Records of a last batch from which on it makes SQLite's log long; its end does not wait for that."""


class Work:
    """The store as one session sees it. Used by the session's thread alone, inside ``connected``."""

    def __init__(
        self, core: Core, session: str, space: str, names: tuple[str, ...], options: SyncOptions
    ) -> None:
        self._core = core
        self._session = session
        self._space = space
        self._objects = {name: core.objects[name] for name in names}
        self._options = options
        self._watched = orphans.watched(self._objects)
        self._journal = journal.JournalWriter(session, began=time.monotonic())
        self._horizon = 0
        self._looked_through = 0
        self._round = 0
        self._batch: int | None = None
        self._upload: Upload | None = None
        self._draft: outbox.Draft | None = None
        self._download: Download | None = None
        self._orphans: list[RecordError] = []
        self._details: dict[AnyTrigger, journal.Detail] = {}
        self.timing = Timing()
        self.committed = 0
        """Records of the batch that was committed last."""

    def create(self) -> None:
        """Record the session in the phase idle. Raises ``UsageError`` for an object of another space."""
        with self._core.database.transaction() as connection:
            elsewhere = standing.belongs(connection, self._objects, self._space)
            if elsewhere is not None:
                raise UsageError(
                    f"{elsewhere} belongs to another space than {self._space!r}, and an object is synced "
                    "with one space of one hub; reset() it first"
                )
            if self._options.downloads:
                standing.apply_filters(connection, self._objects, self._options.filter)
            journal.create_session(connection, self._session, self._space, self._objects)
            journal.prune(connection, self._core.keep_sessions)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Give the session's thread its connection."""
        with self._core.database.session_connection() as connection:
            if self._watched:
                orphans.begin(connection)
            yield

    def errors_mapped(self) -> AbstractContextManager[None]:
        """Turn what SQLite raises inside the block, also by mere reading, into a ``StoreError``."""
        return self._core.database.errors_mapped()

    # -- what to send --------------------------------------------------------------------------------

    def has_doubt(self) -> bool:
        """Tell whether a batch of an earlier session is in doubt in this space."""
        return journal.batch_in_doubt(self._raw(), self._space) is not None

    def may_upload(self) -> bool:
        """Tell whether anything may wait for the hub: what was logged may still come to nothing."""
        return outbox.is_in_use(self._raw())

    def prepare(self, round_: int) -> int:
        """Stage the next upload batch and return its records, 0 if none waits. Round 0 is the replay."""
        if round_ == 0:
            self._upload = self._staged_replay()
        else:
            if round_ != self._round:
                self._round, self._looked_through = round_, 0
            self._upload = self._staged_batch()
        return len(self._upload.changes) if self._upload else 0

    def _staged_replay(self) -> Upload | None:
        doubtful = journal.batch_in_doubt(self._raw(), self._space)
        if doubtful is None:
            return None
        session, number, wire_id, wire_number, payload = doubtful
        return Upload(
            wire_id,
            wire_number,
            payload,
            verdicts.changes_of(payload),
            through=0,
            replayed=(session, number),
        )

    def _staged_batch(self) -> Upload | None:
        if not outbox.has_waiting(self._raw(), after=self._looked_through, up_to=self._horizon):
            return None
        window = self._window(self._looked_through)
        with self._core.database.transaction() as connection:
            ready = outbox.next_batch(connection, self._objects, window, self._session, self._draft)
            here = standing.standing(connection, self._space)
        if ready is None:
            return None
        return Upload(
            str(uuid.uuid4()),
            here.number + 1,
            ready.payload,
            ready.changes,
            ready.through,
            revisions=ready.revisions,
        )

    def _window(self, after: int) -> outbox.Window:
        limit = self._options.upload_batch_size
        return outbox.Window(after, self._horizon, limit, skip_failed=self._round > 1)

    def look_ahead(self) -> None:
        """Compose the batch that follows the one under way, to have it at hand; writes nothing."""
        window = self._window(max(self._looked_through, self._staged_upload().through))
        self._draft = outbox.draft(self._raw(), self._objects, window)

    def push_request(self) -> Push:
        """Return the request of the staged upload batch."""
        upload, here = self._staged_upload(), standing.standing(self._raw(), self._space)
        payload = msgspec.Raw(upload.payload)
        return Push(here.client, upload.wire_number, upload.wire_id, here.hub, here.epoch, payload, here.head)

    def pull_request(self) -> Pull:
        """Return the request for the next page of the scope's feeds."""
        here = standing.standing(self._raw(), self._space)
        feeds = standing.feeds(self._raw(), self._objects, self._options.filter)
        limit = self._options.download_batch_size
        return Pull(here.client, here.number, here.hub, here.epoch, feeds, limit, here.head)

    def pull_ahead(self) -> Pull:
        """Return what ``pull_request`` will return once the page that has come is stored."""
        download = self._staged_page()
        asked, page = download.request, download.page
        feeds = {
            name: msgspec.structs.replace(feed, cursor=page.cursors[name])
            for name, feed in asked.objects.items()
        }
        head = max(asked.head, page.head)
        return Pull(asked.client, asked.number, page.hub, page.epoch, feeds, asked.limit, head)

    def waiting(self) -> int:
        """Return how many changes the session has before it."""
        return outbox.count_waiting(self._raw(), self._objects) if self._horizon else 0

    # -- what was answered ---------------------------------------------------------------------------

    def take_push(self, answer: PushAnswer) -> Answered:
        """Check a push's answer and resolve its conflicts. Raises ``BadAnswer``; writes nothing."""
        upload = self._staged_upload()
        if len(answer.results) != len(upload.changes):
            raise BadAnswer(
                f"the hub answered {len(answer.results)} verdicts to {len(upload.changes)} changes",
                maybe_applied=True,
            )
        try:
            upload.resolutions = verdicts.resolve(
                self._raw(), upload.changes, answer.results, self._core.objects, self._options.conflict_policy
            )
        except msgspec.MsgspecError as error:
            raise BadAnswer(
                f"the hub's record in a conflict does not fit its table: {error}", maybe_applied=True
            ) from error
        upload.answer = answer
        rejected = sum(isinstance(verdict, Rejected) for verdict in answer.results)
        resend = sum(resolution.goes_up for resolution in upload.resolutions)
        return Answered(len(upload.changes), rejected=rejected, resend=resend, last=self._is_last(upload))

    def _is_last(self, upload: Upload) -> bool:
        """Tell whether nothing waits behind this batch; a replay does not know what it stands before."""
        if self._options.downloads or upload.replayed is not None:
            return False
        more = outbox.has_more(self._raw(), self._objects, after=upload.through, up_to=self._horizon)
        return not more

    def take_page(self, request: Pull, page: Page) -> Answered:
        """Check and decode a page. Raises ``BadAnswer``; writes nothing."""
        pages.check(request, page)
        self._download = Download(request, page, pages.decode(page, self._objects))
        return Answered(len(page.changes), more=page.more)

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
        with self._core.database.transaction() as connection:
            for effect in effects:
                self._write(connection, effect)
            last = self._journal.write(connection, moves, self._batch, self._details)
        self._journal.last = last

    def _write(self, connection: sqlite3.Connection, effect: Effect) -> None:
        match effect:
            case BeginSession(uploads=True):
                outbox.fold(connection, self._core.objects)
                self._horizon = outbox.horizon(connection)
                journal.set_horizon(connection, self._session, self._horizon)
            case BeginSession(uploads=False):
                pass  # a session's horizon is 0 until it is fixed
            case StoreBatch():
                self._store_batch(connection, effect)
            case StoreAttempt():
                journal.note_attempt(connection, self._session, effect.number, effect.attempt)
            case StoreAnswer(direction=Direction.UPLOAD):
                self._store_verdicts(connection, effect.number)
            case StoreAnswer():
                self._store_page(connection, effect.number)
            case StoreDoubt():
                journal.set_doubt(connection, self._session, effect.number, doubtful=effect.doubtful)
            case DropBatch():
                self._drop_batch(connection, effect)
            case Adapt():
                objects = standing.objects_of(connection, self._space, self._core.objects)
                standing.adapt(connection, self._space, objects, effect.problem)
            case EndSession():
                if self.committed >= _MUCH:
                    self._core.database.peewee.put_off_checkpoint()
                message = effect.error.message if effect.error else None
                journal.end_session(connection, self._session, effect.reason, message)
                self._details[Trigger.FAIL] = {"reason": effect.reason, "error": message}

    def _store_batch(self, connection: sqlite3.Connection, effect: StoreBatch) -> None:
        self._batch = effect.number
        self.timing = Timing()
        journal.create_batch(connection, self._session, effect.number, effect.direction, self._space)
        if effect.direction is Direction.UPLOAD:
            upload = self._staged_upload()
            journal.stage_upload(
                connection,
                self._session,
                effect.number,
                upload.wire_id,
                upload.wire_number,
                upload.payload,
                len(upload.changes),
            )
            if upload.replayed is not None:
                journal.settle(connection, *upload.replayed)
            outbox.mark_sent(connection, upload.wire_id, upload.revisions)

    def _store_verdicts(self, connection: sqlite3.Connection, number: int) -> None:
        upload = self._staged_upload()
        answer = upload.answer
        if answer is None:
            raise UsageError("no answer of the batch is staged")
        began = time.monotonic()
        with switched_off(connection):
            outcome = verdicts.store(
                connection,
                self._session,
                upload.wire_id,
                upload.changes,
                answer.results,
                upload.resolutions or [],
                self._core.objects,
                remove_accepted=self._options.remove_after_upload,
            )
        here = standing.standing(connection, self._space)
        standing.learn(connection, here, answer.hub, answer.epoch, answer.head)
        standing.acknowledge(connection, self._space, upload.wire_number)
        journal.settle(connection, self._session, number)
        self._looked_through = max(self._looked_through, upload.through)
        self._note_commit(Direction.UPLOAD, outcome.accepted, time.monotonic() - began)
        self._details[Trigger.COMMIT_BATCH] = {
            **self._details[Trigger.COMMIT_BATCH],
            "conflicts": outcome.conflicts,
            "rejected": outcome.rejected,
        }

    def _store_page(self, connection: sqlite3.Connection, number: int) -> None:
        download = self._staged_page()
        began = time.monotonic()
        here = standing.standing(connection, self._space)
        page = download.page
        standing.learn(connection, here, page.hub, page.epoch, page.head)
        applied = pages.apply(connection, download.page, download.parts, self._objects)
        for part in download.parts:
            if part.tracked.name in self._watched:
                orphans.note(connection, part.tracked, (entry.key for entry in part.entries))
        if self._watched and not download.page.more:
            self._orphans = orphans.find(connection, self._objects)
        if applied.stored:
            journal.set_records(connection, self._session, number, applied.stored)
        self._note_commit(Direction.DOWNLOAD, applied.stored, time.monotonic() - began)

    def _note_commit(self, direction: Direction, records: int, storing: float) -> None:
        self.committed = records
        self._details[Trigger.COMMIT_BATCH] = {
            "direction": direction,
            "records": records,
            "request": self.timing.request,
            "parsing": self.timing.parsing,
            "storing": storing,
        }

    def _drop_batch(self, connection: sqlite3.Connection, effect: DropBatch) -> None:
        journal.set_doubt(connection, self._session, effect.number, doubtful=effect.doubtful)
        if not effect.doubtful:
            journal.release_batch(connection, self._session, effect.number)
        self._upload = self._download = None

    # -- what came of it -----------------------------------------------------------------------------

    def result(self) -> SyncResult:
        """Return what the session did, as the database has it."""
        return history.result(
            self._raw(), self._session, self._orphans, with_batches=self._options.get_sync_stats
        )

    def _staged_upload(self) -> Upload:
        if self._upload is None:
            raise UsageError("no upload batch is staged")
        return self._upload

    def _staged_page(self) -> Download:
        if self._download is None:
            raise UsageError("no page is staged")
        return self._download

    def _raw(self) -> sqlite3.Connection:
        return self._core.database.raw()
