"""W4 and W5: how soon a cancel is over, and what tracking costs the program's own writes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

from .hubs import Writer, hub
from .runner import Result, by_turns, run, run_raw
from .sizes import Sizes


def cancelling(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W4: from a cancel at a random moment of a download, or of building its index, to its terminal event."""
    with hub(f"sqlite:///{folder}/w4.db") as port:
        Writer(port, "w4").fill("random", sizes.records)
        given = {"port": port, "space": "w4", "times": sizes.cancels}
        found = run_raw("ours:cancels", path=f"{folder}/w4-device", limit=0, **given)
        built = run_raw("ours:cancels_building", path=f"{folder}/w4-building", **given)
    latencies, batches = sorted(found["latencies"]), found["batches"]
    worst, batch = _hundredth(latencies), _hundredth(batches)
    details = {
        "median": median(latencies) * 1000,
        "median batch": median(batches) * 1000,
        "cancelled": found["cancelled"],
        "done first": found["done"],
    }
    yield Result(
        "W4", f"cancel in a scan of {sizes.records:,}: 99th percentile to the end, ms above a batch's",
        worst * 1000, batch * 1000, "ms",
        (worst - batch) * 1000, 10.0, details, {"latencies": latencies, "batches": sorted(batches)},
    )  # fmt: skip
    worst = _hundredth(sorted(built["latencies"]))
    details = {"median": median(built["latencies"]) * 1000, "the building": built["longest"] * 1000}
    yield Result(
        "W4", "cancel while its index is built: the same", worst * 1000, batch * 1000, "ms",
        (worst - batch) * 1000, 10.0, details,
    )  # fmt: skip


def _hundredth(values: list[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]


def tracking(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W5: local writes under tracking, in bulk and one by one."""

    def bulk(side: str) -> dict[str, float]:
        return run(f"{side}:writes", path=f"{folder}/{uuid.uuid4()}.db", count=sizes.writes)

    ours, bare = by_turns(sizes.often, lambda _: bulk("ours"), lambda _: bulk("bare"))
    for name in ("insert", "update", "delete", "seconds"):
        what = "all bulk writes" if name == "seconds" else f"bulk {name}"
        yield Result(
            "W5", f"{what} of {sizes.writes:,}", ours[name], bare[name], "s", ours[name] / bare[name], 1.3
        )

    def saves(tracked: bool) -> dict[str, float]:
        return run("ours:saves", path=f"{folder}/{uuid.uuid4()}.db", count=sizes.writes // 4, tracked=tracked)

    ours, bare = by_turns(sizes.often, lambda _: saves(True), lambda _: saves(False))
    mine, theirs = ours["seconds"], bare["seconds"]
    yield Result("W5", f"Model.save of {sizes.writes // 4:,}, twice", mine, theirs, "s", mine / theirs, 1.15)
