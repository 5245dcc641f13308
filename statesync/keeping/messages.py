"""What a keeper's core and its driver say to each other: moments, events, actions, decisions."""

from __future__ import annotations

from statesync.classes import frozen
from statesync.keeping.standing import Standing
from statesync.lifecycle import Facts, KeeperTrigger, SessionEnd

# -- events ----------------------------------------------------------------------------------------


@frozen
class Ticked:
    """Time has passed, up to ``Standing.wakes_at`` or not so far."""


@frozen
class Changed:
    """A commit has left something to send."""


@frozen
class Signalled:
    """The hub has said that its head has moved."""


@frozen
class Nudged:
    """The program wants a session now. ``why`` is for people."""

    why: str = "the program asked for it"


@frozen
class TokenRenewed:
    """The program has a new token."""


@frozen
class ConditionsAsked:
    """The program's conditions have answered: those of ``failing`` do not hold. ``why`` says more of them."""

    failing: frozenset[str] = frozenset()
    why: str = ""


@frozen
class SessionEnded:
    """The session is over, or could not begin.

    ``retry_after`` are the seconds that the hub has asked for. ``chance`` is at random, from 0 to 1: the
    jitter of the back-off.
    """

    end: SessionEnd
    why: str
    retry_after: float | None = None
    chance: float = 0.5


@frozen
class StopAsked:
    """Nothing is to begin any more; ``grace`` are the seconds that a session's batch in flight gets."""

    grace: float | None = None


Event = Ticked | Changed | Signalled | Nudged | TokenRenewed | ConditionsAsked | SessionEnded | StopAsked

# -- actions ---------------------------------------------------------------------------------------


@frozen
class AskConditions:
    """Ask the program's conditions, beside everything else; leads to ``ConditionsAsked``."""


@frozen
class BeginSession:
    """Begin a session; leads to ``SessionEnded``, also where it cannot begin."""


@frozen
class CancelSession:
    """Cancel the session that runs, which gets ``grace`` seconds; None: as its options say."""

    grace: float | None


Action = AskConditions | BeginSession | CancelSession


NO_FACTS = Facts()


@frozen
class Decision:
    """What to do about an event.

    The driver fires ``trigger`` (None: nothing moves) with ``facts``, adopts ``standing`` in the phase that
    the machine is in then (``Standing.entered``), and does ``actions``.
    """

    standing: Standing
    trigger: KeeperTrigger | None = None
    facts: Facts = NO_FACTS
    actions: tuple[Action, ...] = ()
