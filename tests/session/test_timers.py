"""What a session waits for: each is told once, when it is over, and never before."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from rig.search import examples

from statesync.protocol.messages import BackoffOver, CancelRequested, GraceOver, HeadStartOver
from statesync.session.timers import Timer, Timers, backoff
from statesync.values import Reason

seconds = st.integers(0, 20).map(float)

EVENTS = {
    Timer.SESSION: CancelRequested(Reason.DEADLINE),
    Timer.GRACE: GraceOver(),
    Timer.BACKOFF: BackoffOver(),
    Timer.HEAD_START: HeadStartOver(),
}


class Waiting(RuleBasedStateMachine):
    """Timers by a clock of ours, beside a dictionary of what has to be told when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.timers = Timers(lambda: self.now)
        self.ends: dict[Timer, float] = {}

    @rule(timer=st.sampled_from(Timer), length=seconds)
    def start(self, timer: Timer, length: float) -> None:
        self.timers.start(timer, length)
        self.ends[timer] = self.now + length

    @rule(timer=st.sampled_from(Timer), length=seconds)
    def shorten(self, timer: Timer, length: float) -> None:
        self.timers.shorten(timer, length)
        self.ends[timer] = min(self.now + length, self.ends.get(timer, self.now + length))

    @rule(length=seconds)
    def pass_time(self, length: float) -> None:
        self.now += length

    @rule()
    def look(self) -> None:
        told = [self.timers.take_due() for _ in range(len(Timer))]
        over = [timer for timer in EVENTS if self.ends.get(timer, self.now + 1) <= self.now]
        assert told == [EVENTS[timer] for timer in over] + [None] * (len(Timer) - len(over))
        for timer in over:
            del self.ends[timer]

    @invariant()
    def nobody_sleeps_too_long(self) -> None:
        left = self.timers.seconds_left()
        assert left == (max(0.0, min(self.ends.values()) - self.now) if self.ends else None)


TestWaiting = Waiting.TestCase
TestWaiting.settings = settings(max_examples=examples(25))


def test_devices_that_were_told_the_same_time_come_back_at_different_ones() -> None:
    """A hub that turns a thousand away tells all of them one second."""
    for attempt, spread in ((2, 1.0), (4, 4.0), (20, 30.0)):
        waits = [backoff(attempt, 7.0) for _ in range(1000)]
        assert min(waits) >= 7.0
        assert max(waits) <= 7.0 + spread
        thirds = [sum(7.0 + part * spread / 3 <= wait for wait in waits) for part in (1, 2)]
        assert 550 < thirds[0] < 780, "of the spread's three thirds, two come after the first"
        assert 220 < thirds[1] < 450


def test_a_retry_that_the_hub_names_no_time_for_is_spread_from_the_first_moment_on() -> None:
    waits = [backoff(3, None) for _ in range(1000)]
    assert min(waits) < 0.2
    assert max(waits) <= 2.0
