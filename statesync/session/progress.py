"""How far a session is, told as it moves: what was taken by the machine becomes what a program sees."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from attrs import evolve

from statesync.errors import SyncError
from statesync.lifecycle import Phase, Trigger
from statesync.machine import Move
from statesync.protocol.conversation import Committed, OpenBatch
from statesync.protocol.messages import Answered
from statesync.values import Direction, Part, Progress, State


class Reporter:
    """Counts the records of both directions, and tells each step once it is durable."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell
        self._records = {Direction.UPLOAD: 0, Direction.DOWNLOAD: 0}
        self._total: int | None = None
        self._expected: int | None = None
        self._behind: int | None = None

    def expect(self, answered: Answered) -> None:
        """Take in what a page says of those that follow it: how many records, or how many versions."""
        if answered.expected is not None:
            self._expected = self._records[Direction.DOWNLOAD] + answered.expected
        self._behind = answered.behind

    def moved(self, moves: tuple[Move, ...], batch: OpenBatch | None, committed: Committed) -> None:
        """Tell what a transaction has moved; ``batch`` is the one that was open then."""
        for move in moves:
            match move.trigger:
                case Trigger.START:
                    self._total = committed.waiting
                    self._tell(Progress(Part.SYNC, State.STARTED, total=self._total))
                case Trigger.CANCEL if move.target is Phase.CANCELLING:
                    self._tell(Progress(Part.SYNC, State.CANCELLING))
                case Trigger.COMMIT_BATCH if batch is not None:
                    self._records[batch.direction] += committed.records
                    self._tell_batch(State.ENDED, batch)

    def sent(self, batch: OpenBatch) -> None:
        """Tell that a batch's request has gone out."""
        self._tell_batch(State.STARTED, batch)

    def waits(self, batch: OpenBatch, error: SyncError, seconds: float) -> None:
        """Tell that a batch is sent again after a while, because of an error."""
        again = datetime.now(UTC) + timedelta(seconds=seconds)
        self._tell(evolve(self._of(State.WAITING, batch), error=error, next_at=again))

    def answered(self, batch: OpenBatch) -> None:
        """Tell that a batch's answer is there."""
        self._tell_batch(State.IN_PROGRESS, batch)

    def _tell_batch(self, state: State, batch: OpenBatch) -> None:
        self._tell(self._of(state, batch))

    def _of(self, state: State, batch: OpenBatch) -> Progress:
        is_upload = batch.direction is Direction.UPLOAD
        return Progress(
            Part.UPLOAD if is_upload else Part.DOWNLOAD,
            state,
            batch.number,
            self._records[batch.direction],
            self._total_of(batch),
            attempt=batch.attempts,
            behind=None if is_upload else self._behind,
        )

    def _total_of(self, batch: OpenBatch) -> int | None:
        """Return how many records there are; what is written meanwhile comes besides."""
        if batch.direction is Direction.UPLOAD:
            return self._total
        return None if self._expected is None else max(self._expected, self._records[batch.direction])
