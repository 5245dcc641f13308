"""What the conversation and its driver say to each other: events, effects, actions, decisions.

``decide`` leads from a ``Conversation`` and an ``Event`` to a ``Decision``: one
transaction (triggers and effects), then actions.
"""

from __future__ import annotations

from attrs import field

from statesync.classes import frozen
from statesync.errors import RemoteError, SyncError, SyncFailed
from statesync.lifecycle import AnyTrigger, Facts
from statesync.protocol.conversation import NO_TIME, Conversation, Spent
from statesync.values import Direction, Reason
from statesync.wire import Problem

# -- events ----------------------------------------------------------------------------------------


@frozen
class Begin:
    """The session may start.

    ``replay``: a batch in doubt waits to be settled. ``waiting``: the outbox may hold something to upload.
    """

    replay: bool = False
    waiting: bool = True


@frozen
class Prepared:
    """The outbox was looked through: ``records`` changes stand ready as the next batch, 0 for none.

    ``last_position`` is where the last of them stands in the outbox; 0 for a batch of an earlier session.
    ``are_offers`` says that nobody made any of them here: they offer again what a restored hub has lost.
    """

    records: int
    last_position: int = 0
    are_offers: bool = False


@frozen
class Continued:
    """Nothing else came in between: go on."""


@frozen
class HeadStartOver:
    """The upload's request has had the time to be sent, and nothing else has happened."""


@frozen
class Answered:
    """The open batch has its answer, checked but not stored yet.

    ``records`` in it; for an upload how many the hub ``rejected``, how many must be sent again after
    their conflict was resolved (``resend``) or because the hub's record did not come (``unread``), and
    whether it was the ``last`` that waited; for a download whether ``more`` pages follow, the bytes of its
    records (``size``), how many records are ``expected`` of the scans under way, its own among them, where
    that is known, or how many versions the feeds are ``behind`` the head after it, and, with the last page,
    whether indexes wait to be built (``unbuilt``). ``spent`` are the seconds of this attempt.
    """

    records: int
    rejected: int = 0
    resend: int = 0
    unread: int = 0
    last: bool = False
    more: bool = False
    size: int = 0
    unbuilt: bool = False
    spent: Spent = NO_TIME
    expected: int | None = field(default=None, eq=False)
    behind: int | None = field(default=None, eq=False)


@frozen
class RequestFailed:
    """The open batch's request ended, after ``seconds``, without an answer that can be used."""

    error: RemoteError
    seconds: float = 0.0


@frozen
class BackoffOver:
    """The time before the next attempt has passed."""


@frozen
class Built:
    """The indexes that waited are built."""


@frozen
class CancelRequested:
    """Somebody wants the session to end; ``grace`` are the seconds that the batch in flight may still take.

    None: as long as its request takes.
    """

    reason: Reason
    grace: float | None = None


@frozen
class GraceOver:
    """The time that the cancel gave the batch in flight has passed."""


@frozen
class LocalFailure:
    """The session cannot go on for a reason of this side: a transaction was rolled back, or a defect.

    No request is under way any more.
    """

    error: SyncFailed


Event = (
    Begin
    | Prepared
    | Continued
    | HeadStartOver
    | Answered
    | RequestFailed
    | BackoffOver
    | Built
    | CancelRequested
    | GraceOver
    | LocalFailure
)


# -- effects: what a transaction writes besides the journal ------------------------------------------


@frozen
class BeginSession:
    """Fix the upload limit: changes made after it wait for the next session.

    Without ``uploads`` it lies before every change: none waited when the session looked, or none shall go.
    """

    uploads: bool


@frozen
class StoreBatch:
    """Write down the new batch, an upload with its exact payload, before it is sent for the first time."""

    number: int
    direction: Direction


@frozen
class StoreAttempt:
    """Write down that the batch is being sent; an upload is in doubt from now on until it ends."""

    number: int
    attempt: int


@frozen
class StoreAnswer:
    """Apply the answer: acknowledgements, verdicts and resolutions, or records and cursors.

    An answer to a batch of an earlier session fixes the upload limit anew: what was edited before it was
    settled goes up in this session. ``spent`` goes into the statistics.
    """

    number: int
    direction: Direction
    spent: Spent = NO_TIME


