"""What the conversation decides, written by hand from section 4 of the design and from K1 to K11.

One row an event in a situation. ``-``: nothing happens. ``defect``: nothing can have asked for this; the
session ends as failed, and whatever is under way is interrupted. The rows of ``PAIRS`` (``pairs.txt``) have
every event in every situation; those of ``CASES`` (``cases.txt``) begin in a situation of their own.
"""

from __future__ import annotations

from pathlib import Path

from attrs import evolve, frozen

from statesync.errors import BadAnswer, ConnectionLost, RemoteError, StoreError, Unreachable
from statesync.lifecycle import BatchPhase, Phase
from statesync.protocol.conversation import Conversation, Doubt, OpenBatch, RequestState, Spent
from statesync.protocol.messages import (
    Answered,
    BackoffOver,
    Begin,
    Built,
    CancelRequested,
    Continued,
    Event,
    GraceOver,
    HeadStartOver,
    LocalFailure,
    Prepared,
    RequestFailed,
)
from statesync.values import Direction, Reason
from statesync.wire import Problem


@frozen
class Row:
    """An event in a situation, and what has to come of it, in words."""

    situation: str
    event: str
    triggers: str
    written: str
    beside: str
    then: str

    def __str__(self) -> str:
        return f"{self.situation}: {self.event}"


def _rows(file: str) -> tuple[Row, ...]:
    text = Path(__file__).with_name(file).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line]
    return tuple(_row([cell.strip() for cell in line.split("|")]) for line in lines)


def _row(cells: list[str]) -> Row:
    situation, event, *rest = cells
    triggers, written, beside, then = [*rest, "", "", ""][:4]
    return Row(situation, event, triggers, written, beside, then)


def _batch(direction: Direction, request: RequestState, phase: BatchPhase) -> OpenBatch:
    records, last_position = (3, 4) if direction is Direction.UPLOAD else (0, 0)
    return OpenBatch(1, direction, request=request, records=records, last_position=last_position, phase=phase)


def _at(phase: Phase, batch: OpenBatch | None = None) -> Conversation:
    begun = Conversation(phase=phase, batch=batch, upload_limit=9, page_size=7)
    cancelled_by = Reason.USER if phase is Phase.CANCELLING else None
    return evolve(begun, batches=1 if batch else 0, cancelled_by=cancelled_by)


_UP, _DOWN = Direction.UPLOAD, Direction.DOWNLOAD
_WRITTEN = (RequestState.NOT_SENT, BatchPhase.IN_FLIGHT)
_UNDER_WAY = (RequestState.UNDER_WAY, BatchPhase.IN_FLIGHT)
_WAITING = (RequestState.ENDED, BatchPhase.WAITING)

SITUATIONS = {
    "idle": _at(Phase.IDLE),
    "uploading": _at(Phase.UPLOADING),
    "uploading, batch written": _at(Phase.UPLOADING, _batch(_UP, *_WRITTEN)),
    "uploading, batch under way": _at(Phase.UPLOADING, _batch(_UP, *_UNDER_WAY)),
    "uploading, batch waiting": _at(Phase.UPLOADING, _batch(_UP, *_WAITING)),
    "downloading": _at(Phase.DOWNLOADING),
    "downloading, indexes are built": evolve(_at(Phase.DOWNLOADING), feed_drained=True),
    "downloading, batch written": _at(Phase.DOWNLOADING, _batch(_DOWN, *_WRITTEN)),
    "downloading, batch under way": _at(Phase.DOWNLOADING, _batch(_DOWN, *_UNDER_WAY)),
    "downloading, batch waiting": _at(Phase.DOWNLOADING, _batch(_DOWN, *_WAITING)),
    "cancelling, upload under way": _at(Phase.CANCELLING, _batch(_UP, *_UNDER_WAY)),
    "cancelling, download under way": _at(Phase.CANCELLING, _batch(_DOWN, *_UNDER_WAY)),
    "cancelled": _at(Phase.CANCELLED),
    "failed": _at(Phase.FAILED),
    "done": _at(Phase.DONE),
}
"""Where a session may be. A batch is *written* (and about to be sent), *under way*, or *waiting* for its
next attempt; ``cancelling`` always has one under way."""

