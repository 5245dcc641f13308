"""The lifecycle once more, written by hand from sections 3.1 and 3.2 of the design, for comparison.

It shares no table with ``statesync.lifecycle`` on purpose: whoever changes one must change both.
"""

from __future__ import annotations

from enum import Enum

from attrs import evolve

from statesync.classes import define
from statesync.lifecycle import AnyTrigger, BatchTrigger, Facts


class Answer(Enum):
    """What becomes of triggers that are fired together."""

    TAKEN = "taken"
    ILLEGAL = "illegal"
    REFUSED = "refused"


@define
class Reference:
    """Where a session and its open batch stand. Phases are their names; no batch is None."""

    phase: str = "idle"
    batch: str | None = None

    def fire(self, triggers: tuple[AnyTrigger, ...], facts: Facts) -> tuple[Answer, AnyTrigger | None]:
        """Move as one, or not at all; return what happened, and the trigger that it failed at."""
        tried = evolve(self)
        for trigger in triggers:
            for each in (trigger, *_linked(trigger)):
                answer = tried._fire_one(each, facts)
                if answer is not Answer.TAKEN:
                    return answer, each
        self.phase, self.batch = tried.phase, tried.batch
        return Answer.TAKEN, None

    def _fire_one(self, trigger: AnyTrigger, facts: Facts) -> Answer:
        if isinstance(trigger, BatchTrigger):
            found = _batch(trigger, self.batch, facts, cancelling=self.phase == "cancelling")
        else:
            found = _session(trigger, self.phase, self.batch, facts)
        if found is None:
            return Answer.ILLEGAL
        target, holds = found
        if not holds:
            return Answer.REFUSED
        if isinstance(trigger, BatchTrigger):
            self.batch = None if target in ("committed", "aborted") else target
        else:
            self.phase = target
            self.batch = "open" if trigger == "open_batch" else self.batch
        return Answer.TAKEN


def _linked(trigger: AnyTrigger) -> tuple[BatchTrigger, ...]:
    match trigger:
        case "commit_batch":
            return (BatchTrigger.COMMIT,)
        case "abort_batch":
            return (BatchTrigger.ABORT,)
        case _:
            return ()


def _session(trigger: str, phase: str, batch: str | None, facts: Facts) -> tuple[str, bool] | None:
    """Return where ``trigger`` leads and whether it may, or None if it is illegal."""
    closed = batch is None
    match trigger, phase:
        case "start", "idle":
            return "uploading", True
        case "open_batch", "uploading" | "downloading":
            return phase, closed
        case "commit_batch", "uploading" | "downloading" | "cancelling":
            return phase, batch == "received"
        case "abort_batch", "uploading" | "downloading" | "cancelling":
            return phase, not closed and (facts.request_ended or facts.deadline_passed)
        case "finish_upload", "uploading":
            return "downloading", closed and facts.outbox_drained
        case "finish_download", "downloading":
            return "done", closed and facts.feed_drained
        case "cancel", "idle":
            return "cancelled", True
        case "cancel", "uploading" | "downloading":
            return "cancelling", True
        case "settle", "cancelling":
            return "cancelled", closed and not facts.in_doubt
        case "fail", "idle" | "uploading" | "downloading" | "cancelling":
            return "failed", closed
    return None


def _batch(trigger: str, phase: str | None, facts: Facts, *, cancelling: bool) -> tuple[str, bool] | None:
    """Return where ``trigger`` leads and whether it may, or None if it is illegal."""
    match trigger, phase:
        case "send", "open" | "waiting":
            return "in_flight", not cancelling
        case "receive", "in_flight":
            return "received", True
        case "retry", "in_flight":
            return "waiting", facts.retryable and facts.attempts_left and not cancelling
        case "commit", "received":
            return "committed", True
        case "abort", "open" | "waiting" | "received":
            return "aborted", True
        case "abort", "in_flight":
            return "aborted", facts.request_ended or facts.deadline_passed
    return None