@frozen
class StoreDoubt:
    """The attempt failed; ``in_doubt`` says whether the hub may have applied any of the batch's attempts."""

    number: int
    in_doubt: bool


@frozen
class DropBatch:
    """Forget what was staged for the batch, except for the payload of one that is in doubt."""

    number: int
    in_doubt: bool


@frozen
class HoldBack:
    """Park the batch's changes, with what the hub, or what stands before it, said of them.

    That is one change alone, or offers of what a restored hub has lost and the device may not write.
    With ``retry_after`` it is offered again after so many seconds.
    """

    number: int
    code: str
    message: str
    retry_after: float | None = None


@frozen
class Adapt:
    """Follow the hub's refusal: take a new identity, or read everything again under its epoch."""

    problem: Problem


@frozen
class StoreReason:
    """Keep in the journal who or what cancelled the session (K11)."""

    reason: Reason


@frozen
class EndSession:
    """Record the outcome and its reason (K11), and clear what was staged (K9)."""

    reason: str | None
    error: SyncError | None = field(default=None, eq=False)


Effect = (
    BeginSession
    | StoreBatch
    | StoreAttempt
    | StoreAnswer
    | StoreDoubt
    | DropBatch
    | HoldBack
    | Adapt
    | StoreReason
    | EndSession
)


# -- what the driver does beside the transaction: nothing depends on it, and nothing is promised by it -------


@frozen
class AskAhead:
    """Ask for the page that follows the one that is being stored, of up to ``page_size`` records.

    It becomes the next batch's answer if that batch, once it is open, asks for the very same.
    """

    page_size: int = 0


@frozen
class EndRequests:
    """No other request will follow: what makes them may end by itself."""


Meanwhile = AskAhead | EndRequests


# -- actions: what the driver does after the commit --------------------------------------------------


@frozen
class Prepare:
    """Look for the next upload batch behind position ``after``, up to ``up_to``; leads to ``Prepared``.

    ``round`` 0 is the batch of an earlier session, which is looked for by its doubt. ``at_most`` bounds the
    records of the batch further than the options do.
    """

    round: int
    after: int = 0
    up_to: int = 0
    at_most: int | None = None


@frozen
class Send:
    """Start the open batch's request; leads to ``Answered`` or ``RequestFailed``.

    A download asks for up to ``page_size`` records, 0: as many as the hub gives. An upload has None.
    """

    direction: Direction
    page_size: int | None = None


@frozen
class GiveHeadStart:
    """Leave an upload's request alone for the moment that it takes to be sent; leads to ``HeadStartOver``.

    Two busy threads would hold each other up.
    """


@frozen
class ComposeAhead:
    """Compose the upload batch that may follow the one under way, to have it at hand. Writes nothing."""

    round: int
    after: int
    up_to: int
    at_most: int | None = None


@frozen
class Wait:
    """Wait before attempt ``attempt``, more than ``at_least`` seconds; leads to ``BackoffOver``."""

    attempt: int
    at_least: float | None


@frozen
class Drain:
    """Wait for the request under way, ``grace`` seconds at most; leads to ``GraceOver`` where it has an end.

    Of several ends the earliest counts.
    """

    grace: float | None


@frozen
class Continue:
    """Leads to ``Continued``, after a cancel that waits has been served."""


@frozen
class Build:
    """Build the indexes that wait, each in a transaction of its own; leads to ``Built``.

    A cancel, or the end of the session's time, interrupts it at once, and is what happens next then.
    """


@frozen
class Interrupt:
    """End the request that is under way: nobody waits for its answer."""


@frozen
class Finish:
    """The session is over; release everything, then tell. ``error`` is None for a session that is done."""

    error: SyncError | None = field(default=None, eq=False)


Action = Prepare | Send | GiveHeadStart | ComposeAhead | Wait | Drain | Continue | Build | Interrupt | Finish


NOTHING_KNOWN = Facts()


@frozen
class Decision:
    """What to do about one event: one transaction, what goes on beside it, and what follows it."""

    conversation: Conversation
    triggers: tuple[AnyTrigger, ...] = ()
    facts: Facts = NOTHING_KNOWN
    effects: tuple[Effect, ...] = ()
    meanwhile: tuple[Meanwhile, ...] = ()
    actions: tuple[Action, ...] = ()
