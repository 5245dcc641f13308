"""The test kit's stateful test passes for the real machine, and fails for machines that are wrong."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Step
from hypothesis.stateful import invariant, run_state_machine_as_test
from lifecycle.matrix import BATCH_MATRIX, SESSION_MATRIX, Pair
from rig.search import examples

from statesync.lifecycle import BATCH, SESSION, AnyTrigger, BatchTrigger, Chart, Facts, Phase, Trigger
from statesync.machine import Commit, Move, SessionMachine
from statesync.testing.lifecycle import LifecycleMachine, lifecycle_machine
from statesync.testing.reference import Answer, Reference

SETTINGS = settings(
    max_examples=examples(30),
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Step.generate,),
)

Lifecycle = lifecycle_machine()


class TestLifecycle(Lifecycle.TestCase):  # type: ignore[name-defined, misc]
    settings = SETTINGS


def run(machine: type[LifecycleMachine]) -> None:
    """Look for what is wrong with a machine until it is found: which examples come first is chance."""
    run_state_machine_as_test(
        machine, settings=settings(SETTINGS, max_examples=2000, report_multiple_bugs=False)
    )


def without(chart: Chart, trigger: Trigger, guard: str) -> Chart:
    edges = tuple(
        evolve(edge, guards=tuple(each for each in edge.guards if each.name != guard))
        if edge.trigger is trigger
        else edge
        for edge in chart.edges
    )
    return evolve(chart, edges=edges)


@pytest.mark.sabotage
def test_a_machine_with_a_guard_less_is_found() -> None:
    changed = without(SESSION, Trigger.SETTLE, "nothing_in_doubt")
    with pytest.raises(AssertionError, match="settle: taken at None, but it ought to be refused at settle"):
        run(lifecycle_machine(lambda: SessionMachine(changed, BATCH)))


class Forgetful(SessionMachine):
    """Does not write every move down."""

    def fire(self, *triggers: AnyTrigger, facts: Facts, commit: Commit) -> tuple[Move, ...]:
        return super().fire(*triggers, facts=facts, commit=lambda moves: commit(moves[:1]))


class Hasty(SessionMachine):
    """Moves before it writes."""

    def fire(self, *triggers: AnyTrigger, facts: Facts, commit: Commit) -> tuple[Move, ...]:
        moves = super().fire(*triggers, facts=facts, commit=lambda _: None)
        commit(moves)
        return moves


def test_a_machine_that_does_not_write_everything_down_is_found() -> None:
    with pytest.raises(AssertionError, match="was written, but"):
        run(lifecycle_machine(Forgetful))


def test_a_machine_that_moves_before_it_writes_is_found() -> None:
    with pytest.raises(AssertionError, match="the journal leads elsewhere"):
        run(lifecycle_machine(Hasty))


def test_users_add_their_own_invariants() -> None:
    class Impatient(lifecycle_machine()):  # type: ignore[misc]
        @invariant()
        def never_downloads(self) -> None:
            assert self.machine.phase is not Phase.DOWNLOADING, "it downloads"

    with pytest.raises(AssertionError, match="it downloads"):
        run(Impatient)


def facts_for(guards: frozenset[str]) -> Facts:
    return Facts(
        request_ended="request_over" in guards,
        outbox_drained="outbox_drained" in guards,
        feed_drained="feed_drained" in guards,
        retryable="retryable" in guards,
        attempts_left="attempts_left" in guards,
    )


@pytest.mark.parametrize("pair", SESSION_MATRIX, ids=str)
def test_the_reference_answers_this_session_pair_as_the_matrix_does(pair: Pair) -> None:
    batch = "received" if pair.guards & {"batch_received", "batch_open"} else None
    reference = Reference(pair.phase, batch)
    answer, _ = reference.fire((Trigger(pair.trigger),), facts_for(pair.guards))
    assert answer is (Answer.ILLEGAL if pair.target is None else Answer.TAKEN)
    assert reference.phase == (pair.target or pair.phase)


@pytest.mark.parametrize("pair", BATCH_MATRIX, ids=str)
def test_the_reference_answers_this_batch_pair_as_the_matrix_does(pair: Pair) -> None:
    reference = Reference("uploading", pair.phase)
    if pair.phase in ("committed", "aborted"):  # a batch that has ended is open no more
        reference.batch = None
    answer, _ = reference.fire((BatchTrigger(pair.trigger),), facts_for(pair.guards))
    assert answer is (Answer.ILLEGAL if pair.target is None else Answer.TAKEN)
    if pair.target is not None:
        assert reference.batch == (None if pair.target in ("committed", "aborted") else pair.target)
