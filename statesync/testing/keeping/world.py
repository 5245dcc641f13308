"""The world of a keeper, under a virtual clock: outages, sleeps, clocks that are set, upgrades.

The world decides by a seed what happens and when. It judges what it sees: when sessions begin, and how long a
change has to wait for one that takes it along.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from statesync.keeping.messages import Changed, Nudged, Signalled, StopAsked, TokenRenewed
from statesync.keeping.options import KeeperOptions
from statesync.lifecycle import KeeperPhase, SessionEnd
from statesync.testing.keeping.life import Life

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY
LONGEST_SESSION = 120.0
LONGEST_RETRY_AFTER = HOUR
WAKING = 15.0 + 10.0 + 5.0
"""Seconds that it may take to notice a sleep, to ask conditions, and to ask them again."""


class KeeperWorld:
    """A keeper's life under a virtual clock, which ``live`` runs through; the same seed is the same life.

    Subclass it: ``options`` says how the keeper lives, ``events`` what happens and how often, and
    ``check``, which is called after each of them, what your program expects. Every event is a method; one of
    your own may call ``pass_until``, and others. What the keeper promises is judged all the time: one
    session at a time, none within the gap, none before ``Retry-After``, none while a condition fails or after
    a stop, and no change waits for longer than an interval once nothing is in the way.
    """

    days: float = 365.0
    """How long it lives."""

    def __init__(self, seed: int) -> None:
        self.seed: int = seed
        self.chance: random.Random = random.Random(seed)
        self.settings: KeeperOptions = self.options()
        self.hub_is_up: bool = True
        self.token_is_good: bool = True
        self.sessions: int = 0
        self._changes: list[float] = []
        self._good_since: float | None = None
        self._judged = 0
        self._ends_at: float | None = None
        self._began_at = 0.0
        self._not_before = float("-inf")
        self._life = Life(self.settings)
        self._begin_anew(1000.0, 1_700_000_000.0)

    def _begin_anew(self, at: float, ahead: float) -> None:
        """Start the program, for the first time or after an upgrade: nothing of the last keeper is left."""
        self._life = Life(self.settings, at, ahead)
        self._judged, self._ends_at, self._not_before = 0, None, float("-inf")
        self._judge()

    # -- what a subclass may say -----------------------------------------------------------------------

    def options(self) -> KeeperOptions:
        """Return how the keeper lives; by default, in one of several ways."""
        return KeeperOptions(
            every=self.chance.choice([DAY, 2 * DAY, WEEK, 2 * WEEK]),
            min_gap=self.chance.choice([0.0, 1.0, 60.0]),
            on_change=self.chance.random() < 0.7,
            live=self.chance.random() < 0.5,
            conditions=self.chance.choice([(), ("on_wifi",)]),
        )

    def events(self) -> Mapping[Callable[[], None], int]:
        """Return what happens, and how often beside the rest."""
        return {
            self.change: 40,
            self.news: 20,
            self.signal: 10,
            self.hub_goes_and_comes: 4,
            self.token_goes_and_comes: 2,
            self.conditions_fail_and_hold: 6,
            self.sleep: 20,
            self.set_the_clock: 3,
            self.nudge: 10,
            self.upgrade: 2,
        }

    def check(self) -> None:
        """Expect something more after an event. Nothing, by default."""

    @property
    def now(self) -> float:
        """The time, in seconds of the monotonic clock."""
        return self._life.at

    @property
    def phase(self) -> KeeperPhase:
        """The phase that the keeper is in."""
        return self._life.phase

    @property
    def waiting(self) -> int:
        """How many changes no session has taken along yet."""
        return len(self._changes)

    # -- what happens ----------------------------------------------------------------------------------

    def live(self) -> None:
        """Live to the end, which is a stop. Raises ``AssertionError`` where a promise was broken."""
        end = self._life.at + self.days * DAY
        self._good_since = self._life.at
        while self._life.at < end:
            self.pass_until(self._life.at + self.chance.expovariate(1 / (30 * HOUR)))
            happening = self.events()
            self.chance.choices(list(happening), list(happening.values()))[0]()
            self._look()
            self.check()
        self._life.tell(StopAsked())
        if self._life.phase is KeeperPhase.STOPPING:
            self._life.ends()
        assert self._life.phase is KeeperPhase.STOPPED
        begun = self._life.begun()
        self._life.tell(Nudged()).passes(DAY)
        assert self._life.begun() == begun, "a session began after stop"

    def change(self) -> None:
        """The program writes."""
        self._changes.append(self._life.at)
        self._life.tell(Changed())

    def news(self) -> None:
        """Another device has sent something; the hub tells of it, or does not, or does so twice."""
        self._changes.append(self._life.at)
        begun = self.sessions
        is_heard = self.settings.live and self.phase is KeeperPhase.LISTENING and not self._life.failing
        for _ in range(self.chance.choice([0, 1, 1, 2])):
            self.signal()
            if is_heard and self._life.at >= self._not_before:
                assert self.sessions == begun + 1, "a signal that was heard begins one session"

    def signal(self) -> None:
        """The hub tells of something, whether there is anything or not, in whatever phase."""
        self._life.tell(Signalled())
        self._judge()

    def hub_goes_and_comes(self) -> None:
        """The hub is away for some minutes or hours."""
        self.hub_is_up = False
        self._good_since = None
        self.pass_until(self._life.at + self.chance.expovariate(3 / HOUR))
        self.hub_is_up = True

    def token_goes_and_comes(self) -> None:
        """The hub refuses the token for some hours; half of the programs say when they have another."""
        self.token_is_good = False
        self._good_since = None
        self.pass_until(self._life.at + self.chance.expovariate(1 / (2 * HOUR)))
        self.token_is_good = True
        if self.chance.random() < 0.5:
            self._life.tell(TokenRenewed())

    def conditions_fail_and_hold(self) -> None:
        """The program's conditions fail for some minutes."""
        self._life.failing = frozenset(self.settings.conditions)
        self._good_since = None
        self.pass_until(self._life.at + self.chance.expovariate(6 / HOUR))
        self._life.failing = frozenset()

    def sleep(self) -> None:
        """The monotonic clock stands still, the wall clock goes on."""
        self._life.ahead += self.chance.uniform(60.0, 14 * HOUR)

    def set_the_clock(self) -> None:
        """Somebody sets the wall clock."""
        self._life.ahead += self.chance.choice([-DAY, -30.0, -2.0, 2.0, 30.0, DAY])

    def nudge(self) -> None:
        """The program asks for a session."""
        self._life.tell(Nudged())

    def upgrade(self) -> None:
        """The program is stopped, in whatever phase, and another version of it is started."""
        self._life.tell(StopAsked(5.0))
        self._judge()
        assert self._life.phase in (KeeperPhase.STOPPING, KeeperPhase.STOPPED)
        if self._life.phase is KeeperPhase.STOPPING:
            self._life.ends()
        assert self._life.phase is KeeperPhase.STOPPED
        self._judge()
        self._begin_anew(self._life.at + 30.0, self._life.ahead)

    # -- time ------------------------------------------------------------------------------------------

    def pass_until(self, until: float) -> None:
        """Let time pass; sessions end in between, and others begin."""
        self._judge()
        self._look()
        while True:
            at = until if self._ends_at is None else min(until, self._ends_at)
            has_woken = self._life.step(at)
            self._judge()
            if has_woken:
                continue
            if self._ends_at is not None and self._life.at >= self._ends_at:
                self._end_session()
            if at >= until:
                return

    def _end_session(self) -> None:
        self._ends_at = None
        end, retry_after = self._outcome()
        asked_for = min(retry_after or 0.0, LONGEST_RETRY_AFTER)
        self._not_before = self._life.at + max(self.settings.min_gap, asked_for)
        if end is SessionEnd.SETTLED:
            self._changes = [at for at in self._changes if at >= self._began_at]
        more = {} if retry_after is None else {"retry_after": retry_after}
        self._life.ends(end, chance=self.chance.random(), **more)
        self._judge()

    def _outcome(self) -> tuple[SessionEnd, float | None]:
        if not self.hub_is_up:
            return SessionEnd.FAILED, self.chance.choice([None, None, None, 30.0, 1e7])
        if not self.token_is_good:
            return SessionEnd.TOKEN_REFUSED, None
        return SessionEnd.SETTLED, None

    # -- what must be so -------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Look at all that was seen since the last look."""
        for seen in self._life.seen[self._judged :]:
            if seen.what == "begin":
                assert self._ends_at is None, "a second session at a time"
                assert not self._life.failing, "a session against a condition"
                assert seen.at >= self._not_before - 1e-6, "a session within the gap or Retry-After"
                self.sessions += 1
                self._began_at = seen.at
                self._ends_at = seen.at + self.chance.uniform(0.1, LONGEST_SESSION)
            elif seen.what == "end":
                self._ends_at = None
        self._judged = len(self._life.seen)

    def _look(self) -> None:
        """No change waits longer in a world that is good than for an interval and what may be in its way."""
        is_good = self.hub_is_up and self.token_is_good and not self._life.failing
        if is_good and self._good_since is None:
            self._good_since = self._life.at
        if self._good_since is None or not self._changes:
            return
        waits_since = max(self._good_since, self._changes[0])
        in_the_way = LONGEST_RETRY_AFTER + 2 * LONGEST_SESSION + self.settings.min_gap + WAKING
        waited = self._life.at - waits_since
        assert waited <= self.settings.every + in_the_way, f"a change has waited for {waited:.0f} seconds"