EVENTS: dict[str, Event] = {
    "begin": Begin(),
    "prepared": Prepared(3, 4),
    "prepared nothing": Prepared(0),
    "continued": Continued(),
    "head start over": HeadStartOver(),
    "answered": Answered(3),
    "request failed": RequestFailed(RemoteError("no", status=403)),
    "request lost": RequestFailed(ConnectionLost("gone", retryable=True, maybe_applied=True)),
    "back-off over": BackoffOver(),
    "built": Built(),
    "cancel": CancelRequested(Reason.USER),
    "grace over": GraceOver(),
    "local failure": LocalFailure(StoreError("no")),
}

PAIRS = _rows("pairs.txt")

_SENT = SITUATIONS["uploading, batch under way"]
_FETCHED = SITUATIONS["downloading, batch under way"]
_FIRST = OpenBatch(1, _UP, request=RequestState.UNDER_WAY, phase=BatchPhase.IN_FLIGHT)


_OFFERS = evolve(_SENT, batch=evolve(_batch(_UP, *_UNDER_WAY), are_offers=True))
_ALONE = evolve(_FIRST, records=1, last_position=5)


def _failed(retry_after: float | None = None) -> RequestFailed:
    problem = Problem("not_applied", "no")
    error = RemoteError("no", status=500, problem=problem, retryable=True, retry_after=retry_after)
    return RequestFailed(error)


def _refused(code: str, status: int = 409) -> RequestFailed:
    return RequestFailed(RemoteError("no", status=status, problem=Problem(code, "no")))


_MAY_NOT_WRITE = RemoteError("may not write")


def _beside_doubt(situation: str) -> Conversation:
    """Return a situation in which a batch in doubt waits until its sender may write again."""
    return evolve(SITUATIONS[situation], doubt=Doubt.OPEN, upload_error=_MAY_NOT_WRITE)


CASES_BEGIN: dict[str, Conversation] = {
    "download only, idle": evolve(SITUATIONS["idle"], uploads=False),
    "download only, a batch in doubt was settled": evolve(SITUATIONS["uploading"], uploads=False),
    "upload only, idle": evolve(SITUATIONS["idle"], downloads=False),
    "upload only, uploading": evolve(SITUATIONS["uploading"], downloads=False),
    "upload only, batch under way": evolve(_SENT, downloads=False),
    "a batch is in doubt, uploading": evolve(SITUATIONS["uploading"], doubt=Doubt.EARLIER),
    "a batch in doubt is under way": evolve(_SENT, doubt=Doubt.EARLIER, batch=_FIRST),
    "upload only, a batch in doubt is under way": evolve(
        _SENT, doubt=Doubt.EARLIER, batch=_FIRST, downloads=False
    ),
    "offers in doubt are under way": evolve(_OFFERS, doubt=Doubt.EARLIER),
    "a batch in doubt waits for the right": _beside_doubt("uploading"),
    "a batch in doubt waits for the right, page written": _beside_doubt("downloading, batch written"),
    "a batch in doubt waits for the right, page under way": _beside_doubt("downloading, batch under way"),
    "a batch in doubt waits for the right, reading again": evolve(
        _beside_doubt("downloading"), adaptations=1
    ),
    "a batch in doubt waits for the right, cancelling": _beside_doubt("cancelling, download under way"),
    "a batch in doubt is written": evolve(SITUATIONS["uploading, batch written"], doubt=Doubt.EARLIER),
    "an attempt was lost, batch waiting": evolve(SITUATIONS["uploading, batch waiting"], doubt=Doubt.OPEN),
    "an attempt was lost, batch written": evolve(SITUATIONS["uploading, batch written"], doubt=Doubt.OPEN),
    "an attempt was lost, batch under way": evolve(_SENT, doubt=Doubt.OPEN),
    "the last attempt is under way": evolve(_SENT, max_attempts=1),
    "conflicts were resolved, round 1": evolve(SITUATIONS["uploading"], sent=3, resend=2, looked_through=4),
    "conflicts were resolved, round 3": evolve(SITUATIONS["uploading"], sent=3, resend=2, round=3),
    "a record did not come, round 1": evolve(SITUATIONS["uploading"], sent=3, unread=2, looked_through=4),
    "a record did not come, fewer than before": evolve(
        SITUATIONS["uploading"], sent=3, unread=1, round=7, unread_rounds=6, fewest_unread=2
    ),
    "a record did not come, no fewer than before": evolve(
        SITUATIONS["uploading"], sent=3, unread=2, round=2, unread_rounds=1, fewest_unread=2
    ),
    "conflicts were resolved, round 3 after the last record came": evolve(
        SITUATIONS["uploading"], sent=3, resend=2, round=3, unread_rounds=1, fewest_unread=2
    ),
    "conflicts were resolved, round 4 after the last record came": evolve(
        SITUATIONS["uploading"], sent=3, resend=2, round=4, unread_rounds=1, fewest_unread=2
    ),
    "all were rejected": evolve(SITUATIONS["uploading"], sent=3, rejected=3),
    "upload only, all were rejected": evolve(SITUATIONS["uploading"], sent=3, rejected=3, downloads=False),
    "all were rejected, page under way": evolve(_FETCHED, sent=3, rejected=3),
    "all were rejected, cancelling": evolve(SITUATIONS["cancelling, download under way"], sent=3, rejected=3),
    "the one record of a batch is under way": evolve(_SENT, batch=_ALONE, at_most=1),
    "the last attempt with one record is under way": evolve(_SENT, batch=_ALONE, at_most=1, max_attempts=1),
    "the hub has failed on three records": evolve(_SENT, batch=_ALONE, at_most=1, max_attempts=1, defects=3),
    "an attempt with one record was lost": evolve(_SENT, batch=_ALONE, doubt=Doubt.OPEN),
    "offers are under way": _OFFERS,
    "upload only, offers are under way": evolve(_OFFERS, downloads=False),
    "an attempt with offers was lost": evolve(_OFFERS, doubt=Doubt.OPEN),
    "the upload was given up": evolve(SITUATIONS["uploading"], upload_error=RemoteError("may not write")),
    "the upload was given up, indexes are built": evolve(
        SITUATIONS["downloading, indexes are built"], upload_error=RemoteError("may not write")
    ),
    "the upload was given up, page under way": evolve(_FETCHED, upload_error=RemoteError("may not write")),
    "a batch was cut": evolve(SITUATIONS["uploading"], at_most=2),
    "half a batch is under way": evolve(_SENT, at_most=2),
    "some were rejected": evolve(SITUATIONS["uploading"], sent=3, rejected=2),
    "the session followed the hub three times": evolve(_FETCHED, adaptations=3),
    "the session finds out what fits, page written": evolve(
        SITUATIONS["downloading, batch written"], page_size=500, page_fits=2000
    ),
    "the session finds out what fits, page under way": evolve(_FETCHED, page_size=500, page_fits=2000),
    "the session finds out what fits, page waiting": evolve(
        SITUATIONS["downloading, batch waiting"], page_size=500, page_fits=2000
    ),
    "uploading, batch under way": _SENT,
    "downloading, batch under way": _FETCHED,
    "cancelling, upload under way": SITUATIONS["cancelling, upload under way"],
    "cancelling, download under way": SITUATIONS["cancelling, download under way"],
}

