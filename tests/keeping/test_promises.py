"""The keeper's promises, whatever happens in whatever order: judged from outside, by a model of the promises.

The model shares nothing with the core. It notes what the world did and when sessions began, and knows bounds:
not before this, and not later than that.
"""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rig.search import examples

from statesync.keeping import decide as core
from statesync.keeping import ending
from statesync.keeping.messages import Changed, Decision, Nudged, Signalled, StopAsked, Ticked, TokenRenewed
from statesync.keeping.options import KeeperOptions
from statesync.keeping.standing import Standing
from statesync.lifecycle import KeeperPhase, SessionEnd
from statesync.testing.keeping.life import Life

SOON = 1e-6
"""Seconds that two sums of times may differ by."""

ASKING = 10 + 5
"""Seconds that conditions may take: to answer, and until they are asked again."""

LONGEST = 60.0
HOUR = 3600.0

OPTIONS = st.builds(
    KeeperOptions,
    every=st.sampled_from([5.0, 30.0, 300.0, 3600.0]),
    min_gap=st.sampled_from([0.0, 0.5, 5.0]),
    debounce=st.sampled_from([0.0, 0.02, 1.0]),
    on_change=st.booleans(),
    live=st.booleans(),
    conditions=st.sampled_from([(), ("on_wifi",), ("on_wifi", "is_charging")]),
)
SECONDS = st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0, 10.0, 61.0, 299.0, 301.0, 4000.0])
RETRY_AFTER = st.sampled_from([None, -1.0, 0.0, 2.0, 90.0, 1e9])


