"""The real machine does with every pair of phase and trigger what the hand-written matrix says."""

from __future__ import annotations

import pytest
from attrs import evolve, frozen

from statesync import machine
from statesync.errors import GuardRefused, IllegalTransition, InternalError
from statesync.lifecycle import (
    SESSION,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Facts,
    Guard,
    Phase,
    Trigger,
)
from statesync.machine import Move, SessionMachine
from statesync.verify.firing import NotTaken, Phases, take

from .matrix import BATCH_MATRIX, SESSION_MATRIX, Pair

ENDED = ("committed", "aborted")


@frozen
class Scene:
    """Where the machine stands and what is so when a trigger is fired."""

    phase: Phase
    batch: BatchPhase | None
    facts: Facts


def kind(pair: Pair) -> Scene:
    """A scene in which every guard of the pair holds."""
    facts = Facts(
        request_ended="request_over" in pair.guards,
        outbox_drained="outbox_drained" in pair.guards,
        feed_drained="feed_drained" in pair.guards,
        retryable="retryable" in pair.guards,
        attempts_left="attempts_left" in pair.guards,
    )
    if pair in SESSION_MATRIX:
        batch = BatchPhase.RECEIVED if pair.guards & {"batch_received", "batch_open"} else None
        return Scene(Phase(pair.phase), batch, facts)
    return Scene(Phase.UPLOADING, None if pair.phase in ENDED else BatchPhase(pair.phase), facts)


def unkind(pair: Pair, guard: str) -> Scene:
    """The same scene, but for the one guard."""
    scene = kind(pair)
    changed = {
        "no_batch_open": evolve(scene, batch=BatchPhase.OPEN),
        "batch_open": evolve(scene, batch=None),
        "batch_received": evolve(scene, batch=BatchPhase.IN_FLIGHT),
        "not_cancelling": evolve(scene, phase=Phase.CANCELLING),
        "request_over": evolve(scene, facts=evolve(scene.facts, request_ended=False)),
        "outbox_drained": evolve(scene, facts=evolve(scene.facts, outbox_drained=False)),
        "feed_drained": evolve(scene, facts=evolve(scene.facts, feed_drained=False)),
        "nothing_in_doubt": evolve(scene, facts=evolve(scene.facts, in_doubt=True)),
        "retryable": evolve(scene, facts=evolve(scene.facts, retryable=False)),
        "attempts_left": evolve(scene, facts=evolve(scene.facts, attempts_left=False)),
    }
    return changed[guard]


def fire(scene: Scene, trigger: AnyTrigger) -> tuple[SessionMachine, list[tuple[Move, ...]]]:
    """Fire at a machine in the scene; a machine that says no must stand where it stood, nothing written.

    The explorer's pure form of the same step must agree.
    """
    here = Phases(scene.phase, scene.batch)
    machine = SessionMachine.standing_at(scene.phase, scene.batch)
    written: list[tuple[Move, ...]] = []
    try:
        machine.fire(trigger, facts=scene.facts, commit=written.append)
    except (IllegalTransition, GuardRefused):
        assert (machine.phase, machine.batch, written) == (scene.phase, scene.batch, [])
        with pytest.raises(NotTaken):
            take(here, [trigger], scene.facts)
        raise
    assert take(here, [trigger], scene.facts)[0] == Phases(machine.phase, machine.batch)
    return machine, written


LEGAL_SESSION = [pair for pair in SESSION_MATRIX if pair.target is not None]
LEGAL_BATCH = [pair for pair in BATCH_MATRIX if pair.target is not None]
GUARDED = [(pair, guard) for pair in (*LEGAL_SESSION, *LEGAL_BATCH) for guard in sorted(pair.guards)]


@pytest.mark.parametrize("pair", LEGAL_SESSION, ids=str)
def test_machine_takes_this_session_pair(pair: Pair) -> None:
    machine, written = fire(kind(pair), Trigger(pair.trigger))
    assert machine.phase == pair.target
    (moves,) = written
    assert (str(moves[0].source), str(moves[0].trigger), str(moves[0].target)) == (
        pair.phase,
        pair.trigger,
        pair.target,
    )


@pytest.mark.parametrize("pair", LEGAL_BATCH, ids=str)
def test_machine_takes_this_batch_pair(pair: Pair) -> None:
    machine, _ = fire(kind(pair), BatchTrigger(pair.trigger))
    assert machine.batch == (None if pair.target in ENDED else pair.target)


@pytest.mark.parametrize(
    "pair", [pair for pair in (*SESSION_MATRIX, *BATCH_MATRIX) if pair.target is None], ids=str
)
def test_machine_refuses_this_illegal_pair_and_changes_nothing(pair: Pair) -> None:
    trigger = Trigger(pair.trigger) if pair in SESSION_MATRIX else BatchTrigger(pair.trigger)
    with pytest.raises(IllegalTransition) as refusal:
        fire(kind(pair), trigger)
    assert refusal.value.trigger is trigger
    legal = {each.trigger for each in LEGAL_SESSION if each.phase == pair.phase}
    if pair in SESSION_MATRIX:
        assert {str(each) for each in refusal.value.legal} == legal
        assert all(each in str(refusal.value) for each in legal)


def in_idle(pair: Pair, guard: str) -> bool:
    """No batch can be open in idle, so there is no such scene."""
    return (pair.phase, guard) == ("idle", "no_batch_open")


@pytest.mark.parametrize(
    ("pair", "guard"),
    [(pair, guard) for pair, guard in GUARDED if not in_idle(pair, guard)],
    ids=lambda value: str(value),
)
def test_machine_refuses_this_pair_without_this_guard(pair: Pair, guard: str) -> None:
    trigger = Trigger(pair.trigger) if pair in SESSION_MATRIX else BatchTrigger(pair.trigger)
    with pytest.raises(GuardRefused) as refusal:
        fire(unkind(pair, guard), trigger)
    assert refusal.value.guard.name == guard


def test_an_engine_that_disagrees_with_the_tables_is_a_defect_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fires_nothing = evolve(
        SESSION,
        edges=tuple(
            evolve(edge, guards=(*edge.guards, Guard("never", "it is never", lambda _: False)))
            for edge in SESSION.edges
        ),
    )
    engine = machine._engine(fires_nothing)
    monkeypatch.setattr(machine, "_engine", lambda _: engine)
    written: list[object] = []
    fired = SessionMachine()
    with pytest.raises(InternalError, match="do not agree"):
        fired.fire(Trigger.START, facts=Facts(), commit=written.append)
    assert (fired.phase, written) == (Phase.IDLE, [])
