"""The coverage of the charts counts what machines really do, and the report tells what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from statesync import diagram
from statesync.errors import GuardRefused
from statesync.lifecycle import (
    BATCH,
    KEEPER,
    SESSION,
    BatchTrigger,
    Facts,
    KeeperFacts,
    KeeperTrigger,
    Phase,
    Trigger,
    keeper_chart,
)
from statesync.machine import KeeperMachine, Move, SessionMachine
from statesync.testing.coverage import ChartCoverage, Outcome, watching

ROOT = Path(__file__).parents[2]


def nothing(moves: tuple[Move, ...]) -> None:
    """Commit."""


@pytest.fixture
def counted() -> ChartCoverage:
    """A session whose first batch was sent, and which was not allowed to fail with it open."""
    with watching() as coverage:
        machine = SessionMachine()
        machine.fire(Trigger.START, facts=Facts(), commit=nothing)
        machine.fire(Trigger.OPEN_BATCH, BatchTrigger.SEND, facts=Facts(), commit=nothing)
        with pytest.raises(GuardRefused):
            machine.fire(Trigger.FAIL, facts=Facts(), commit=nothing)
    return coverage


def test_edges_are_counted(counted: ChartCoverage) -> None:
    assert {str(edge): count for edge, count in counted.edges.items()} == {
        "start: idle -> uploading": 1,
        "open_batch: uploading -> uploading if no_batch_open": 1,
        "send: open -> in_flight if not_cancelling": 1,
    }


def test_pairs_of_edges_are_counted(counted: ChartCoverage) -> None:
    assert [(str(one.trigger), str(other.trigger)) for one, other in counted.pairs] == [
        ("start", "open_batch")
    ]


def test_both_outcomes_of_guards_are_counted(counted: ChartCoverage) -> None:
    assert set(counted.outcomes) == {
        Outcome("session", "no_batch_open", held=True),
        Outcome("session", "no_batch_open", held=False),
        Outcome("batch", "not_cancelling", held=True),
    }


def test_the_report_names_what_is_missing(counted: ChartCoverage) -> None:
    assert not counted.is_complete
    assert "session chart: 2 of 19 edges" in counted.text()
    assert "batch chart: 1 of 9 edges" in counted.text()
    assert "  never taken: settle: cancelling -> cancelled" in counted.text()
    assert "  never seen: batch: not_cancelling refuses" in counted.text()
    assert "  never seen: session: no_batch_open refuses" not in counted.text()


def test_only_pairs_that_can_happen_are_asked_for(counted: ChartCoverage) -> None:
    missing = {(str(one.trigger), str(other.trigger)) for one, other in counted.missing_pairs(SESSION)}
    assert ("open_batch", "commit_batch") in missing
    assert ("start", "open_batch") not in missing  # it was taken
    assert ("open_batch", "open_batch") not in missing  # no batch may be open
    assert ("start", "commit_batch") not in missing  # there is no batch yet


def test_the_picture_marks_what_was_never_taken(counted: ChartCoverage) -> None:
    drawn = diagram.mermaid(SESSION, counted.marks(SESSION))
    assert "taken once<br/>start" in drawn
    assert "never taken<br/>settle" in drawn
    assert diagram.png(BATCH, counted.marks(BATCH)).startswith(b"\x89PNG")


def test_a_keeper_is_counted_under_its_own_chart_whatever_its_conditions_are_called() -> None:
    with watching() as coverage:
        machine = KeeperMachine(keeper_chart(["on_wifi"]))
        failing = Facts(keeper=KeeperFacts(failing=frozenset({"on_wifi"})))
        with pytest.raises(GuardRefused):
            machine.fire(KeeperTrigger.NUDGE, facts=failing)
        machine.fire(KeeperTrigger.CONDITIONS_CHANGED, facts=failing)
        machine.fire(KeeperTrigger.CONDITIONS_CHANGED, facts=Facts())
    assert [str(edge) for edge in coverage.edges] == [
        "conditions_changed: resting -> held if condition_fails",
        "conditions_changed: held -> syncing if gap_over and conditions_hold",
    ]
    assert Outcome("keeper", "conditions_hold", held=False) in coverage.outcomes
    assert "keeper chart: 2 of 28 edges, 1 of" in coverage.text()
    there = ChartCoverage()
    there.add(json.loads(json.dumps(coverage.counts())))
    assert there.edges == coverage.edges


def test_a_keeper_is_asked_for_only_where_one_ran(counted: ChartCoverage) -> None:
    assert KEEPER not in counted.charts
    assert "keeper chart" not in counted.text()
    with watching() as coverage:
        KeeperMachine().fire(KeeperTrigger.STOP, facts=Facts())
    assert KEEPER in coverage.charts
    assert not coverage.is_complete
    assert "never taken: nudge: resting -> syncing" in coverage.text()


def test_nothing_is_counted_outside_the_block(counted: ChartCoverage) -> None:
    before = counted.edges.copy()
    SessionMachine().fire(Trigger.START, facts=Facts(), commit=nothing)
    assert counted.edges == before


def test_recovery_of_an_interrupted_session_is_counted() -> None:
    with watching() as coverage:
        machine = SessionMachine.standing_at(Phase.UPLOADING, None)
        machine.fire(Trigger.FAIL, facts=Facts(), commit=nothing)
    assert [str(edge.trigger) for edge in coverage.edges] == ["fail"]


ONE = """
from statesync.lifecycle import Facts, Trigger
from statesync.machine import SessionMachine

