"""One configuration of the explorer: where both charts stand, and what is so in the world around them."""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen

from statesync.lifecycle import BATCH, SESSION, BatchPhase, Facts, Phase
from statesync.values import Direction

MAX_ATTEMPTS = 2
"""How often a batch may be sent in the explored world: enough for a first attempt and a repeat."""


class Request(StrEnum):
    """What has become of the open batch's request."""

    NONE = "none"
    UNDER_WAY = "under_way"
    ANSWERED = "answered"
    FAILED_FOR_NOW = "failed_for_now"
    FAILED_FOR_GOOD = "failed_for_good"


@frozen(cache_hash=True)
class OpenBatch:
    """The open batch. ``doubtful``: an attempt without an answer may have been applied by the hub."""

    phase: BatchPhase
    direction: Direction
    request: Request = Request.NONE
    attempts: int = 0
    doubtful: bool = False


@frozen(cache_hash=True)
class Configuration:
    """A point of the explored space; two equal ones have the same future.

    ``last_end`` is how the batch before this moment ended, None while one is open. ``stopping`` stays
    true once ``cancelling`` was entered.
    """

    phase: Phase
    batch: OpenBatch | None = None
    last_end: BatchPhase | None = None
    outbox_drained: bool = False
    feed_drained: bool = False
    in_doubt: bool = False
    deadline_passed: bool = False
    stopping: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the session is in a phase that is an end."""
        return self.phase in SESSION.finals

    def facts(self) -> Facts:
        """Return what the guards may know here."""
        batch = self.batch
        return Facts(
            batch=batch.phase if batch else None,
            cancelling=self.phase is Phase.CANCELLING,
            request_ended=batch is None or batch.request is not Request.UNDER_WAY,
            deadline_passed=self.deadline_passed,
            outbox_drained=self.outbox_drained,
            feed_drained=self.feed_drained,
            in_doubt=self.in_doubt,
            retryable=batch is not None and batch.request is Request.FAILED_FOR_NOW,
            attempts_left=batch is not None and batch.attempts < MAX_ATTEMPTS,
        )

    def __str__(self) -> str:
        return ", ".join([f"session {self.phase}", *self._batch_words(), *self._world_words()])

    def _batch_words(self) -> list[str]:
        if self.batch is None:
            return [f"last batch {self.last_end}"] if self.last_end else []
        words = f"{self.batch.direction} batch {self.batch.phase}"
        if self.batch.request is not Request.NONE:
            request = self.batch.request.replace("_", " ")
            words += f" (request {request} at attempt {self.batch.attempts})"
        return [words]

    def _world_words(self) -> list[str]:
        said = {
            "outbox drained": self.outbox_drained,
            "feed drained": self.feed_drained,
            "in doubt": self.in_doubt,
            "deadline passed": self.deadline_passed,
        }
        return [words for words, holds in said.items() if holds]


def is_open(phase: BatchPhase) -> bool:
    """Tell whether a batch in ``phase`` still waits for its end."""
    return phase not in BATCH.finals
