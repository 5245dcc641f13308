"""The facts: all that guards read, for sessions, batches and keepers."""

from __future__ import annotations

from enum import StrEnum

from statesync.classes import frozen
from statesync.lifecycle.words import BatchPhase


class SessionEnd(StrEnum):
    """What the end of a session means for what comes next."""

    SETTLED = "settled"
    """It did what it could: done, cancelled by the program, or with rejections alone."""
    FAILED = "failed"
    """It failed, or could not begin; another one may fare better."""
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - an end, no password
    """The hub does not accept the token."""


@frozen
class KeeperFacts:
    """What the guards of a keeper may know. The defaults: no session was there, and nothing is in its way."""

    gap_over: bool = True
    """The gap after the last session is over, and so is the time that the hub has named."""
    failing: frozenset[str] = frozenset()
    """The names of the program's conditions that do not hold."""
    live: bool = False
    """The keeper listens for signals of the hub."""
    ended: SessionEnd | None = None
    """How the session has ended, None while it runs and where there is none."""


NO_KEEPER = KeeperFacts()


@frozen
class Facts:
    """All that a guard may know at the moment a trigger is fired.

    The defaults describe a session that has just begun: nothing open, nothing drained, nothing wrong.
    """

    batch: BatchPhase | None = None
    """The phase of the open batch; None when no batch is open."""
    cancelling: bool = False
    """The session is in the phase ``cancelling``."""
    request_ended: bool = False
    """No request of the open batch is under way."""
    deadline_passed: bool = False
    """The time that ``cancel(grace=…)`` gave the drain is over."""
    outbox_drained: bool = False
    """No change up to the session's upload limit is left to send."""
    feed_drained: bool = False
    """The hub said that no more pages follow."""
    in_doubt: bool = False
    """An upload batch was sent and ended without the hub's answer."""
    retryable: bool = False
    """The failure of the last request may go away by itself."""
    attempts_left: bool = False
    """The open batch may be sent once more."""
    keeper: KeeperFacts = NO_KEEPER
    """What the guards of a keeper may know."""

    def at(self, batch: BatchPhase | None, *, cancelling: bool) -> Facts:
        """Return these facts with another batch phase, and with whether the session is cancelling.

        Written out, because every move asks for it, and ``attrs.evolve`` takes four times as long.
        """
        return Facts(
            batch,
            cancelling,
            self.request_ended,
            self.deadline_passed,
            self.outbox_drained,
            self.feed_drained,
            self.in_doubt,
            self.retryable,
            self.attempts_left,
            self.keeper,
        )
