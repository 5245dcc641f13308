"""The upload batches of one session: which is next, what travels, and what the hub said of it.

Used by the session's thread alone. ``fix_limit``, ``stage`` and ``store`` write, in the caller's transaction;
nothing else here writes, but for what folding and marking a record as unsendable takes.
"""

from __future__ import annotations

import sqlite3
import time
import uuid

import msgspec

from statesync.classes import define
from statesync.conflicts import Conflict
from statesync.errors import BadAnswer, UsageError
from statesync.protocol.conversation import Committed
from statesync.protocol.messages import Answered, ComposeAhead, Prepare, Prepared
from statesync.store import spaces
from statesync.store.context import SessionContext
from statesync.store.journal import batches, sessions
from statesync.store.journal.batches import DoubtfulBatch, WireBatch
from statesync.store.outbox import queue, shared
from statesync.store.outbox.changes import mark_sent
from statesync.store.outbox.fold import fold
from statesync.store.outbox.parking import park
from statesync.store.outbox.queue import Mark, Run
from statesync.store.resolving.asking import Resolution, resolve
from statesync.store.tracking.triggers import switched_off
from statesync.store.upload import drafts, verdicts
from statesync.wire import Push, PushAnswer, Rejected


@define(eq=False)
class UploadBatch:
    """The upload batch that stands ready or is under way: so many ``records``.

    ``sources`` are the changes that it was made from; ``are_offers`` says that nobody made any of them here.
    ``up_to`` is the session's upload limit. ``replayed`` says as what it was first sent, if it is in doubt;
    ``client`` as whom it was sent last.
    """

    wire: WireBatch
    records: int
    up_to: int
    last_position: int = 0
    sources: Run | tuple[Mark, ...] = ()
    are_offers: bool = False
    replayed: DoubtfulBatch | None = None
    client: str = ""
    answer: PushAnswer | None = None
    resolutions: list[Resolution] | None = None


