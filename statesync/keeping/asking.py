"""When a keeper that listens asks its hub for news: how long the hub is to wait, and what follows a failure.

A signal that is lost costs time and nothing else, so nothing here is in a hurry: a hub that is away is asked
less and less often, one that does not know the question once an hour, and where something on the way cuts
whoever waits for long, the question waits for less.
"""

from __future__ import annotations

from attrs import evolve

from statesync.classes import frozen
from statesync.errors import RemoteError, Unauthorized, Unreachable
from statesync.keeping.ending import LONGEST_RETRY_AFTER, back_off

LONGEST_WAIT = 25.0
"""Seconds that a hub is asked to wait."""

SHORTEST_WAIT = 2.0
"""Seconds that it is asked to wait at least, however soon a question was cut."""

SELDOM = 3600.0
"""Seconds after which a hub is asked again that does not know the question, or does not answer it."""

_CUT = 0.75
"""The part of the time after which a question was cut for which the next one waits."""

_GROWS = 1.1
"""How much longer the next question waits after one that was answered."""

_LIVED = 1.0
"""Seconds after which a question that was lost is taken for one that was heard: something on the way has cut
it, or the hub has ended. It is also the least time between two questions that were answered."""

_NEVER = float("-inf")

_REFUSED = frozenset({401, 403})
_UNKNOWN = frozenset({404, 405, 501})
"""What an older hub answers, which has no such route, or something on the way that lets none through."""


@frozen
class Asking:
    """How the next question is asked: not before ``at``, by the monotonic clock, for ``wait`` seconds."""

    wait: float = LONGEST_WAIT
    at: float = _NEVER
    failures: int = 0
    is_refused: bool = False
    """Whether the last answer was that whoever asks may not, or there was no token to ask with."""
    is_known: bool = False
    """Whether the hub has answered before: it is no older one then, whatever stands in its place."""
    is_away: bool = False
    """Whether it could not be asked when it was asked last; it has said neither no nor when to come again."""
    uncut: float | None = None
    """The ``wait`` of a question that was cut, as long as it may have been the hub itself that has ended."""

    @property
    def hears(self) -> bool | None:
        """Whether the hub answers; None as long as it has not had the time to."""
        if not self.is_known and self.at == _NEVER:
            return None
        return self.is_known and self.failures == 0 and not self.is_refused

    def answered(self, began: float) -> Asking:
        """Return how to go on after an answer to a question that ``began`` at a time.

        A hub that answers at once, with nothing new, is asked no more than once in a second.
        """
        return Asking(min(LONGEST_WAIT, self.wait * _GROWS), began + _LIVED, is_known=True)

    def failed(self, error: RemoteError, began: float, now: float, chance: float) -> Asking:
        """Return how to go on after a failure of a question that ``began`` at a time.

        ``chance`` is at random, from 0 to 1: those that a hub has lost in one moment do not come back in one.
        """
        is_refused = isinstance(error, Unauthorized) or error.status in _REFUSED
        if not self.is_known and (is_refused or error.status in _UNKNOWN):
            return evolve(self, at=now + SELDOM, failures=0, is_refused=is_refused, is_away=False)
        lived, asked_for = now - began, error.retry_after
        was_heard = lived >= _LIVED and not isinstance(error, Unreachable)
        if was_heard and asked_for is None and not is_refused:
            wait = max(SHORTEST_WAIT, _CUT * min(lived, self.wait))
            return Asking(wait, now + chance, is_known=self.is_known, uncut=self.wait)
        # A hub that is away has cut the last question by its own end: nothing on the way is in a hurry.
        wait = self.wait if self.uncut is None else self.uncut
        failures = self.failures + 1
        # A Retry-After is in whole seconds, the same for all: so they come back within the second after it.
        least = min(asked_for, LONGEST_RETRY_AFTER) + chance if asked_for else 0.0
        at = now + max(back_off(failures, chance), least)
        is_away = asked_for is None and not is_refused and error.status not in _UNKNOWN
        return Asking(wait, at, failures, is_refused, self.is_known, is_away)

    def reached(self) -> Asking:
        """Return how to go on after a session that has reached the hub: at once, where it had been away."""
        return evolve(self, at=_NEVER, failures=0, is_away=False) if self.is_away else self
