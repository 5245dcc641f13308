"""Triggers that move a session and its batch together (rule 5 of section 3.3)."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve, fields

from statesync.lifecycle import (
    BATCH,
    AnyPhase,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Chart,
    Edge,
    Facts,
    Phase,
    Trigger,
    batch_after,
    concerns_batch,
    with_linked,
)
from statesync.machine import SessionMachine
from statesync.verify.firing import Phases, take


@pytest.mark.parametrize("fact", [field.name for field in fields(Facts)])
def test_facts_that_are_seen_from_another_phase_are_the_same_in_all_else(fact: str) -> None:
    odd: dict[str, Any] = {field.name: f"an odd {field.name}" for field in fields(Facts)}
    there = Facts(**odd).at(BatchPhase.WAITING, cancelling=True)
    expected = {**odd, "batch": BatchPhase.WAITING, "cancelling": True}
    assert getattr(there, fact) == expected[fact]


def test_three_session_triggers_concern_the_batch_and_so_does_every_batch_trigger() -> None:
    concerned = {trigger for trigger in [*Trigger, *BatchTrigger] if concerns_batch(trigger)}
    assert concerned == {Trigger.OPEN_BATCH, Trigger.COMMIT_BATCH, Trigger.ABORT_BATCH, *BatchTrigger}


def test_a_linked_batch_trigger_follows_its_session_trigger() -> None:
    fired: list[AnyTrigger] = [
        Trigger.START,
        Trigger.OPEN_BATCH,
        BatchTrigger.SEND,
        Trigger.ABORT_BATCH,
        Trigger.COMMIT_BATCH,
    ]
    assert with_linked(fired) == (
        Trigger.START,
        Trigger.OPEN_BATCH,
        BatchTrigger.SEND,
        Trigger.ABORT_BATCH,
        BatchTrigger.ABORT,
        Trigger.COMMIT_BATCH,
        BatchTrigger.COMMIT,
    )


@pytest.mark.parametrize(
    ("trigger", "target", "before", "after"),
    [
        (Trigger.OPEN_BATCH, Phase.UPLOADING, None, BatchPhase.OPEN),
        (Trigger.CANCEL, Phase.CANCELLING, BatchPhase.IN_FLIGHT, BatchPhase.IN_FLIGHT),
        (Trigger.COMMIT_BATCH, Phase.UPLOADING, BatchPhase.RECEIVED, BatchPhase.RECEIVED),
        (Trigger.START, Phase.UPLOADING, None, None),
        (BatchTrigger.SEND, BatchPhase.IN_FLIGHT, BatchPhase.OPEN, BatchPhase.IN_FLIGHT),
        (BatchTrigger.COMMIT, BatchPhase.COMMITTED, BatchPhase.RECEIVED, None),
        (BatchTrigger.ABORT, BatchPhase.ABORTED, BatchPhase.WAITING, None),
    ],
)
def test_the_open_batch_stands_where_the_trigger_leaves_it(
    trigger: AnyTrigger, target: AnyPhase, before: BatchPhase | None, after: BatchPhase | None
) -> None:
    assert batch_after(trigger, target, before) is after


def test_a_new_batch_stands_in_the_first_phase_of_the_chart_that_runs() -> None:
    """Also for the machine and the explorer, which may be given another chart."""
    waits_first = evolve(BATCH, initial=BatchPhase.WAITING, edges=(*BATCH.edges, *_back_to_open(BATCH)))
    machine = SessionMachine(batch=waits_first)
    machine.fire(Trigger.START, Trigger.OPEN_BATCH, facts=Facts(), commit=lambda _: None)
    assert machine.batch is BatchPhase.WAITING
    stands, _ = take(Phases(Phase.UPLOADING), [Trigger.OPEN_BATCH], Facts(), batch=waits_first)
    assert stands.batch is BatchPhase.WAITING


def _back_to_open(chart: Chart) -> tuple[Edge, ...]:
    """Return an edge that keeps ``open`` reachable where it is not the first phase."""
    edge = chart.edges_of(BatchPhase.IN_FLIGHT, BatchTrigger.RECEIVE)[0]
    return (evolve(edge, trigger=BatchTrigger.SEND, target=BatchPhase.OPEN),)
