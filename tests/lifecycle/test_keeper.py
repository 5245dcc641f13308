"""The keeper's chart says what the design says, pair by pair, and the machine does it."""

from __future__ import annotations

import itertools

import pytest
from attrs import evolve

from statesync.errors import GuardRefused, IllegalTransition
from statesync.lifecycle import (
    KEEPER,
    Facts,
    Guard,
    KeeperFacts,
    KeeperPhase,
    KeeperTrigger,
    SessionEnd,
    chart_of,
    keeper_chart,
)
from statesync.machine import KeeperMachine

from .keeper_matrix import KEEPER_MATRIX, ways_of
from .matrix import Pair

PHASES = ["resting", "listening", "syncing", "backing_off", "held", "needs_token", "stopping", "stopped"]
TRIGGERS = [
    "interval",
    "local_change",
    "signal",
    "nudge",
    "back_off_over",
    "conditions_changed",
    "token_renewed",
    "session_ended",
    "stop",
]
PAIRS = pytest.mark.parametrize(
    ("phase", "trigger"),
    [pytest.param(*pair, id="-".join(pair)) for pair in itertools.product(PHASES, TRIGGERS)],
)
LEGAL = [pair for pair in KEEPER_MATRIX if pair.target is not None]
ILLEGAL = [pair for pair in KEEPER_MATRIX if pair.target is None]
GUARDED = [(pair, guard) for pair in LEGAL for guard in sorted(pair.guards)]
FAILING = frozenset({"on_wifi"})


def way(pair: Pair) -> str:
    return f"{pair}-{pair.target}"


def test_matrix_holds_every_pair_and_no_way_twice() -> None:
    every = set(itertools.product(PHASES, TRIGGERS))
    assert {(pair.phase, pair.trigger) for pair in KEEPER_MATRIX} == every
    assert len(set(KEEPER_MATRIX)) == len(KEEPER_MATRIX)
    assert not {(pair.phase, pair.trigger) for pair in LEGAL} & {(p.phase, p.trigger) for p in ILLEGAL}


@PAIRS
def test_keeper_chart_answers_this_pair_as_designed(phase: str, trigger: str) -> None:
    said = [
        (str(edge.target), frozenset(guard.name for guard in edge.guards))
        for edge in KEEPER.edges_of(KeeperPhase(phase), KeeperTrigger(trigger))
    ]
    assert said == [(pair.target, pair.guards) for pair in ways_of(phase, trigger)]


def test_chart_names_exactly_the_phases_and_triggers_of_the_matrix() -> None:
    assert [str(phase) for phase in KEEPER.phases] == PHASES
    assert [str(trigger) for trigger in KeeperTrigger] == TRIGGERS
    assert {str(trigger) for trigger in KEEPER.triggers} == set(TRIGGERS)
    assert (str(KEEPER.initial), {str(phase) for phase in KEEPER.finals}) == ("resting", {"stopped"})
    assert all(chart_of(trigger) is KEEPER for trigger in KeeperTrigger)


GUARDS: dict[str, tuple[list[KeeperFacts], list[KeeperFacts]]] = {
    "gap_over": ([KeeperFacts()], [KeeperFacts(gap_over=False)]),
    "conditions_hold": ([KeeperFacts()], [KeeperFacts(failing=FAILING)]),
    "condition_fails": ([KeeperFacts(failing=FAILING)], [KeeperFacts()]),
    "settled": (
        [KeeperFacts(ended=SessionEnd.SETTLED)],
        [KeeperFacts(), KeeperFacts(ended=SessionEnd.FAILED), KeeperFacts(ended=SessionEnd.TOKEN_REFUSED)],
    ),
    "failed": (
        [KeeperFacts(ended=SessionEnd.FAILED)],
        [KeeperFacts(), KeeperFacts(ended=SessionEnd.SETTLED), KeeperFacts(ended=SessionEnd.TOKEN_REFUSED)],
    ),
    "token_refused": (
        [KeeperFacts(ended=SessionEnd.TOKEN_REFUSED)],
        [KeeperFacts(), KeeperFacts(ended=SessionEnd.SETTLED), KeeperFacts(ended=SessionEnd.FAILED)],
    ),
    "session_over": ([KeeperFacts(ended=end) for end in SessionEnd], [KeeperFacts()]),
    "live": ([KeeperFacts(live=True)], [KeeperFacts()]),
    "not_live": ([KeeperFacts()], [KeeperFacts(live=True)]),
}
"""When each guard holds, and when it refuses."""

BY_NAME = {guard.name: guard for edge in KEEPER.edges for guard in edge.guards}


def test_every_guard_of_the_chart_is_asked_below() -> None:
    assert GUARDS.keys() == BY_NAME.keys()


@pytest.mark.parametrize("name", GUARDS)
def test_keeper_guard_holds_for_these_facts_alone(name: str) -> None:
    guard: Guard = BY_NAME[name]
    holds, refuses = GUARDS[name]
    assert all(guard.holds(Facts(keeper=facts)) for facts in holds)
    assert not any(guard.holds(Facts(keeper=facts)) for facts in refuses)


