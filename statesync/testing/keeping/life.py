"""A keeper under a clock of its own: the core and the real machine, driven as a driver does, without waiting.

The test says what happens and lets time pass. What was seen is kept as a list of plain words and times, so
that a test judges what a program would have seen, and not what the core remembers.
"""

from __future__ import annotations

from attrs import Factory, field

from statesync.classes import define, frozen
from statesync.keeping.decide import decide
from statesync.keeping.messages import (
    AskConditions,
    BeginSession,
    CancelSession,
    ConditionsAsked,
    Decision,
    Event,
    SessionEnded,
    Ticked,
)
from statesync.keeping.options import KeeperOptions
from statesync.keeping.standing import Moment, Standing
from statesync.lifecycle import KeeperPhase, SessionEnd, keeper_chart
from statesync.machine import KeeperMachine

ENOUGH = 10
"""How often a core may ask to be told that no time has passed."""


@frozen
class Seen:
    """Something that a program would have seen: ``what`` happened ``at`` a time of the monotonic clock."""

    at: float
    what: str


@define(eq=False)
class Life:
    """One keeper's life. ``failing`` are the conditions that do not hold; ``answers``: they answer at all."""

    options: KeeperOptions = Factory(KeeperOptions)
    at: float = 1000.0
    ahead: float = 1_700_000_000.0
    """By how much the wall clock is ahead of the monotonic one."""
    failing: frozenset[str] = frozenset()
    answers: bool = True
    seen: list[Seen] = field(factory=list)
    grace: list[float | None] = field(factory=list)
    machine: KeeperMachine = field(init=False)
    standing: Standing = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin to live."""
        self.machine = KeeperMachine(keeper_chart(self.options.conditions))
        self.standing = Standing.begun(self.options, self._moment())
        self.tell(Ticked())

    def _moment(self) -> Moment:
        return Moment(self.at, self.at + self.ahead)

    @property
    def phase(self) -> KeeperPhase:
        """The phase that the keeper is in."""
        return self.machine.phase

    def tell(self, event: Event) -> Life:
        """Tell the core, do what it decides, and go on until it asks for nothing more at this moment."""
        self._do(decide(self.standing, self._moment(), event))
        for _ in range(ENOUGH):
            wakes_at = self.standing.wakes_at()
            if wakes_at is None or wakes_at > self.at:
                return self
            self._do(decide(self.standing, self._moment(), Ticked()))
        raise AssertionError(f"it does not come to rest: {self.standing}")

    def _do(self, decision: Decision) -> None:
        if decision.trigger is not None:
            move = self.machine.fire(decision.trigger, facts=decision.facts)
            self.seen.append(Seen(self.at, f"{move.trigger}: {move.source} -> {move.target}"))
        self.standing = decision.standing.entered(self.machine.phase)
        for action in decision.actions:
            match action:
                case BeginSession():
                    self.seen.append(Seen(self.at, "begin"))
                case AskConditions() if self.answers:
                    self.tell(ConditionsAsked(self.failing))
                case CancelSession(grace):
                    self.grace.append(grace)

    def ends(self, end: SessionEnd = SessionEnd.SETTLED, **more: float) -> Life:
        """Let the session end."""
        self.seen.append(Seen(self.at, "end"))
        return self.tell(SessionEnded(end, f"it was {end}", **more))

    def next_wake(self) -> float | None:
        """Return when the core has to be told that time has passed, None where it need not.

        A look at a clock that has not moved says nothing, and is passed over: a year has two million.
        """
        standing = self.standing
        coming = standing.next_trigger()
        if standing.asking is not None or coming is None or self._was_set(standing.seen):
            return standing.wakes_at()
        return coming[2]

    def _was_set(self, seen: Moment) -> bool:
        """Tell whether the wall clock has moved otherwise than the monotonic one since a moment."""
        return abs(self.ahead - (seen.wall - seen.at)) > 0.001

    def step(self, until: float) -> bool:
        """Let time pass until the core has to be told of it, and tell it; False where that is not before."""
        wakes_at = self.next_wake()
        if wakes_at is None or wakes_at > until:
            self.at = until
            return False
        self.at = max(self.at, wakes_at)
        self.tell(Ticked())
        return True

    def passes(self, seconds: float) -> Life:
        """Let time pass, and tick whenever the core has to be told of it."""
        until = self.at + seconds
        while self.step(until):
            pass
        return self

    def times(self, what: str) -> list[float]:
        """Return when something was seen."""
        return [seen.at for seen in self.seen if seen.what == what]

    def begun(self) -> int:
        """Return how many sessions were begun."""
        return len(self.times("begin"))