def test_one(statesync_coverage):
    SessionMachine().fire(Trigger.START, facts=Facts(), commit=lambda moves: None)
    assert len(statesync_coverage.edges) == 1
"""

HALF = """
from contextlib import suppress
from itertools import product

from attrs import evolve

from statesync.errors import LifecycleError
from statesync.lifecycle import BatchPhase, BatchTrigger, Facts, Phase, Trigger
from statesync.machine import SessionMachine

YES = Facts(None, False, *[True] * 7)
NAMES = ["request_ended", "deadline_passed", "outbox_drained", "feed_drained", "in_doubt", "retryable"]
FACTS = [Facts(), YES, evolve(YES, attempts_left=False), *(evolve(YES, **{name: False}) for name in NAMES)]

def test_half():
    for phase, batch, trigger, facts in product(Phase, [None, *BatchPhase], TRIGGERS, FACTS):
        with suppress(LifecycleError):
            SessionMachine.standing_at(phase, batch).fire(trigger, facts=facts, commit=lambda moves: None)
"""
SESSIONS = HALF.replace("TRIGGERS", "Trigger")
BATCHES = HALF.replace("TRIGGERS", "BatchTrigger")


Ran = subprocess.CompletedProcess[str]


def run_pytest(folder: Path, *options: str, **tests: str) -> Ran:
    """Run pytest with the plugins that are installed on files of these names and texts."""
    for name, text in tests.items():
        (folder / f"test_{name}.py").write_text(text)
    return pytest_in(folder, *options, PYTHONPATH=str(ROOT))


def run_plugin(folder: Path, *options: str, **tests: str) -> Ran:
    """Run pytest with this plugin and xdist alone, which begins sooner."""
    for name, text in tests.items():
        (folder / f"test_{name}.py").write_text(text)
    plugins = ("-p", "statesync.testing.plugin", "-p", "xdist.plugin")
    return pytest_in(folder, *plugins, *options, PYTHONPATH=str(ROOT), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")


def pytest_in(folder: Path, *options: str, **environment: str) -> Ran:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def test_the_plugin_reports_a_run(tmp_path: Path) -> None:
    pictures = f"--statesync-coverage-pictures={tmp_path / 'out'}"
    done = run_pytest(tmp_path, "-p", "no:schemathesis", "--statesync-coverage", pictures, one=ONE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "session chart: 1 of 19 edges" in done.stdout
    assert "never taken<br/>settle" in (tmp_path / "out" / "session-coverage.mmd").read_text()


def test_the_plugin_can_require_that_everything_is_exercised(tmp_path: Path) -> None:
    assert run_plugin(tmp_path, "--statesync-coverage=require", one=ONE).returncode == 1


@pytest.mark.exhaustive
def test_nothing_is_required_of_a_run_that_does_not_ask(tmp_path: Path) -> None:
    assert run_plugin(tmp_path, one=ONE).returncode == 0


TWO_WORKERS = ("-n", "2", "--dist", "loadfile", "--statesync-coverage=require")


@pytest.mark.exhaustive
def test_what_two_workers_have_exercised_is_judged_as_one_run(tmp_path: Path) -> None:
    pictures = f"--statesync-coverage-pictures={tmp_path / 'out'}"
    both = run_plugin(tmp_path, *TWO_WORKERS, pictures, sessions=SESSIONS, batches=BATCHES)
    assert both.returncode == 0, both.stdout + both.stderr
    assert both.stdout.count("coverage of the lifecycle") == 1
    assert "session chart: 19 of 19 edges" in both.stdout
    assert "batch chart: 9 of 9 edges" in both.stdout
    for chart in ("session", "batch"):
        assert "never taken" not in (tmp_path / "out" / f"{chart}-coverage.mmd").read_text()


@pytest.mark.exhaustive
def test_half_of_what_is_required_fails_with_workers_too(tmp_path: Path) -> None:
    alone = run_plugin(tmp_path, *TWO_WORKERS, one=ONE, other="def test_nothing(): pass")
    assert "2 passed" in alone.stdout
    assert alone.returncode == 1


@pytest.mark.exhaustive
def test_without_xdist_the_plugin_does_as_before(tmp_path: Path) -> None:
    options = ("-p", "no:xdist", "--statesync-coverage=require")
    assert run_plugin(tmp_path, *options, sessions=SESSIONS).returncode == 1
    assert run_plugin(tmp_path, *options, batches=BATCHES).returncode == 0


def test_counts_come_through_as_they_were(counted: ChartCoverage) -> None:
    there = ChartCoverage()
    for _ in range(2):
        there.add(json.loads(json.dumps(counted.counts())))
    for name in ("edges", "pairs", "outcomes"):
        once, twice = getattr(counted, name), getattr(there, name)
        assert twice == {each: 2 * count for each, count in once.items()}
