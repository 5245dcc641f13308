"""The explorer proves the promises of the keeper, and can tell when one is broken."""

from __future__ import annotations

import pytest
from lifecycle.keeper_matrix import KEEPER_MATRIX
from rig.search import some

from statesync.lifecycle import KEEPER, SESSION, BrokenChart, Chart, Edge, KeeperPhase, KeeperTrigger
from statesync.verify import Report, Violation, check, violations
from statesync.verify.keeping.explore import explore_keeper, keeper_pairs
from statesync.verify.keeping.moves import KeeperScope
from statesync.verify.keeping.properties import KEEPER_PROPERTIES

from .mutants import mutants_of

MAY_START = "if gap_over and conditions_hold"

BREAKING = {
    "keeper_one_session": f"keeper: interval: resting -> syncing {MAY_START}: source moved to syncing",
    "keeper_nothing_begun": f"keeper: nudge: backing_off -> syncing {MAY_START}: source moved to stopping",
    "keeper_conditions": f"keeper: signal: listening -> syncing {MAY_START}: guard conditions_hold dropped",
    "keeper_gap": f"keeper: nudge: resting -> syncing {MAY_START}: guard gap_over dropped",
    "keeper_ends_first": (
        "keeper: session_ended: stopping -> stopped if session_over: guard session_over dropped"
    ),
    "keeper_its_phases": (
        "keeper: conditions_changed: resting -> held if condition_fails: source moved to syncing"
    ),
    "keeper_no_phantom": f"keeper: interval: resting -> syncing {MAY_START}: target moved to stopping",
    "keeper_what_follows": "keeper: session_ended: syncing -> backing_off if failed: guard failed dropped",
    "keeper_listens": ("keeper: session_ended: syncing -> listening if settled and live: guard live dropped"),
    "keeper_held_by": (
        "keeper: conditions_changed: resting -> held if condition_fails: guard condition_fails dropped"
    ),
    "keeper_begun_by": (f"keeper: local_change: resting -> syncing {MAY_START}: source moved to backing_off"),
    "keeper_stops": "keeper: stop: resting -> stopped: target moved to held",
    "keeper_can_stop": "keeper: stop: held -> stopped: dropped",
    "keeper_told": "keeper: session_ended: syncing -> needs_token if token_refused: source moved to stopping",
    "keeper_wakes": f"keeper: back_off_over: backing_off -> syncing {MAY_START}: dropped",
    "keeper_converges": "keeper: session_ended: syncing -> backing_off if failed: source moved to held",
    "keeper_can_end": "keeper: session_ended: stopping -> stopped if session_over: target moved to resting",
    "keeper_says_held": "keeper: conditions_changed: needs_token -> held if condition_fails: dropped",
    "keeper_nudge_at_once": f"keeper: nudge: needs_token -> syncing {MAY_START}: dropped",
    "keeper_local_change_at_once": f"keeper: local_change: resting -> syncing {MAY_START}: dropped",
    "keeper_signal_at_once": (f"keeper: signal: listening -> syncing {MAY_START}: source moved to resting"),
    "keeper_token_renewed_at_once": f"keeper: token_renewed: needs_token -> syncing {MAY_START}: dropped",
}


def mutant(edit: str) -> Chart:
    return next(each.chart for each in mutants_of(KEEPER) if each.edit == edit and each.chart is not None)


def found(edit: str) -> dict[str, Violation]:
    return {each.name: each for each in violations(keeper=mutant(edit))}


@pytest.fixture(scope="module")
def report() -> Report:
    return check()


def test_the_keeper_keeps_every_promise(report: Report) -> None:
    names = {verdict.name for verdict in report.properties if verdict.holds}
    assert names >= {each.name for each in KEEPER_PROPERTIES}
    assert {explored.scope for explored in report.explorations} >= set(KeeperScope)


@pytest.mark.parametrize(
    "words",
    [
        "at most one session at a time",
        "after stop no session begins",
        "no session begins while a condition fails",
        "within the gap after the last one",
        "in every phase without a session the clock alone begins one",
        "all signals lost, another session begins all the same",
        "after a stop the end is reached",
    ],
)
def test_promise_of_the_keeper_is_among_those_that_are_judged(words: str, report: Report) -> None:
    assert [verdict.statement for verdict in report.properties if words in verdict.statement]


def test_every_property_of_the_keeper_is_shown_to_be_able_to_fail() -> None:
    assert list(BREAKING) == [each.name for each in KEEPER_PROPERTIES]


@pytest.mark.parametrize("name", some([*BREAKING], 3))
def test_property_fails_for_a_keeper_s_chart_that_breaks_it(name: str) -> None:
    assert name in found(BREAKING[name])


@pytest.mark.sabotage
def test_every_one_edit_change_of_the_keeper_s_chart_is_caught_by_the_explorer() -> None:
    missed, made = [], 0
    for each in mutants_of(KEEPER):
        if each.chart is not None:
            made += 1
            broken = (
                rule.broken_by(explore_keeper(scope, each.chart))
                for scope in KeeperScope
                for rule in KEEPER_PROPERTIES
            )
            missed += [] if any(way is not None for way in broken) else [each.edit]
    assert (missed, made > 300) == ([], True)


def test_nothing_can_be_made_to_leave_the_end() -> None:
    again = Edge(KeeperTrigger.NUDGE, KeeperPhase.STOPPED, KeeperPhase.RESTING)
    with pytest.raises(BrokenChart, match="leaves a final phase"):
        Chart("keeper", KEEPER.initial, KEEPER.finals, (*KEEPER.edges, again))


def test_a_violation_of_the_keeper_has_its_shortest_way() -> None:
    """It begins to sync, is told to stop, and another nudge begins a session all the same."""
    violation = found(BREAKING["keeper_nothing_begun"])["keeper_nothing_begun"]
    assert len(violation.way.steps) == 3
    assert "  0. a keeper begins: keeper resting" in violation.text()
    assert [str(step.cause) for step in violation.way.steps][1:] == ["stop", "nudge"]


def test_the_keeper_meets_every_phase_and_takes_every_way_of_the_matrix() -> None:
    space = explore_keeper(KeeperScope.WITH_SESSIONS)
    assert {now.phase for now in space.steps} == set(KeeperPhase)
    taken = {
        (str(step.source.phase), str(step.trigger), str(step.target.phase))
        for steps in space.steps.values()
        for step in steps
        if step.trigger is not None
    }
    assert taken == {
        (pair.phase, pair.trigger, pair.target) for pair in KEEPER_MATRIX if pair.target is not None
    }


def test_its_sessions_meet_every_phase_of_their_own_chart() -> None:
    seen = {now.session for now in explore_keeper(KeeperScope.WITH_SESSIONS).steps}
    assert seen == {None, *SESSION.phases}


def test_pairs_of_the_keeper_s_edges_follow_each_other() -> None:
    pairs = keeper_pairs()
    assert all(one.target is other.source for one, other in pairs)
    names = {(str(one.trigger), str(one.source), str(other.trigger)) for one, other in pairs}
    assert ("stop", "syncing", "session_ended") in names
    assert ("session_ended", "syncing", "back_off_over") in names