def kind(pair: Pair) -> KeeperFacts:
    """Facts with which every guard of the way holds."""
    ends = {
        "settled": SessionEnd.SETTLED,
        "failed": SessionEnd.FAILED,
        "token_refused": SessionEnd.TOKEN_REFUSED,
        "session_over": SessionEnd.FAILED,
    }
    return KeeperFacts(
        failing=FAILING if "condition_fails" in pair.guards else frozenset(),
        live="live" in pair.guards,
        ended=next((ends[name] for name in pair.guards if name in ends), None),
    )


def unkind(pair: Pair, guard: str) -> KeeperFacts:
    """The same facts, but for the one guard."""
    facts = kind(pair)
    return {
        "gap_over": evolve(facts, gap_over=False),
        "conditions_hold": evolve(facts, failing=FAILING),
        "condition_fails": evolve(facts, failing=frozenset()),
        "settled": evolve(facts, ended=SessionEnd.FAILED),
        "failed": evolve(facts, ended=SessionEnd.TOKEN_REFUSED),
        "token_refused": evolve(facts, ended=SessionEnd.SETTLED),
        "session_over": evolve(facts, ended=None),
        "live": evolve(facts, live=False),
        "not_live": evolve(facts, live=True),
    }[guard]


@pytest.mark.parametrize("pair", LEGAL, ids=way)
def test_machine_takes_this_keeper_way(pair: Pair) -> None:
    machine = KeeperMachine.standing_at(KeeperPhase(pair.phase))
    move = machine.fire(KeeperTrigger(pair.trigger), facts=Facts(keeper=kind(pair)))
    assert (move.chart, str(move.source), str(move.trigger), str(move.target)) == (
        "keeper",
        pair.phase,
        pair.trigger,
        pair.target,
    )
    assert str(machine.phase) == pair.target


@pytest.mark.parametrize(
    ("pair", "guard"), [pytest.param(*each, id=f"{way(each[0])}-{each[1]}") for each in GUARDED]
)
def test_machine_does_not_go_this_keeper_way_without_this_guard(pair: Pair, guard: str) -> None:
    """Another way may be open then, as for another end of a session."""
    machine = KeeperMachine.standing_at(KeeperPhase(pair.phase))
    facts = Facts(keeper=unkind(pair, guard))
    others = len(ways_of(pair.phase, pair.trigger)) - 1
    if others:
        assert str(machine.fire(KeeperTrigger(pair.trigger), facts=facts).target) != pair.target
        return
    with pytest.raises(GuardRefused) as refusal:
        machine.fire(KeeperTrigger(pair.trigger), facts=facts)
    assert (refusal.value.guard.name, str(machine.phase)) == (guard, pair.phase)


@pytest.mark.parametrize("pair", ILLEGAL, ids=str)
def test_machine_refuses_this_illegal_keeper_pair_and_changes_nothing(pair: Pair) -> None:
    machine = KeeperMachine.standing_at(KeeperPhase(pair.phase))
    every = KeeperFacts(failing=FAILING, ended=SessionEnd.SETTLED)
    with pytest.raises(IllegalTransition) as refusal:
        machine.fire(KeeperTrigger(pair.trigger), facts=Facts(keeper=every))
    assert {str(trigger) for trigger in refusal.value.legal} == {
        each.trigger for each in LEGAL if each.phase == pair.phase
    }
    assert str(machine.phase) == pair.phase


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("end", SessionEnd)
def test_what_follows_a_session_is_never_a_matter_of_order(end: SessionEnd, live: bool) -> None:
    facts = Facts(keeper=KeeperFacts(live=live, ended=end))
    edges = KEEPER.edges_of(KeeperPhase.SYNCING, KeeperTrigger.SESSION_ENDED)
    assert sum(edge.refused_by(facts) is None for edge in edges) == 1


# -- conditions of a program's own ---------------------------------------------------------------------------

NAMED = keeper_chart(["on_wifi", "is_charging"])


def test_a_chart_without_conditions_is_the_keeper_s_own() -> None:
    assert keeper_chart([]) is KEEPER


def test_each_condition_is_a_guard_under_its_own_name_wherever_a_session_begins() -> None:
    for edge in NAMED.edges:
        names = [guard.name for guard in edge.guards]
        begins = edge.target is KeeperPhase.SYNCING
        assert names == ["gap_over", "on_wifi", "is_charging"] if begins else "on_wifi" not in names
    assert [edge.occasion[:2] for edge in NAMED.edges] == [edge.occasion[:2] for edge in KEEPER.edges]


def test_the_condition_that_fails_is_the_one_that_refuses() -> None:
    machine = KeeperMachine(NAMED)
    facts = Facts(keeper=KeeperFacts(failing=frozenset({"is_charging"})))
    with pytest.raises(GuardRefused, match="it requires that is_charging holds"):
        machine.fire(KeeperTrigger.NUDGE, facts=facts)
    assert machine.fire(KeeperTrigger.CONDITIONS_CHANGED, facts=facts).target is KeeperPhase.HELD
    assert machine.fire(KeeperTrigger.CONDITIONS_CHANGED, facts=Facts()).target is KeeperPhase.SYNCING
