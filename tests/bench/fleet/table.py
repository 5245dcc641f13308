"""What a fleet has seen of a hub, phase by phase: a table for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import attrs
from attrs import frozen

from .device import Tally
from .hub import Use

_HEAD = (
    "database", "phase", "syncs", "req/s", "p50 ms", "p95", "p99", "worst", "refused", "no answer", "failed",
    "hub cores", "MB", "descr.", "unfair", "log lines",
)  # fmt: skip


@frozen
class Seen:
    """The figures of one phase. Times are of a whole sync, with all that the device waited."""

    database: str
    phase: str
    syncs: int
    rate: float
    """Requests a second."""
    percentiles: tuple[float, float, float, float]
    """Of the syncs, in milliseconds: 50, 95, 99, and the worst."""
    refused: dict[str, int]
    """How often a device was told to come again, by code."""
    lost: int
    """How often a connection was refused or ended without an answer."""
    failures: tuple[str, ...]
    """Syncs that came to no end."""
    processor: float
    """Cores that the hub's processes had, on average."""
    memory: float
    """MB of the hub's largest process."""
    descriptors: int
    """Of the hub's process with the most."""
    unfair: float
    """The mean sync of the slowest space, by that of the middle one."""
    lines: int
    """Lines that the hub logged."""


def seen(database: str, phase: str, tally: Tally, use: Use, seconds: float, lines: int) -> Seen:
    """Return the figures of a phase that took so many seconds."""
    means = [sum(some) / len(some) for some in tally.spaces.values()] or [0.0]
    return Seen(
        database,
        phase,
        len(tally.syncs),
        tally.requests / seconds,
        percentiles(tally.syncs),
        dict(tally.refusals),
        tally.lost,
        tuple(tally.failures),
        use.processor / seconds,
        use.memory,
        use.descriptors,
        max(means) / (median(means) or 1.0),
        lines,
    )


def percentiles(seconds: Sequence[float]) -> tuple[float, float, float, float]:
    """Return percentiles 50, 95 and 99 and the greatest of some times, in milliseconds; 0 for none."""
    ordered = sorted(seconds) or [0.0]
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.95, 0.99)]
    return (1000 * at[0], 1000 * at[1], 1000 * at[2], 1000 * ordered[-1])


def table(results: Sequence[Seen]) -> str:
    """Return all phases as aligned text, with the failures and the refusals in words below."""
    rows = [_HEAD, *map(_row, results)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([*lines, *_words(results)])


def as_json(results: Sequence[Seen]) -> list[dict[str, Any]]:
    """Return everything that was measured."""
    return [attrs.asdict(one) for one in results]


def _row(one: Seen) -> tuple[str, ...]:
    return (
        one.database,
        one.phase,
        str(one.syncs),
        f"{one.rate:.0f}",
        *(f"{each:.0f}" for each in one.percentiles),
        str(sum(one.refused.values())),
        str(one.lost),
        str(len(one.failures)),
        f"{one.processor:.2f}",
        f"{one.memory:.0f}",
        str(one.descriptors),
        f"{one.unfair:.1f}",
        str(one.lines),
    )


def _words(results: Sequence[Seen]) -> list[str]:
    refused = [
        f"{one.database}, {one.phase}: told to come again: {one.refused}" for one in results if one.refused
    ]
    failed = [f"{one.database}, {one.phase}: failed: {one.failures[0]}" for one in results if one.failures]
    return refused + failed
