"""What a keeper remembers between two events: all that its next decision depends on, its timers with it."""

from __future__ import annotations

from attrs import evolve

from statesync.classes import frozen
from statesync.keeping.options import KeeperOptions
from statesync.lifecycle import KeeperPhase, KeeperTrigger

CLOCK_LOOK = 15.0
"""Seconds between two looks at the wall clock: so late at most is it noticed that the machine slept."""

TIMERS = {
    KeeperPhase.RESTING: KeeperTrigger.INTERVAL,
    KeeperPhase.LISTENING: KeeperTrigger.INTERVAL,
    KeeperPhase.BACKING_OFF: KeeperTrigger.BACK_OFF_OVER,
    KeeperPhase.HELD: KeeperTrigger.CONDITIONS_CHANGED,
    KeeperPhase.NEEDS_TOKEN: KeeperTrigger.INTERVAL,
}
"""What the timer of each phase brings; the other phases wait for a session's end, or for nothing."""

_WORDS = {
    KeeperTrigger.INTERVAL: "the interval was over",
    KeeperTrigger.BACK_OFF_OVER: "the back-off was over",
    KeeperTrigger.CONDITIONS_CHANGED: "the conditions are asked again",
}


@frozen
class Moment:
    """When something happens, in seconds: ``at`` by the monotonic clock, ``wall`` by the wall clock."""

    at: float
    wall: float

    def jump_since(self, before: Moment) -> float:
        """Return the seconds by which the wall clock has moved otherwise than the monotonic one."""
        return (self.wall - before.wall) - (self.at - before.at)


@frozen
class Wish:
    """A session that something asks for, before the phase's timer does.

    It is due at ``at``; more of the same may put that off, up to ``latest``.
    """

    trigger: KeeperTrigger
    why: str
    at: float
    latest: float


@frozen
class Standing:
    """Everything that the next decision depends on. Times are by the monotonic clock.

    ``since`` is when the phase was entered, ``why`` says for people what led there. ``due`` is when the
    phase's timer is over; while conditions are asked, when their time is. ``asking`` is the trigger for which
    they are asked. Before ``earliest`` no session begins. ``seen`` is the last moment that was told.
    """

    options: KeeperOptions
    since: Moment
    seen: Moment
    why: str
    phase: KeeperPhase = KeeperPhase.RESTING
    due: float | None = None
    wish: Wish | None = None
    asking: KeeperTrigger | None = None
    earliest: float = float("-inf")
    failures: int = 0

    @classmethod
    def begun(cls, options: KeeperOptions, moment: Moment) -> Standing:
        """Return a keeper that begins now: it wants its first session at once."""
        wish = Wish(KeeperTrigger.NUDGE, "it was started", moment.at, moment.at)
        due = moment.at + options.every
        return cls(options, moment, moment, "it was started", due=due, wish=wish)

    def entered(self, phase: KeeperPhase) -> Standing:
        """Return this keeper in the phase that the machine is in now."""
        return self if phase is self.phase else evolve(self, phase=phase, since=self.seen)

    @property
    def has_session(self) -> bool:
        """Whether a session is there, whose end will be told."""
        return self.phase in (KeeperPhase.SYNCING, KeeperPhase.STOPPING)

    @property
    def is_due(self) -> bool:
        """Whether something asks for a session, which waits for the gap or the conditions."""
        return self.wish is not None or self.asking is not None

    def next_trigger(self) -> tuple[KeeperTrigger, str, float] | None:
        """Return what comes next by the clock, why, and when; None where only a session's end comes."""
        if self.due is None or self.has_session:
            return None
        trigger = TIMERS[self.phase]
        timer = (trigger, _WORDS[trigger], max(self.due, self.earliest))
        if self.wish is None:
            return timer
        wish = (self.wish.trigger, self.wish.why, max(self.wish.at, self.earliest))
        return min(wish, timer, key=lambda each: each[2])

    def wakes_at(self) -> float | None:
        """Return when ``Ticked`` has to come at the latest, None: the clock brings nothing."""
        if self.asking is not None and self.due is not None:
            return self.due
        coming = self.next_trigger()
        return None if coming is None else min(coming[2], self.seen.at + CLOCK_LOOK)
