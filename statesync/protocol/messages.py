"""What the conversation speaks in: its memory, the events it hears, the decisions it answers with.

All are frozen values, so a conversation can be stored, compared and explored. ``protocol.decide`` maps a
``Conversation`` and an ``Event`` to a ``Decision``: one transaction (triggers and effects), then actions.
"""

from __future__ import annotations

from attrs import evolve, field, frozen

from statesync.errors import RemoteError, SyncError, SyncFailed
from statesync.lifecycle import AnyTrigger, BatchPhase, Facts, Phase
from statesync.values import Direction, Reason
from statesync.wire import Problem

# -- what the conversation remembers ---------------------------------------------------------------


@frozen
class OpenBatch:
    """The batch that is open. ``number`` counts the batches of the session, from 1.

    ``attempts`` is how often it was sent. ``doubtful``: an earlier attempt may have been applied.
    ``request_ended``: no request of it is under way.
    """

    number: int
    direction: Direction
    attempts: int = 0
    doubtful: bool = False
    request_ended: bool = True
    phase: BatchPhase = BatchPhase.OPEN


@frozen
class Conversation:
    """Everything that the next decision depends on."""

    uploads: bool = True
    downloads: bool = True
    max_attempts: int = 5
    phase: Phase = Phase.IDLE
    batch: OpenBatch | None = None
    batches: int = 0
    replaying: bool = False
    """A batch of an earlier session is in doubt and goes first."""
    round: int = 1
    resend: int = 0
    """Records whose conflict was resolved in this round and which must go up again."""
    sent: int = 0
    rejected: int = 0
    outbox_drained: bool = False
    feed_drained: bool = False
    in_doubt: bool = False
    adaptations: int = 0
    cancelled_by: Reason | None = None
    deadline_passed: bool = False

    def at(self, phase: Phase, batch: BatchPhase | None) -> Conversation:
        """Return this conversation in the phases that the machine is in."""
        still_open = None if batch is None or self.batch is None else evolve(self.batch, phase=batch)
        return evolve(self, phase=phase, batch=still_open)


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
    """The outbox was looked through: ``records`` changes stand ready as the next batch, 0 for none."""

    records: int


@frozen
class Proceed:
    """Nothing else came in between: go on."""


@frozen
class Answered:
    """The open batch has its answer, checked but not stored yet.

    ``records`` in it; for an upload how many the hub ``rejected``, how many must be sent again after
    their conflict was resolved (``resend``), and whether it was the ``last`` that waited; for a download
    whether ``more`` pages follow.
    """

    records: int
    rejected: int = 0
    resend: int = 0
    last: bool = False
    more: bool = False


@frozen
class Broke:
    """The open batch's request ended without an answer that can be used."""

    error: RemoteError


@frozen
class BackoffOver:
    """The time before the next attempt has passed."""


@frozen
class CancelRequested:
    """Somebody wants the session to end."""

    reason: Reason


@frozen
class GraceOver:
    """The time that the cancel gave the batch in flight has passed."""


@frozen
class Stuck:
    """The session cannot go on for a reason of this side: a transaction was rolled back, or a defect.

    No request is under way any more.
    """

    error: SyncFailed


Event = Begin | Prepared | Proceed | Answered | Broke | BackoffOver | CancelRequested | GraceOver | Stuck


# -- effects: what a transaction writes besides the journal ------------------------------------------


@frozen
class BeginSession:
    """Fix the horizon: changes made after it wait for the next session.

    Without ``uploads`` it lies before every change: none waited when the session looked, or none shall go.
    """

    uploads: bool


@frozen
class StoreBatch:
    """Write down the new batch, an upload with its exact payload, before it is sent for the first time."""

    number: int
    direction: Direction
    replay: bool


@frozen
class StoreAttempt:
    """Write down that the batch is being sent; an upload is in doubt from now on until it ends."""

    number: int
    attempt: int


@frozen
class StoreAnswer:
    """Apply the answer: acknowledgements, verdicts and resolutions, or records and cursors."""

    number: int
    direction: Direction


@frozen
class StoreDoubt:
    """The attempt failed; ``doubtful`` says whether the hub may have applied any of the batch's attempts."""

    number: int
    doubtful: bool


@frozen
class DropBatch:
    """Forget what was staged for the batch, except for the payload of one that is in doubt."""

    number: int
    doubtful: bool


@frozen
class Adapt:
    """Follow the hub's refusal: take a new identity, or read everything again under its epoch."""

    problem: Problem


@frozen
class EndSession:
    """Record the outcome and its reason (K11), and clear what was staged (K9)."""

    reason: str | None
    error: SyncError | None = field(default=None, eq=False)


Effect = BeginSession | StoreBatch | StoreAttempt | StoreAnswer | StoreDoubt | DropBatch | Adapt | EndSession


# -- actions: what the driver does after the commit --------------------------------------------------


@frozen
class Prepare:
    """Look for the next upload batch; leads to ``Prepared``. ``round`` 0 is the batch in doubt."""

    round: int


@frozen
class Send:
    """Start the open batch's request; leads to ``Answered`` or ``Broke``."""

    direction: Direction


@frozen
class Wait:
    """Wait before attempt ``attempt``, at least ``at_least`` seconds; leads to ``BackoffOver``."""

    attempt: int
    at_least: float | None


@frozen
class Drain:
    """Start the clock of the cancel's grace, if it has one; leads to ``GraceOver``."""


@frozen
class GoOn:
    """Leads to ``Proceed``, after a cancel that waits has been served."""


@frozen
class Interrupt:
    """End the request that is under way: nobody waits for its answer."""


@frozen
class Finish:
    """The session is over; release everything, then tell. ``error`` is None for a session that is done."""

    error: SyncError | None = field(default=None, eq=False)


Action = Prepare | Send | Wait | Drain | GoOn | Interrupt | Finish


NOTHING_KNOWN = Facts()


@frozen
class Decision:
    """What to do about one event: one transaction, then actions."""

    conversation: Conversation
    triggers: tuple[AnyTrigger, ...] = ()
    facts: Facts = NOTHING_KNOWN
    effects: tuple[Effect, ...] = ()
    then: tuple[Action, ...] = ()