class Uploads:
    """What one session sends."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._batch: UploadBatch | None = None
        self._draft: drafts.Draft | None = None
        self._is_calm = False
        self.has_looked: bool = False
        """Whether the session has looked for anything to send."""

    def fix_limit(self, connection: sqlite3.Connection) -> int:
        """Fold what was logged, and return the upload limit: what is written later waits."""
        fold(connection, self._context.tracked)
        limit = queue.last_position(connection)
        sessions.set_upload_limit(connection, self._context.session, limit)
        return limit

    # -- what is next --------------------------------------------------------------------------------

    def prepare(self, wanted: Prepare) -> Prepared:
        """Stage the next batch. Round 0 is the replay."""
        self.has_looked = True
        self._batch = self._next(wanted) if wanted.round else self._replay(wanted)
        if self._batch is None:
            return Prepared(0)
        batch = self._batch
        return Prepared(batch.records, batch.last_position, batch.are_offers)

    def _replay(self, wanted: Prepare) -> UploadBatch | None:
        raw = self._context.raw()
        in_doubt = batches.find_doubtful(raw, self._context.space)
        if in_doubt is None:
            return None
        are_offers = shared.are_mere_offers(raw, in_doubt.wire.id)
        records = len(in_doubt.wire.changes)
        return UploadBatch(in_doubt.wire, records, wanted.up_to, are_offers=are_offers, replayed=in_doubt)

    def _next(self, wanted: Prepare) -> UploadBatch | None:
        context = self._context
        if not queue.has_waiting(context.raw(), after=wanted.after, up_to=wanted.up_to):
            return None
        drafted, self._draft = self._draft, None
        with context.parts.database.transaction() as connection:
            context.check_store(connection)
            ready = drafts.next_batch(
                connection,
                context.objects,
                self._window(wanted),
                context.session,
                drafted,
                is_calm=self._is_calm,
            )
            here = spaces.load_or_create(connection, context.space)
        if ready is None:
            return None
        return UploadBatch(
            WireBatch(str(uuid.uuid4()), here.number + 1, ready.payload),
            ready.records,
            wanted.up_to,
            last_position=ready.last_position,
            sources=ready.sources,
            are_offers=ready.are_offers,
        )

    def _window(self, wanted: Prepare | ComposeAhead) -> queue.Window:
        limit = self._context.options.upload_batch_size
        if wanted.at_most is not None:
            limit = min(limit, wanted.at_most)
        return queue.Window(wanted.after, wanted.up_to, limit, time.time(), skip_failed=wanted.round > 1)

    def compose_ahead(self, wanted: ComposeAhead) -> None:
        """Compose the batch that follows the one under way, to have it at hand; writes nothing."""
        self._draft = drafts.draft(self._context.raw(), self._context.objects, self._window(wanted))
        self._is_calm = False

    def request(self) -> Push:
        """Return the request of the staged batch."""
        batch, here = self._staged(), spaces.load_or_create(self._context.raw(), self._context.space)
        wire, payload, batch.client = batch.wire, msgspec.Raw(batch.wire.payload), here.client
        return Push(
            here.client, wire.number, wire.id, here.hub, here.epoch, payload, here.head, offers_again=True
        )

    def stage(self, connection: sqlite3.Connection, number: int) -> None:
        """Keep the batch's exact payload, and mark its changes as under way."""
        batch = self._staged()
        batches.stage_upload(connection, self._context.session, number, batch.wire, batch.records)
        if batch.replayed is not None:
            batches.resolve_doubt(connection, batch.replayed.session, batch.replayed.number)
        mark_sent(connection, batch.wire.id, batch.sources)

    # -- what was answered ---------------------------------------------------------------------------

    def take(self, answer: PushAnswer) -> Answered:
        """Check the answer and resolve its conflicts. Raises ``BadAnswer``; writes nothing."""
        batch = self._staged()
        if len(answer.results) != batch.records:
            raise BadAnswer(
                f"the hub answered {len(answer.results)} verdicts to {batch.records} changes",
                maybe_applied=True,
            )
        are_accepted = verdicts.are_accepted(answer.results)
        if verdicts.highest_version(answer.results, accepted=are_accepted) > answer.head:
            raise BadAnswer("the hub answered a version that is above its own head", maybe_applied=True)
        batch.resolutions = [] if are_accepted else self._resolve(batch, answer)
        batch.answer = answer
        if are_accepted:
            return Answered(batch.records, last=self._is_last(batch))
        return Answered(
            batch.records,
            rejected=sum(isinstance(verdict, Rejected) for verdict in answer.results),
            resend=sum(resolution.goes_up for resolution in batch.resolutions),
            unread=sum(map(verdicts.is_unread, answer.results)),
            last=self._is_last(batch),
        )

    def _resolve(self, batch: UploadBatch, answer: PushAnswer) -> list[Resolution]:
        raw, context = self._context.raw(), self._context
        with context.parts.database.peewee.aside():  # policy and fields of a model are the program's code
            return resolve(
                raw,
                batch.wire.changes,
                answer.results,
                context.tracked,
                context.parts.registry.models,
                self._ask,
            )

    def _ask(self, conflict: Conflict) -> object:
        """Ask the policy; a transaction that it leaves open is not there any more for the next conflict."""
        with self._context.parts.database.peewee.aside():
            return self._context.options.conflict_policy(conflict)

    def _is_last(self, batch: UploadBatch) -> bool:
        """Tell whether nothing waits behind this batch; a replay does not know what it stands before."""
        context = self._context
        if context.options.downloads or batch.replayed is not None:
            return False
        return not queue.has_more(
            context.raw(),
            context.objects,
            after=batch.last_position,
            up_to=batch.up_to,
            now=time.time(),
        )

    def store(self, connection: sqlite3.Connection, number: int) -> tuple[verdicts.Outcome, Committed]:
        """Store the verdicts of the batch ``number``, and what its answer says of the hub."""
        batch, context = self._staged(), self._context
        answer = batch.answer
        if answer is None:
            raise UsageError("no answer of the batch is staged")
        here = spaces.load_or_create(connection, context.space)
        if here.client != batch.client:
            raise context.changed("who the device is for its hub")
        with switched_off(connection):
            outcome = verdicts.store(
                connection,
                context.session,
                batch.wire,
                answer.results,
                batch.resolutions or [],
                context.deadly,
                context.tracked,
                remove_accepted=context.options.remove_after_upload,
                now=time.time(),
            )
        # What was composed beside a replay may have the very changes that this has taken out.
        self._is_calm = outcome.is_calm and batch.replayed is None
        spaces.learn(connection, here, answer.hub, answer.epoch, answer.head)
        spaces.acknowledge(connection, context.space, batch.wire.number)
        batches.set_doubt(connection, context.session, number, doubtful=False)
        if batch.replayed is None:
            return outcome, Committed(outcome.accepted)
        # Edits that were made before the doubt was settled have moved to the end of the queue.
        return outcome, Committed(outcome.accepted, self.fix_limit(connection))

    def hold_back(self, connection: sqlite3.Connection, said: Rejected) -> None:
        """Park what is staged: the hub does not take it, not even alone."""
        batch, session, now = self._staged(), self._context.session, time.time()
        for change in batch.wire.changes:
            park(connection, batch.wire.id, (change.object, change.key), said, session, now)

    def drop(self) -> None:
        """Let go of the staged batch."""
        self._batch = None

    def _staged(self) -> UploadBatch:
        if self._batch is None:
            raise UsageError("no upload batch is staged")
        return self._batch
