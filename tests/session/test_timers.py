"""What a session waits for: each is told once, when it is over, and never before."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from statesync.protocol.messages import BackoffOver, CancelRequested, GraceOver, HeadStartOver
from statesync.session.timers import Timer, Timers
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
