"""A quick form of the benchmark: it fails on gross loss alone, by ratios with generous bounds.

The times of a shared machine say nothing; the limit is measured beside every figure, so ratios do.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from bench import report, transfers
from bench.device import tracking
from bench.fleet.meeting import Sizes as FleetSizes
from bench.fleet.meeting import meet
from bench.fleet.table import table
from bench.growth import growth, importing
from bench.plots import write_plots
from bench.runner import Result
from bench.sizes import Sizes

TINY = Sizes(
    orders=("ordered",),
    records=3_000,
    uploads=2_000,
    writes=4_000,
    repeat=3,
    syncs=30,
    growth=(2_000, 6_000),
)

GROSS = 3.0
"""How many times a target may be missed before it counts as lost: other work on the machine does not."""


def shares(results: list[Result]) -> dict[str, float]:
    """Each figure as a part of its target."""
    return {one.what: one.ratio / one.reach for one in results}


def test_a_download_an_upload_and_an_exchange_cost_little_more_than_a_bare_loop(tmp_path: Path) -> None:
    results = [
        result
        for workload in (transfers.first_download, transfers.upload, transfers.exchange)
        for result in workload(tmp_path, TINY)
    ]
    assert {what: share for what, share in shares(results).items() if share > GROSS} == {}


def test_a_sync_with_nothing_to_do_costs_little_more_than_its_request_and_commits(tmp_path: Path) -> None:
    results = list(transfers.nothing(tmp_path, TINY))
    assert {what: share for what, share in shares(results).items() if share > GROSS} == {}


def test_the_import_costs_little_more_than_that_of_its_dependencies(tmp_path: Path) -> None:
    assert all(share < GROSS for share in shares(list(importing(tmp_path, TINY))).values())


def test_tracking_costs_little_more_than_hand_written_triggers(tmp_path: Path) -> None:
    # A single statement takes a few milliseconds: too few to judge it by.
    results = [one for one in tracking(tmp_path, TINY) if one.what.startswith(("all", "Model"))]
    assert {what: share for what, share in shares(results).items() if share > GROSS} == {}


def test_the_cost_of_a_sync_follows_the_changes_and_not_the_records(tmp_path: Path) -> None:
    results = list(islice(growth(tmp_path, TINY), 2))
    assert [one.workload for one in results] == ["W6", "W6"]
    assert {what: share for what, share in shares(results).items() if share > GROSS} == {}


def test_a_small_fleet_loses_nothing_whatever_befalls_its_hub(tmp_path: Path) -> None:
    sizes = FleetSizes(devices=12, spaces=3, seconds=1.5)
    results = list(meet("SQLite", f"sqlite:///{tmp_path}/hub.db", sizes))
    assert [one.phase for one in results] == ["steady", "morning", "herd", "bully", "survey", "outage"]
    assert [one.syncs for one in results] == [24, 12, 12, 24, 24, 24]
    assert {one.failures for one in results} == {()}
    assert results[-1].lost > 0, "some came while the hub was away"
    assert "SQLite" in table(results)


def test_the_report_and_the_plots_say_what_was_measured(tmp_path: Path) -> None:
    results = [
        Result("W1", "a thing", 2.0, 1.0, "s", 2.0, 1.25),
        Result(
            "W6",
            "more",
            1.0,
            1.0,
            "s",
            1.0,
            1.5,
            {},
            {"records": [10, 100], "seconds": [1, 2], "memory": [3, 4]},
        ),
        Result("W4", "cancel", 1.0, 1.0, "ms", 1.0, 10.0, {}, {"latencies": [0.1, 0.2], "batches": [0.1]}),
    ]
    assert "≤ 1.25 NO" in report.table(results)
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    report.into_page(page, results)
    text = page.read_text()
    assert "| W1 | a thing | 2 | 1 | s | 2.00 | ≤ 1.25 NO |  |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert [path.name for path in write_plots(results, tmp_path)] == [
        "ratios.svg", "growth.svg", "memory.svg", "cancel.svg",
    ]  # fmt: skip
