"""The four rules of ``statesync.lifecycle`` are enforced when a chart is made."""

from __future__ import annotations

import pytest

from statesync.lifecycle import (
    BATCH_OPEN,
    NO_BATCH_OPEN,
    AnyPhase,
    BatchPhase,
    BatchTrigger,
    BrokenChart,
    Chart,
    Edge,
)

OPEN, WAITING, IN_FLIGHT, RECEIVED, COMMITTED, ABORTED = BatchPhase
SEND, RECEIVE, RETRY, COMMIT, ABORT = BatchTrigger

SOUND = (
    Edge(SEND, OPEN, IN_FLIGHT),
    Edge(RETRY, IN_FLIGHT, WAITING),
    Edge(SEND, WAITING, IN_FLIGHT),
    Edge(RECEIVE, IN_FLIGHT, RECEIVED),
    Edge(COMMIT, RECEIVED, COMMITTED),
    Edge(ABORT, RECEIVED, ABORTED),
)
ENDS = frozenset({COMMITTED, ABORTED})


def chart(*edges: Edge, initial: AnyPhase = OPEN, finals: frozenset[AnyPhase] = ENDS) -> Chart:
    return Chart("example", initial, finals, edges)


def test_sound_chart_is_accepted() -> None:
    assert chart(*SOUND).edges == SOUND


def test_rule_1_a_phase_that_cannot_be_reached_is_refused() -> None:
    without_retry = [edge for edge in SOUND if edge.trigger is not RETRY]
    with pytest.raises(BrokenChart, match="waiting cannot be reached from open"):
        chart(*without_retry)


def test_rule_1_an_initial_phase_that_is_final_is_refused() -> None:
    with pytest.raises(BrokenChart, match="initial phase must not be final"):
        chart(*SOUND[1:], initial=OPEN, finals=ENDS | {OPEN})


def test_rule_2_a_phase_with_no_way_to_an_end_is_refused() -> None:
    trap = [edge for edge in SOUND if edge.source is not WAITING]
    with pytest.raises(BrokenChart, match="no way leads from waiting to a final phase"):
        chart(*trap)


def test_rule_2_a_chart_without_ends_is_refused() -> None:
    with pytest.raises(BrokenChart, match="a final one is needed"):
        chart(*SOUND, finals=frozenset())


def test_rule_3_an_edge_out_of_a_final_phase_is_refused() -> None:
    with pytest.raises(BrokenChart, match="retry: committed -> waiting leaves a final phase"):
        chart(*SOUND, Edge(RETRY, COMMITTED, WAITING))


def test_rule_3_holds_for_an_edge_that_stays() -> None:
    with pytest.raises(BrokenChart, match="leaves a final phase"):
        chart(*SOUND, Edge(ABORT, ABORTED, ABORTED))


def test_rule_4_two_edges_for_one_phase_trigger_and_guards_are_refused() -> None:
    with pytest.raises(BrokenChart, match="receive: in_flight -> waiting stands twice"):
        chart(*SOUND, Edge(RECEIVE, IN_FLIGHT, WAITING))


def test_rule_4_sees_through_the_order_of_guards() -> None:
    one, other = (NO_BATCH_OPEN, BATCH_OPEN), (BATCH_OPEN, NO_BATCH_OPEN)
    with pytest.raises(BrokenChart, match="stands twice"):
        chart(*SOUND, Edge(ABORT, OPEN, ABORTED, one), Edge(ABORT, OPEN, ABORTED, other))


def test_rule_4_lets_edges_with_different_guards_stand_side_by_side() -> None:
    both = (Edge(ABORT, OPEN, ABORTED, (BATCH_OPEN,)), Edge(ABORT, OPEN, ABORTED, (NO_BATCH_OPEN,)))
    assert chart(*SOUND, *both).edges_of(OPEN, ABORT) == both
