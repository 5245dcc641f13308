"""The explorer proves the promises of the design, and can tell when one is broken."""

from __future__ import annotations

import itertools

import pytest
from attrs import asdict

from statesync.lifecycle import BATCH, SESSION, BatchPhase, Chart, Phase
from statesync.values import Direction
from statesync.verify import Report, Violation, check
from statesync.verify.configuration import Configuration, OpenBatch, Request
from statesync.verify.explore import Scope, explore
from statesync.verify.properties import PROPERTIES

from .mutants import mutants_of


@pytest.fixture(scope="module")
def report() -> Report:
    return check()


def mutant(edit: str) -> Report:
    """Return the report on the charts with one edit."""
    name, chart = next(
        (chart.name, each.chart)
        for chart in (SESSION, BATCH)
        for each in mutants_of(chart)
        if each.edit == edit and each.chart is not None
    )
    return check(session=chart) if name == SESSION.name else check(batch=chart)


def violation(report: Report, name: str) -> Violation:
    return next(each for each in report.violations if each.name == name)


def test_the_charts_keep_every_promise(report: Report) -> None:
    assert report.violations == ()
    assert report.holds
    assert all(verdict.holds for verdict in report.properties)


@pytest.mark.parametrize(
    "words",
    [
        "final phases absorb",
        "at most one batch is open",
        "a batch is open only in an active phase or in cancelling",
        "no final phase has an open batch",
        "after cancelling was entered no batch is opened",
        "after cancelling was entered nothing is sent",
        "cancelled is never reached with a batch in doubt",
        "done is reached only with both directions drained",
        "every batch ends exactly once",
        "an end can be reached even if the hub never answers again",
    ],
)
def test_promise_is_among_those_that_are_judged(words: str, report: Report) -> None:
    assert [verdict.statement for verdict in report.properties if words in verdict.statement]


BREAKING = {
    "final": "session: open_batch: uploading -> uploading if no_batch_open: target moved to done",
    "one_batch": (
        "session: open_batch: downloading -> downloading if no_batch_open: guard no_batch_open dropped"
    ),
    "batch_phase": "session: open_batch: uploading -> uploading if no_batch_open: target moved to idle",
    "no_batch_at_end": "session: fail: uploading -> failed if no_batch_open: guard no_batch_open dropped",
    "nothing_opened": (
        "session: open_batch: uploading -> uploading if no_batch_open: source moved to cancelling"
    ),
    "nothing_sent": "batch: send: open -> in_flight if not_cancelling: guard not_cancelling dropped",
    "cancelled_clear": (
        "session: settle: cancelling -> cancelled if no_batch_open and nothing_in_doubt: "
        "guard nothing_in_doubt dropped"
    ),
    "done_drained": (
        "session: finish_upload: uploading -> downloading if no_batch_open and outbox_drained: "
        "guard outbox_drained dropped"
    ),
    "ends_once": "batch: abort: received -> aborted: target moved to committed",
    "can_end": "session: abort_batch: cancelling -> cancelling if batch_open and request_over: dropped",
    "can_end_alone": "session: abort_batch: uploading -> uploading if batch_open and request_over: dropped",
    "answer_first": (
        "session: commit_batch: uploading -> uploading if batch_received: guard batch_received dropped"
    ),
    "request_first": "batch: abort: in_flight -> aborted if request_over: guard request_over dropped",
    "repeats": (
        "batch: retry: in_flight -> waiting if retryable and attempts_left and not_cancelling: "
        "guard attempts_left dropped"
    ),
    "stays": "session: commit_batch: uploading -> uploading if batch_received: target moved to downloading",
    "left_behind": (
        "session: finish_upload: uploading -> downloading if no_batch_open and outbox_drained: "
        "guard no_batch_open dropped"
    ),
    "forward": (
        "session: commit_batch: downloading -> downloading if batch_received: target moved to uploading"
    ),
    "reasons": "session: commit_batch: cancelling -> cancelling if batch_received: target moved to failed",
    "can_fail": "session: fail: idle -> failed if no_batch_open: dropped",
    "can_cancel": "session: cancel: idle -> cancelled: target moved to cancelling",
    "can_settle": (
        "session: settle: cancelling -> cancelled if no_batch_open and nothing_in_doubt: "
        "target moved to failed"
    ),
    "can_abort": "batch: abort: open -> aborted: dropped",
    "can_commit": "session: commit_batch: cancelling -> cancelling if batch_received: dropped",
    "can_be_done": "session: open_batch: downloading -> downloading if no_batch_open: dropped",
}


