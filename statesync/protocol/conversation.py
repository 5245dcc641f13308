"""What a session remembers between two events: all that its next decision depends on."""

from __future__ import annotations

from enum import StrEnum

import attrs
from attrs import evolve, field

from statesync.classes import frozen
from statesync.errors import SyncFailed
from statesync.lifecycle import BatchPhase, Phase
from statesync.protocol.page_size import fitting
from statesync.values import Direction, Reason


class Doubt(StrEnum):
    """Whether the hub may have applied an upload whose answer the device does not have."""

    NONE = "none"
    EARLIER = "earlier"
    """A batch of an earlier session: it goes first, and is the next one to be opened until it is answered."""
    OPEN = "open"
    """The batch of this session that is open, or the last upload that was."""


class RequestState(StrEnum):
    """How far the request of the open batch has come."""

    NOT_SENT = "not_sent"
    """It is written down that it will be sent, and it has not been."""
    UNDER_WAY = "under_way"
    ENDED = "ended"


@frozen
class Spent:
    """Seconds that the open batch has taken so far: its requests, and the reading of its answer."""

    request: float = 0.0
    parsing: float = 0.0


NO_TIME = Spent()


@attrs.frozen
class OpenBatch:
    """The batch that is open. ``number`` counts the batches of the session, from 1.

    ``attempts`` is how often it was sent, or is just going to be. ``records`` is how many changes an upload
    has, ``last_position`` where in the outbox the last of them stands; 0 for a download, and the latter also
    for a batch of an earlier session. ``are_offers`` says that nobody made any of its changes here: they
    offer again what a restored hub has lost. Once a page has come ``records`` are its, and ``size`` are
    their bytes.
    """

    number: int
    direction: Direction
    attempts: int = 1
    request: RequestState = RequestState.NOT_SENT
    records: int = 0
    last_position: int = 0
    are_offers: bool = False
    size: int = 0
    spent: Spent = NO_TIME
    phase: BatchPhase = BatchPhase.OPEN

    @property
    def is_under_way(self) -> bool:
        """Whether its request is at the hub, or on the way to it or back."""
        return self.request is RequestState.UNDER_WAY


@frozen
class Committed:
    """What a transaction came to that only the database knew.

    ``records`` is how many of the batch's were accepted by the hub, or came from it. ``upload_limit`` is
    the position up to which the session uploads, where the transaction fixed one, and ``waiting`` how many
    changes stood before it then. ``seconds`` is how long the transaction took, with its commit.
    """

    records: int = 0
    upload_limit: int | None = None
    waiting: int | None = None
    seconds: float = 0.0


@attrs.frozen  # the proofs compare and hash it without end
class Conversation:
    """Everything that the next decision depends on.

    ``upload_limit`` is the position in the outbox up to which the session uploads; ``looked_through`` the
    position of the last change that this round has dealt with.
    """

    uploads: bool = True
    downloads: bool = True
    max_attempts: int = 5
    phase: Phase = Phase.IDLE
    batch: OpenBatch | None = None
    batches: int = 0
    doubt: Doubt = Doubt.NONE
    upload_limit: int = 0
    looked_through: int = 0
    round: int = 1
    at_most: int | None = None
    """Records that the next upload batch may have, after one was too much for the hub; None: no bound."""
    page_size: int = 0
    """Records that the open page, or the next one, is asked for; 0: as the hub gives them."""
    page_fits: int | None = None
    """Records that fit, as the last page that was stored shows; None: ``page_size`` stays what it is.

    It is what the page after the next one is asked for: that one is asked for already while a page is stored.
    """
    resend: int = 0
    """Records whose conflict was resolved in this round and which must go up again."""
    unread: int = 0
    """Records of this round whose conflict came without the hub's record, so that they are offered again."""
    fewest_unread: int | None = None
    """As few of them as a round has left; None: none had any. A round for them has to leave fewer."""
    unread_rounds: int = 0
    """Rounds that were begun for them."""
    upload_error: SyncFailed | None = field(default=None, eq=False)
    """Why the upload was given up, while the download goes on."""
    sent: int = 0
    rejected: int = 0
    defects: int = 0
    """Records on which the hub has failed, one after the other, since it took a batch."""
    outbox_drained: bool = False
    feed_drained: bool = False
    adaptations: int = 0
    cancelled_by: Reason | None = None
    deadline_passed: bool = False

    @property
    def all_rejected(self) -> bool:
        """Whether changes were sent and the hub took none of them."""
        return self.sent > 0 and self.rejected == self.sent

    @property
    def is_replaying(self) -> bool:
        """Whether a batch of an earlier session has to be settled before anything else."""
        return self.doubt is Doubt.EARLIER

    def after(self, committed: Committed, phase: Phase, batch: BatchPhase | None) -> Conversation:
        """Return this conversation with what was committed, in the phases that the machine is in."""
        limit = self.upload_limit if committed.upload_limit is None else committed.upload_limit
        still_open = self.batch
        if self.batch is not None and batch is not self.batch.phase:
            still_open = None if batch is None else evolve(self.batch, phase=batch)
        fits = self._fits_after(committed)
        if (phase, still_open, limit, fits) == (self.phase, self.batch, self.upload_limit, self.page_fits):
            return self
        return evolve(self, phase=phase, batch=still_open, upload_limit=limit, page_fits=fits)

    def _fits_after(self, committed: Committed) -> int | None:
        page = self.batch
        is_page = page is not None and page.direction is Direction.DOWNLOAD and page.records > 0
        if page is None or not is_page or self.page_fits is None:
            return self.page_fits
        return fitting(page.records, page.size, page.spent.request, committed.seconds)
