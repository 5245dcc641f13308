"""The charts say what the design says, pair by pair."""

from __future__ import annotations

from collections import Counter

import pytest

from statesync.lifecycle import (
    ATTEMPTS_LEFT,
    BATCH,
    BATCH_OPEN,
    BATCH_RECEIVED,
    FEED_DRAINED,
    NO_BATCH_OPEN,
    NOT_CANCELLING,
    NOTHING_IN_DOUBT,
    OUTBOX_DRAINED,
    REQUEST_OVER,
    RETRYABLE,
    SESSION,
    BatchPhase,
    BatchTrigger,
    Chart,
    Facts,
    Guard,
    Phase,
    Trigger,
)

from .matrix import BATCH_MATRIX, SESSION_MATRIX, Pair


@pytest.mark.parametrize("pair", SESSION_MATRIX, ids=str)
def test_session_chart_answers_this_pair_as_designed(pair: Pair) -> None:
    assert pair.is_what(SESSION, Phase(pair.phase), Trigger(pair.trigger))


@pytest.mark.parametrize("pair", BATCH_MATRIX, ids=str)
def test_batch_chart_answers_this_pair_as_designed(pair: Pair) -> None:
    assert pair.is_what(BATCH, BatchPhase(pair.phase), BatchTrigger(pair.trigger))


@pytest.mark.parametrize(
    ("matrix", "phases", "triggers"),
    [
        (
            SESSION_MATRIX,
            "idle uploading downloading cancelling cancelled failed done",
            "start open_batch commit_batch abort_batch finish_upload finish_download cancel settle fail",
        ),
        (
            BATCH_MATRIX,
            "open waiting in_flight received committed aborted",
            "send receive retry commit abort",
        ),
    ],
)
def test_matrix_holds_every_pair_once(matrix: tuple[Pair, ...], phases: str, triggers: str) -> None:
    every_pair = [(phase, trigger) for phase in phases.split() for trigger in triggers.split()]
    assert Counter((pair.phase, pair.trigger) for pair in matrix) == Counter(every_pair)


def test_charts_name_exactly_the_phases_and_triggers_of_the_matrix() -> None:
    assert {pair.phase for pair in SESSION_MATRIX} == {str(phase) for phase in SESSION.phases}
    assert {pair.trigger for pair in SESSION_MATRIX} == {str(trigger) for trigger in Trigger}
    assert {pair.phase for pair in BATCH_MATRIX} == {str(phase) for phase in BATCH.phases}
    assert {pair.trigger for pair in BATCH_MATRIX} == {str(trigger) for trigger in BatchTrigger}


@pytest.mark.parametrize(
    ("chart", "initial", "finals"),
    [(SESSION, "idle", {"cancelled", "failed", "done"}), (BATCH, "open", {"committed", "aborted"})],
    ids=["session", "batch"],
)
def test_chart_begins_and_ends_where_the_design_says(chart: Chart, initial: str, finals: set[str]) -> None:
    assert str(chart.initial) == initial
    assert {str(phase) for phase in chart.finals} == finals


OPEN, WAITING, IN_FLIGHT, RECEIVED = (
    BatchPhase.OPEN,
    BatchPhase.WAITING,
    BatchPhase.IN_FLIGHT,
    BatchPhase.RECEIVED,
)


@pytest.mark.parametrize(
    ("guard", "name", "holds", "refuses"),
    [
        (NO_BATCH_OPEN, "no_batch_open", [Facts()], [Facts(batch=OPEN), Facts(batch=IN_FLIGHT)]),
        (BATCH_OPEN, "batch_open", [Facts(batch=OPEN), Facts(batch=RECEIVED)], [Facts()]),
        (
            BATCH_RECEIVED,
            "batch_received",
            [Facts(batch=RECEIVED)],
            [Facts(), Facts(batch=OPEN), Facts(batch=WAITING), Facts(batch=IN_FLIGHT)],
        ),
        (
            REQUEST_OVER,
            "request_over",
            [Facts(request_ended=True), Facts(deadline_passed=True)],
            [Facts(), Facts(batch=IN_FLIGHT, cancelling=True)],
        ),
        (OUTBOX_DRAINED, "outbox_drained", [Facts(outbox_drained=True)], [Facts(feed_drained=True)]),
        (FEED_DRAINED, "feed_drained", [Facts(feed_drained=True)], [Facts(outbox_drained=True)]),
        (NOTHING_IN_DOUBT, "nothing_in_doubt", [Facts()], [Facts(in_doubt=True)]),
        (NOT_CANCELLING, "not_cancelling", [Facts()], [Facts(cancelling=True)]),
        (RETRYABLE, "retryable", [Facts(retryable=True)], [Facts(attempts_left=True)]),
        (ATTEMPTS_LEFT, "attempts_left", [Facts(attempts_left=True)], [Facts(retryable=True)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_guard_holds_for_these_facts_alone(
    guard: Guard, name: str, holds: list[Facts], refuses: list[Facts]
) -> None:
    assert guard.name == name
    assert all(guard.holds(facts) for facts in holds)
    assert not any(guard.holds(facts) for facts in refuses)
