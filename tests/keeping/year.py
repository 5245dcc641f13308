"""A year of a keeper's life under a virtual clock: outages, sleeps, clocks that are set, upgrades.

The world decides by a seed what happens and when. It judges what it sees: when sessions begin, and how long a
change has to wait for one that takes it along.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import define, field

from statesync.keeping.messages import Changed, Nudged, Signalled, StopAsked, TokenRenewed
from statesync.keeping.options import KeeperOptions
from statesync.lifecycle import KeeperPhase, SessionEnd

from .life import Life

HOUR = 3600.0
DAY = 24 * HOUR
YEAR = 365 * DAY
LONGEST_SESSION = 120.0
LONGEST_RETRY_AFTER = HOUR
WAKING = 15.0 + 10.0 + 5.0
"""Seconds that it may take to notice a sleep, to ask conditions, and to ask them again."""


@define(eq=False)
class Year:
    """The world of one keeper. ``changes`` are the times of those that no session has taken along yet."""

    seed: int
    life: Life = field(init=False)
    chance: random.Random = field(init=False)
    options: KeeperOptions = field(init=False)
    hub_is_up: bool = True
    token_is_good: bool = True
    changes: list[float] = field(factory=list)
    good_since: float | None = None
    judged: int = 0
    ends_at: float | None = None
    began_at: float = 0.0
    not_before: float = float("-inf")
    sessions: int = 0

    def __attrs_post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.options = KeeperOptions(
            every=self.chance.choice([6 * HOUR, DAY]),
            min_gap=self.chance.choice([0.0, 1.0, 60.0]),
            on_change=self.chance.random() < 0.7,
            live=self.chance.random() < 0.5,
            conditions=self.chance.choice([(), ("on_wifi",)]),
        )
        self._begin_anew(1000.0, 1_700_000_000.0)

    def _begin_anew(self, at: float, ahead: float) -> None:
        """The program starts, for the first time or after an upgrade: nothing of the last keeper is left."""
        self.life = Life(self.options, at, ahead)
        self.judged, self.ends_at, self.not_before = 0, None, float("-inf")
        self.judge()

    # -- what happens ----------------------------------------------------------------------------------

    def live(self) -> None:
        """Live through the year."""
        end = self.life.at + YEAR
        self.good_since = self.life.at
        while self.life.at < end:
            self.pass_until(self.life.at + self.chance.expovariate(1 / (30 * HOUR)))
            self.chance.choices(*self._events())[0]()
            self.look()
        self.life.tell(StopAsked())
        if self.life.phase is KeeperPhase.STOPPING:
            self.life.ends()
        assert self.life.phase is KeeperPhase.STOPPED
        begun = self.life.begun()
        self.life.tell(Nudged()).passes(DAY)
        assert self.life.begun() == begun, "a session began after stop"

    def _events(self) -> tuple[list[Callable[[], None]], list[int]]:
        weights: dict[Callable[[], None], int] = {
            self.change: 40,
            self.news: 20,
            self.signal: 10,
            self.hub_goes_or_comes: 4,
            self.token_goes_or_comes: 2,
            self.wifi_goes_or_comes: 6,
            self.sleep: 20,
            self.set_the_clock: 3,
            self.nudge: 10,
            self.upgrade: 2,
        }
        return list(weights), list(weights.values())

    def change(self) -> None:
        self.changes.append(self.life.at)
        self.life.tell(Changed())

    def news(self) -> None:
        """Another device has sent something. The hub tells of it, or does not, or does so twice."""
        self.changes.append(self.life.at)
        begun = self.sessions
        is_heard = self.options.live and self.life.phase is KeeperPhase.LISTENING and not self.life.failing
        for _ in range(self.chance.choice([0, 1, 1, 2])):
            self.life.tell(Signalled())
            self.judge()
            if is_heard and self.life.at >= self.not_before:
                assert self.sessions == begun + 1, "a signal that was heard begins one session"

    def signal(self) -> None:
        """The hub tells of what has been fetched already, or of nothing, in whatever phase."""
        self.life.tell(Signalled())

    def hub_goes_or_comes(self) -> None:
        """An outage is over after some minutes or hours; the world is good between two of them."""
        self.hub_is_up = False
        self.good_since = None
        self.pass_until(self.life.at + self.chance.expovariate(3 / HOUR))
        self.hub_is_up = True

    def token_goes_or_comes(self) -> None:
        self.token_is_good = False
        self.good_since = None
        self.pass_until(self.life.at + self.chance.expovariate(1 / (2 * HOUR)))
        self.token_is_good = True
        if self.chance.random() < 0.5:
            self.life.tell(TokenRenewed())

    def wifi_goes_or_comes(self) -> None:
        self.life.failing = frozenset(self.options.conditions)
        self.good_since = None
        self.pass_until(self.life.at + self.chance.expovariate(6 / HOUR))
        self.life.failing = frozenset()

    def sleep(self) -> None:
        """The monotonic clock stands still, the wall clock goes on."""
        self.life.ahead += self.chance.uniform(60.0, 14 * HOUR)

    def set_the_clock(self) -> None:
        self.life.ahead += self.chance.choice([-DAY, -30.0, -2.0, 2.0, 30.0, DAY])

    def nudge(self) -> None:
        self.life.tell(Nudged())

    def upgrade(self) -> None:
        """The program is stopped, in whatever phase, and another version of it is started."""
        self.life.tell(StopAsked(5.0))
        self.judge()
        assert self.life.phase in (KeeperPhase.STOPPING, KeeperPhase.STOPPED)
        if self.life.phase is KeeperPhase.STOPPING:
            self.life.ends()
        assert self.life.phase is KeeperPhase.STOPPED
        self.judge()
        self._begin_anew(self.life.at + 30.0, self.life.ahead)

    # -- time ------------------------------------------------------------------------------------------

    def pass_until(self, until: float) -> None:
        """Let time pass; sessions end in between, and others begin."""
        self.judge()
        self.look()
        while True:
            coming = [at for at in (self.ends_at, self.life.next_wake()) if at is not None]
            at = min([until, *coming])
            self.life.passes(max(at - self.life.at, 0.0))
            self.judge()
            if self.ends_at is not None and self.life.at >= self.ends_at:
                self._end_session()
            if at >= until:
                return

    def _end_session(self) -> None:
        self.ends_at = None
        end, retry_after = self._outcome()
        asked_for = min(retry_after or 0.0, LONGEST_RETRY_AFTER)
        self.not_before = self.life.at + max(self.options.min_gap, asked_for)
        if end is SessionEnd.SETTLED:
            self.changes = [at for at in self.changes if at >= self.began_at]
        more = {} if retry_after is None else {"retry_after": retry_after}
        self.life.ends(end, chance=self.chance.random(), **more)
        self.judge()

    def _outcome(self) -> tuple[SessionEnd, float | None]:
        if not self.hub_is_up:
            return SessionEnd.FAILED, self.chance.choice([None, None, None, 30.0, 1e7])
        if not self.token_is_good:
            return SessionEnd.TOKEN_REFUSED, None
        return SessionEnd.SETTLED, None

    # -- what must be so -------------------------------------------------------------------------------

    def judge(self) -> None:
        """Look at all that was seen since the last look."""
        for seen in self.life.seen[self.judged :]:
            if seen.what == "begin":
                assert self.ends_at is None, "a second session at a time"
                assert not self.life.failing, "a session against a condition"
                assert seen.at >= self.not_before - 1e-6, "a session within the gap or Retry-After"
                self.sessions += 1
                self.began_at = seen.at
                self.ends_at = seen.at + self.chance.uniform(0.1, LONGEST_SESSION)
            elif seen.what == "end":
                self.ends_at = None
        self.judged = len(self.life.seen)

    def look(self) -> None:
        """No change waits longer in a world that is good than for an interval and what may be in its way."""
        is_good = self.hub_is_up and self.token_is_good and not self.life.failing
        if is_good and self.good_since is None:
            self.good_since = self.life.at
        if self.good_since is None or not self.changes:
            return
        waits_since = max(self.good_since, self.changes[0])
        in_the_way = LONGEST_RETRY_AFTER + 2 * LONGEST_SESSION + self.options.min_gap + WAKING
        waited = self.life.at - waits_since
        assert waited <= self.options.every + in_the_way, f"a change has waited for {waited:.0f} seconds"