def test_every_property_is_shown_to_be_able_to_fail() -> None:
    assert list(BREAKING) == [each.name for each in PROPERTIES]


@pytest.mark.sabotage
@pytest.mark.parametrize("name", BREAKING)
def test_property_fails_for_a_chart_that_breaks_it(name: str) -> None:
    assert name in {each.name for each in mutant(BREAKING[name]).violations}


def test_the_way_to_a_violation_is_the_shortest() -> None:
    """Begin, open, send, cancel with the answer missing, wait out the grace, drop the batch, settle."""
    found = violation(mutant(BREAKING["cancelled_clear"]), "cancelled_clear")
    causes = [str(step.cause) for step in found.way.steps]
    assert len(causes) == 7
    assert causes[:3] == ["start", "open_batch", "send"]
    assert causes[-2:] == ["abort_batch", "settle"]
    assert "cancel" in causes


def test_the_way_to_a_violation_is_unbroken() -> None:
    way = violation(mutant(BREAKING["cancelled_clear"]), "cancelled_clear").way
    assert way.start == way.steps[0].source
    assert all(one.target == other.source for one, other in itertools.pairwise(way.steps))
    assert way.start.phase is Phase.IDLE


def test_a_promise_that_breaks_at_once_needs_no_way() -> None:
    found = violation(mutant(BREAKING["can_cancel"]), "can_cancel")
    assert found.way.steps == ()
    assert "0. a session begins: session idle" in found.text()


def test_a_violation_is_drawn() -> None:
    found = violation(mutant(BREAKING["nothing_sent"]), "nothing_sent")
    assert found.text().splitlines()[0] == f"violated in the product: {found.statement}"
    assert f"  {len(found.way.steps)}. send: session cancelling, upload batch in_flight" in found.text()
    drawn = found.mermaid()
    assert drawn.startswith("stateDiagram-v2\n")
    assert f"s{len(found.way.steps) - 1} --> s{len(found.way.steps)}: {len(found.way.steps)}. send" in drawn


def test_the_same_charts_give_the_same_report(report: Report) -> None:
    again = check(session=Chart("session", SESSION.initial, SESSION.finals, SESSION.edges))
    assert again == report


def test_the_report_says_what_was_seen_and_what_holds(report: Report) -> None:
    text = report.text()
    assert str(report.configurations) in text
    assert str(report.transitions) in text
    assert all(f"holds   {verdict.statement}" in text for verdict in report.properties)
    assert report.configurations == sum(part.configurations for part in report.explorations)


def test_the_product_meets_every_phase_of_both_charts() -> None:
    seen = explore(Scope.PRODUCT, SESSION, BATCH).steps
    assert {now.phase for now in seen} == set(SESSION.phases)
    open_phases = {now.batch.phase for now in seen if now.batch is not None}
    assert open_phases | {now.last_end for now in seen if now.last_end is not None} == set(BATCH.phases)


def test_the_product_takes_every_edge_of_both_charts() -> None:
    steps = [step for each in explore(Scope.PRODUCT, SESSION, BATCH).steps.values() for step in each]
    taken = {(step.trigger, step.source.phase, step.target.phase) for step in steps}
    for edge in SESSION.edges:
        assert (edge.trigger, edge.source, edge.target) in taken


@pytest.mark.parametrize(
    ("request_is", "attempts", "expected"),
    [
        (Request.NONE, 0, {"request_ended", "attempts_left"}),
        (Request.UNDER_WAY, 1, {"attempts_left"}),
        (Request.ANSWERED, 1, {"request_ended", "attempts_left"}),
        (Request.FAILED_FOR_NOW, 1, {"request_ended", "attempts_left", "retryable"}),
        (Request.FAILED_FOR_NOW, 2, {"request_ended", "retryable"}),
        (Request.FAILED_FOR_GOOD, 1, {"request_ended", "attempts_left"}),
    ],
)
def test_guards_are_told_how_the_request_stands(
    request_is: Request, attempts: int, expected: set[str]
) -> None:
    batch = OpenBatch(BatchPhase.IN_FLIGHT, Direction.UPLOAD, request_is, attempts)
    facts = Configuration(Phase.UPLOADING, batch).facts()
    assert {name for name, value in asdict(facts).items() if value is True} == expected
    assert facts.batch is BatchPhase.IN_FLIGHT