class Promises(RuleBasedStateMachine):
    """One keeper, and what its promises allow."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life()
        self.judged = 0
        self.running = False
        self.not_before = float("-inf")
        self.stopped = False

    @initialize(options=OPTIONS, failing=st.booleans(), answers=st.booleans())
    def begin(self, options: KeeperOptions, failing: bool, answers: bool) -> None:
        self.options = options
        self.fail_all = frozenset(options.conditions)
        all_or_none = self.fail_all if failing else frozenset()
        self.life = Life(options, failing=all_or_none, answers=answers)
        self.judge()

    def judge(self) -> None:
        """Look at all that was seen since the last look; conditions did not change in between."""
        for seen in self.life.seen[self.judged :]:
            if seen.what == "begin":
                assert not self.running, "a second session at a time"
                assert not self.stopped, "a session after stop"
                assert not self.life.failing, "a session against a condition"
                assert seen.at >= self.not_before - SOON, "a session within the gap or the hub's Retry-After"
                self.running = True
            elif seen.what == "end":
                self.running = False
        self.judged = len(self.life.seen)

    # -- what the world does ---------------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.life.passes(seconds)
        self.judge()

    @rule(event=st.sampled_from([Changed(), Nudged(), TokenRenewed(), Ticked(), Signalled()]))
    def something_is_told(self, event: Changed | Nudged | TokenRenewed | Ticked | Signalled) -> None:
        self.life.tell(event)
        self.judge()

    @rule(jump=st.sampled_from([-7200.0, -1.0, 1.0, 6.0, 7200.0]))
    def the_wall_clock_moves(self, jump: float) -> None:
        self.life.ahead += jump

    @rule(some=st.booleans(), answers=st.booleans())
    def conditions_change(self, some: bool, answers: bool) -> None:
        self.life.failing = self.fail_all if some else frozenset()
        self.life.answers = answers

    @precondition(lambda self: self.running)
    @rule(end=st.sampled_from(SessionEnd), retry_after=RETRY_AFTER, chance=st.floats(0, 1))
    def the_session_ends(self, end: SessionEnd, retry_after: float | None, chance: float) -> None:
        ended = self.life.at
        asked_for = 0.0 if end is SessionEnd.SETTLED else min(max(retry_after or 0.0, 0.0), HOUR)
        more = {} if retry_after is None else {"retry_after": retry_after}
        if end is SessionEnd.SETTLED:
            more = {}
        self.not_before = ended + max(self.options.min_gap, asked_for)
        self.life.ends(end, chance=chance, **more)
        self.judge()

    @rule(grace=st.sampled_from([None, 0.0, 5.0]))
    def it_is_stopped(self, grace: float | None) -> None:
        self.life.tell(StopAsked(grace))
        self.stopped = True
        self.judge()

    # -- what must be so -------------------------------------------------------------------------------

    @invariant()
    def it_has_a_timer_or_waits_for_a_session(self) -> None:
        wakes_at = self.life.standing.wakes_at()
        if self.running or (self.stopped and self.life.phase is KeeperPhase.STOPPED):
            assert wakes_at is None
        else:
            assert wakes_at is not None, "it sleeps for ever"

    @invariant()
    def its_phase_says_what_is_so(self) -> None:
        expected = {KeeperPhase.SYNCING, KeeperPhase.STOPPING} if self.running else set(KeeperPhase)
        assert self.life.phase in expected
        assert self.running == (self.life.phase in (KeeperPhase.SYNCING, KeeperPhase.STOPPING))
        assert self.stopped == (self.life.phase in (KeeperPhase.STOPPING, KeeperPhase.STOPPED))

    @precondition(lambda self: not self.running and not self.stopped)
    @rule()
    def with_all_signals_lost_a_session_begins_in_time(self) -> None:
        self.life.failing, self.life.answers = frozenset(), True
        before, now = self.life.begun(), self.life.at
        latest = max(now + max(self.options.every, LONGEST), self.not_before) + ASKING
        self.life.passes(latest - now)
        assert self.life.begun() > before, "it sleeps"
        self.judge()

    @precondition(lambda self: not self.running and not self.stopped)
    @rule()
    def a_nudge_begins_one_as_soon_as_it_may(self) -> None:
        self.life.failing, self.life.answers = frozenset(), True
        before, now = self.life.begun(), self.life.at
        self.life.tell(Nudged()).passes(max(self.not_before - now, 0.0) + ASKING)
        assert self.life.begun() > before, "a nudge was lost"
        self.judge()

    @precondition(lambda self: not self.running and not self.stopped)
    @rule(hours=st.sampled_from([-2, 1, 8]))
    def a_sleep_of_the_machine_is_noticed(self, hours: int) -> None:
        self.life.failing, self.life.answers = frozenset(), True
        before, now = self.life.begun(), self.life.at
        self.life.tell(Ticked())  # what the clock did before is known: two jumps of it may come to none
        self.life.ahead += hours * HOUR
        self.life.passes(max(self.not_before - now, 0.0) + 15 + ASKING)
        assert self.life.begun() > before, "it slept on"
        self.judge()

    @precondition(lambda self: self.life.phase in (KeeperPhase.RESTING, KeeperPhase.LISTENING))
    @precondition(lambda self: self.options.on_change)
    @rule()
    def a_change_is_synced_soon(self) -> None:
        self.life.failing, self.life.answers = frozenset(), True
        before, now = self.life.begun(), self.life.at
        moment = 10 * self.options.debounce
        self.life.tell(Changed()).passes(max(self.not_before - now, moment) + ASKING)
        assert self.life.begun() > before, "a change waits"
        self.judge()

    @precondition(lambda self: self.running)
    @rule(failures=st.integers(1, 8), chance=st.floats(0, 1))
    def failures_are_waited_out(self, failures: int, chance: float) -> None:
        """Nothing else happens meanwhile, so each wait is a back-off alone."""
        if self.stopped:
            return
        self.life.failing, self.life.answers = frozenset(), True
        for _ in range(failures):
            ended = self.life.at
            self.not_before = ended + max(self.options.min_gap, 1.0)
            self.life.ends(SessionEnd.FAILED, chance=chance)
            self.life.passes(max(LONGEST, self.options.min_gap))
            began = self.life.times("begin")[-1]
            latest = ended + max(LONGEST, self.options.min_gap)
            assert ended + 1.0 - SOON <= began <= latest + SOON, "it sleeps, or it hurries"
            self.judge()

    @precondition(lambda self: self.stopped)
    @rule()
    def a_stop_comes_to_its_end(self) -> None:
        if self.running:
            self.life.ends()
            self.judge()
        assert self.life.phase is KeeperPhase.STOPPED


TestPromises = Promises.TestCase
TestPromises.settings = SETTINGS = settings(
    max_examples=examples(20),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


# -- the model notices a core that breaks its promises -------------------------------------------------------


def run() -> None:
    """Look for a violation; it need not be the shortest."""
    long = settings(
        SETTINGS, phases=(Phase.generate,), max_examples=400, derandomize=True, database=None,
        report_multiple_bugs=False,
    )  # fmt: skip
    run_state_machine_as_test(Promises, settings=long)


def test_a_back_off_without_a_timer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ending._waiting
    monkeypatch.setattr(ending, "_waiting", lambda now, event: evolve(waiting(now, event), due=None))
    with pytest.raises(AssertionError, match="it sleeps"):
        run()


@pytest.mark.sabotage
def test_a_gap_that_is_forgotten_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ending._waiting
    monkeypatch.setattr(ending, "_waiting", lambda now, event: evolve(waiting(now, event), earliest=0.0))
    with pytest.raises(AssertionError, match="within the gap"):
        run()


@pytest.mark.sabotage
def test_a_hub_that_may_ask_for_any_time_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "LONGEST_RETRY_AFTER", 1e12)
    with pytest.raises(AssertionError, match=r"it sleeps|a nudge was lost|it slept on"):
        run()


@pytest.mark.sabotage
def test_a_clock_that_nobody_looks_at_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "JUMP", 1e12)
    with pytest.raises(AssertionError, match="it slept on"):
        run()


def test_conditions_that_are_not_asked_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = core._go_on

    def hasty(now: Standing) -> Decision:
        return go_on(evolve(now, options=evolve(now.options, conditions=())))

    monkeypatch.setattr(core, "_go_on", hasty)
    with pytest.raises(AssertionError, match="against a condition"):
        run()


def test_an_answer_that_never_comes_and_is_waited_for_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "PATIENCE", 1e12)
    with pytest.raises(AssertionError, match=r"it sleeps|it slept on|a nudge was lost|a change waits"):
        run()
