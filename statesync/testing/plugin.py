"""The pytest plugin, which comes with the installation: ``pytest --statesync-coverage``.

After the tests it prints which edges, pairs of edges and guard outcomes of the charts they have exercised.
``--statesync-coverage=require`` fails the run where an edge or an outcome is missing, and
``--statesync-coverage-pictures=DIR`` draws the charts there with the edges that were never taken marked.
Where pytest-xdist shares the tests out, the counts of all workers are added up, and the sum is judged.
A test that asks for the fixture ``statesync_coverage`` gets a count of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from statesync.diagram.formats import mermaid
from statesync.testing.coverage import ChartCoverage, watching

_WATCH = pytest.StashKey[AbstractContextManager[ChartCoverage]]()
_COUNT = pytest.StashKey[ChartCoverage]()
_OUTPUT = "statesync_coverage"
"""Under which name a worker of pytest-xdist hands its counts over."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("statesync")
    group.addoption(
        "--statesync-coverage",
        nargs="?",
        const="report",
        choices=("report", "require"),
        help="Report which edges and guard outcomes of the lifecycle the tests exercise.",
    )
    group.addoption(
        "--statesync-coverage-pictures",
        type=Path,
        metavar="DIR",
        help="Draw the charts there (mermaid), with the edges that were never taken marked.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin to watch."""
    if config.getoption("--statesync-coverage"):
        watch = watching()
        config.stash[_COUNT] = watch.__enter__()
        config.stash[_WATCH] = watch


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop watching."""
    if _WATCH in config.stash:
        config.stash[_WATCH].__exit__(None, None, None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Judge the run; a worker of pytest-xdist leaves that to the process that started it."""
    coverage = session.config.stash.get(_COUNT, None)
    if coverage is None:
        return
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_OUTPUT] = coverage.counts()
    else:
        _judge(session, coverage)


def _judge(session: pytest.Session, coverage: ChartCoverage) -> None:
    """Fail a run that has to be complete and is not, and draw the pictures."""
    required = session.config.getoption("--statesync-coverage") == "require"
    if required and not coverage.is_complete and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    folder: Path | None = session.config.getoption("--statesync-coverage-pictures")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in coverage.charts:
            path = folder / f"{chart.name}-coverage.mmd"
            path.write_text(mermaid(chart, coverage.marks(chart)), encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a worker of pytest-xdist has counted; one that crashed has told nothing."""
    coverage = node.config.stash.get(_COUNT, None)
    if coverage is not None and hasattr(node, "workeroutput"):
        coverage.add(node.workeroutput[_OUTPUT])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the report."""
    coverage = config.stash.get(_COUNT, None)
    if coverage is not None:
        terminalreporter.section("statesync: coverage of the lifecycle")
        terminalreporter.write_line(coverage.text())


@pytest.fixture
def statesync_coverage() -> Iterator[ChartCoverage]:
    """Count what this test alone exercises."""
    with watching() as coverage:
        yield coverage
