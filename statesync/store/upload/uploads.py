"""The upload batches of one session: which is next, what travels, and what the hub said of it.

Used by the session's thread alone. ``begin``, ``stage`` and ``store`` write, in the caller's transaction;
nothing else here writes, but for what folding and marking a record as unsendable takes.
"""

from __future__ import annotations

import sqlite3
import uuid

import msgspec

from statesync.errors import BadAnswer, UsageError
from statesync.protocol.messages import Answered
from statesync.store import spaces
from statesync.store.context import Brief, Upload
from statesync.store.journal import batches, sessions
from statesync.store.journal.batches import WireBatch
from statesync.store.outbox import queue
from statesync.store.outbox.changes import mark_sent
from statesync.store.outbox.fold import fold
from statesync.store.tracking.triggers import switched_off
from statesync.store.upload import drafts, verdicts
from statesync.wire import Push, PushAnswer, Rejected


class Uploads:
    """What one session sends, up to the horizon that it fixes when it begins."""

    def __init__(self, brief: Brief) -> None:
        self._brief = brief
        self._horizon = 0
        self._looked_through = 0
        self._round = 0
        self._upload: Upload | None = None
        self._draft: drafts.Draft | None = None

    def begin(self, connection: sqlite3.Connection) -> None:
        """Fold what was logged, and fix the horizon: what is written later waits for the next session."""
        fold(connection, self._brief.core.objects)
        self._fix_horizon(connection)

    def _fix_horizon(self, connection: sqlite3.Connection) -> None:
        self._horizon = queue.last_position(connection)
        sessions.set_upload_limit(connection, self._brief.session, self._horizon)

    def waiting(self) -> int:
        """Return how many changes the session has before it."""
        return queue.count_waiting(self._brief.raw(), self._brief.objects) if self._horizon else 0

    # -- what is next --------------------------------------------------------------------------------

    def prepare(self, round_: int) -> int:
        """Stage the next batch and return its records, 0 if none waits. Round 0 is the replay."""
        if round_ == 0:
            self._upload = self._replay()
        else:
            if round_ != self._round:
                self._round, self._looked_through = round_, 0
            self._upload = self._next()
        return len(self._upload.changes) if self._upload else 0

    def _replay(self) -> Upload | None:
        doubtful = batches.find_doubtful(self._brief.raw(), self._brief.space)
        if doubtful is None:
            return None
        wire = doubtful.wire
        changes = verdicts.changes_of(wire.payload)
        return Upload(wire.id, wire.number, wire.payload, changes, last_position=0, replayed=doubtful)

    def _next(self) -> Upload | None:
        brief = self._brief
        if not queue.has_waiting(brief.raw(), after=self._looked_through, up_to=self._horizon):
            return None
        window = self._window(self._looked_through)
        with brief.core.database.transaction() as connection:
            ready = drafts.next_batch(connection, brief.objects, window, brief.session, self._draft)
            here = spaces.load_or_create(connection, brief.space)
        if ready is None:
            return None
        return Upload(
            str(uuid.uuid4()),
            here.number + 1,
            ready.payload,
            ready.changes,
            ready.last_position,
            revisions=ready.revisions,
        )

    def _window(self, after: int) -> queue.Window:
        limit = self._brief.options.upload_batch_size
        return queue.Window(after, self._horizon, limit, skip_failed=self._round > 1)

    def look_ahead(self) -> None:
        """Compose the batch that follows the one under way, to have it at hand; writes nothing."""
        window = self._window(max(self._looked_through, self._staged().last_position))
        self._draft = drafts.draft(self._brief.raw(), self._brief.objects, window)

    def request(self) -> Push:
        """Return the request of the staged batch."""
        upload, here = self._staged(), spaces.load_or_create(self._brief.raw(), self._brief.space)
        payload = msgspec.Raw(upload.payload)
        return Push(here.client, upload.wire_number, upload.wire_id, here.hub, here.epoch, payload, here.head)

    def stage(self, connection: sqlite3.Connection, number: int) -> None:
        """Keep the batch's exact payload, and mark its changes as under way."""
        upload, session = self._staged(), self._brief.session
        wire = WireBatch(upload.wire_id, upload.wire_number, upload.payload)
        batches.stage_upload(connection, session, number, wire, len(upload.changes))
        if upload.replayed is not None:
            batches.resolve_doubt(connection, upload.replayed.session, upload.replayed.number)
        mark_sent(connection, upload.wire_id, upload.revisions)

    # -- what was answered ---------------------------------------------------------------------------

    def take(self, answer: PushAnswer) -> Answered:
        """Check the answer and resolve its conflicts. Raises ``BadAnswer``; writes nothing."""
        upload, brief = self._staged(), self._brief
        if len(answer.results) != len(upload.changes):
            raise BadAnswer(
                f"the hub answered {len(answer.results)} verdicts to {len(upload.changes)} changes",
                maybe_applied=True,
            )
        try:
            upload.resolutions = verdicts.resolve(
                brief.raw(),
                upload.changes,
                answer.results,
                brief.core.objects,
                brief.options.conflict_policy,
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
        brief = self._brief
        if brief.options.downloads or upload.replayed is not None:
            return False
        return not queue.has_more(brief.raw(), brief.objects, after=upload.last_position, up_to=self._horizon)

    def store(self, connection: sqlite3.Connection, number: int) -> verdicts.Outcome:
        """Store the verdicts of the batch ``number``, and what its answer says of the hub."""
        upload, brief = self._staged(), self._brief
        answer = upload.answer
        if answer is None:
            raise UsageError("no answer of the batch is staged")
        with switched_off(connection):
            outcome = verdicts.store(
                connection,
                brief.session,
                upload.wire_id,
                upload.changes,
                answer.results,
                upload.resolutions or [],
                brief.core.objects,
                remove_accepted=brief.options.remove_after_upload,
            )
        here = spaces.load_or_create(connection, brief.space)
        spaces.learn(connection, here, answer.hub, answer.epoch, answer.head)
        spaces.acknowledge(connection, brief.space, upload.wire_number)
        batches.resolve_doubt(connection, brief.session, number)
        if upload.replayed is not None:
            self._fix_horizon(connection)  # edits that waited for the settling have moved to the end
        self._looked_through = max(self._looked_through, upload.last_position)
        return outcome

    def drop(self) -> None:
        """Let go of the staged batch."""
        self._upload = None

    def _staged(self) -> Upload:
        if self._upload is None:
            raise UsageError("no upload batch is staged")
        return self._upload