CASES_EVENTS: dict[str, Event] = EVENTS | {
    "begin with a batch in doubt": Begin(replay=True),
    "begin with nothing waiting": Begin(waiting=False),
    "begin with nothing waiting but a batch in doubt": Begin(replay=True, waiting=False),
    "answered with more": Answered(3, more=True, spent=Spent(1.0, 0.5)),
    "answered, with indexes to be built": Answered(3, unbuilt=True),
    "answered, the last": Answered(3, last=True),
    "answered, the last, all rejected": Answered(3, rejected=3, last=True),
    "answered, the last, one goes up again": Answered(3, resend=1, last=True),
    "answered, the last, a record did not come": Answered(3, unread=1, last=True),
    "connection refused": RequestFailed(Unreachable("no", retryable=True)),
    "busy until 7 s": RequestFailed(RemoteError("busy", status=503, retryable=True, retry_after=7.0)),
    "refused: client_forked": _refused("client_forked"),
    "refused: epoch_changed": _refused("epoch_changed"),
    "refused: horizon_passed": _refused("horizon_passed", 410),
    "refused: too large": _refused("body_too_large", 413),
    "refused: too deep": _refused("too_deep", 422),
    "refused: too many spaces": _refused("too_many_spaces", 422),
    "refused: forbidden": _refused("forbidden", 403),
    "refused: malformed": _refused("malformed", 400),
    "the hub has failed": _failed(),
    "the hub has failed until 7 s": _failed(7.0),
    "a proxy says 413": RequestFailed(BadAnswer("a page", status=413)),
    "cancel with a grace of 5 s": CancelRequested(Reason.DEADLINE, 5.0),
}

CASES = _rows("cases.txt")
