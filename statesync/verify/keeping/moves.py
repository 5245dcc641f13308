"""How a keeper's world moves: its triggers, the session that it has begun, time, the program's conditions.

A trigger may come at any moment, as often as it likes, or never: only an edge whose guards hold is taken. Of
the session it is known which edges its chart has, and not what its guards say: they may hold or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from attrs import evolve, frozen

from statesync.lifecycle import (
    KEEPER,
    SESSION,
    Chart,
    Edge,
    Facts,
    KeeperFacts,
    KeeperPhase,
    KeeperTrigger,
    Phase,
    SessionEnd,
)

GAP_PASSES = "the gap passes"
CONDITION_FAILS = "a condition fails"
CONDITIONS_HOLD = "the conditions hold again"

_MEANING = {
    Phase.DONE: (SessionEnd.SETTLED,),
    Phase.CANCELLED: (SessionEnd.SETTLED,),
    Phase.FAILED: (SessionEnd.FAILED, SessionEnd.TOKEN_REFUSED, SessionEnd.SETTLED),
}
"""What each end of a session may mean to the keeper. One with rejections alone has failed, and is settled."""


class KeeperScope(StrEnum):
    """What is explored. A keeper that is looked at alone has sessions that end at any moment."""

    ALONE = "keeper chart"
    WITH_SESSIONS = "with sessions"


@frozen(cache_hash=True)
class KeeperConfiguration:
    """Where a keeper stands, and what is so around it; two equal ones have the same future.

    ``session`` is the phase of the session that it has begun, None once it was told of its end, ``end`` what
    that end means. ``stopping`` stays true once it was told to stop.
    """

    phase: KeeperPhase
    session: Phase | None = None
    end: SessionEnd | None = None
    gap_over: bool = True
    failing: bool = False
    live: bool = False
    stopping: bool = False

    @property
    def has_running_session(self) -> bool:
        """Whether a session runs."""
        return self.session is not None and self.end is None

    def facts(self) -> Facts:
        """Return what the guards may know here."""
        failing = frozenset({"a condition"}) if self.failing else frozenset[str]()
        return Facts(keeper=KeeperFacts(self.gap_over, failing, self.live, self.end))

    def __str__(self) -> str:
        said = {
            f"session {self.session}": self.session is not None,
            f"it counts as {self.end}": self.end is not None,
            "gap not over": not self.gap_over,
            "a condition fails": self.failing,
            "live": self.live,
        }
        return ", ".join([f"keeper {self.phase}", *(words for words, holds in said.items() if holds)])


@frozen
class KeeperStep:
    """One step: ``cause`` is the keeper's trigger that was fired, or in words what else happened."""

    source: KeeperConfiguration
    cause: KeeperTrigger | str
    target: KeeperConfiguration

    @property
    def trigger(self) -> KeeperTrigger | None:
        """The trigger that was fired, None for what the keeper does not do itself."""
        return self.cause if isinstance(self.cause, KeeperTrigger) else None

    @property
    def begins(self) -> bool:
        """Whether a session begins with it."""
        syncing = self.target.phase is KeeperPhase.SYNCING
        return self.trigger is not None and syncing and self.trigger is not KeeperTrigger.SESSION_ENDED

    def __str__(self) -> str:
        return f"{self.cause}: {self.target}"


class KeeperMoves:
    """Every step that a keeper's chart and its world allow."""

    def __init__(self, scope: KeeperScope, keeper: Chart = KEEPER, session: Chart = SESSION) -> None:
        self._scope, self._keeper, self._session = scope, keeper, session

    def first(self) -> Iterator[KeeperConfiguration]:
        """Yield where a keeper may begin: with signals of the hub's and without."""
        for live in (False, True):
            yield KeeperConfiguration(KeeperPhase(self._keeper.initial), live=live)

    def of(self, now: KeeperConfiguration) -> Iterator[KeeperStep]:
        """Yield every step out of ``now``."""
        facts = now.facts()
        for edge in self._keeper.edges:
            if edge.source is now.phase and edge.refused_by(facts) is None:
                trigger = KeeperTrigger(edge.trigger)
                yield KeeperStep(now, trigger, _moved(now, edge))
        if now.has_running_session:
            yield from self._session_steps(now)
        if not now.gap_over:
            yield KeeperStep(now, GAP_PASSES, evolve(now, gap_over=True))
        words = CONDITIONS_HOLD if now.failing else CONDITION_FAILS
        yield KeeperStep(now, words, evolve(now, failing=not now.failing))

    def _session_steps(self, now: KeeperConfiguration) -> Iterator[KeeperStep]:
        for words, phase in self._ways_on(now):
            for end in _MEANING.get(phase, (None,)):
                yield KeeperStep(now, words, evolve(now, session=phase, end=end))

    def _ways_on(self, now: KeeperConfiguration) -> Iterator[tuple[str, Phase]]:
        if self._scope is KeeperScope.ALONE:
            yield from ((f"the session is {phase}", phase) for phase in _MEANING)
            return
        for edge in self._session.edges:
            if edge.source is now.session and edge.target is not edge.source:
                yield f"the session's {edge.trigger}", Phase(edge.target)


def _moved(now: KeeperConfiguration, edge: Edge) -> KeeperConfiguration:
    """Return ``now`` after the keeper has taken ``edge``: it begins a session, or was told of its end."""
    moved = evolve(now, phase=KeeperPhase(edge.target))
    if edge.trigger is KeeperTrigger.STOP:
        return evolve(moved, stopping=True)
    if edge.trigger is KeeperTrigger.SESSION_ENDED:
        return evolve(moved, session=None, end=None, gap_over=False)
    if edge.target is KeeperPhase.SYNCING:
        return evolve(moved, session=Phase(SESSION.initial), end=None)
    return moved
