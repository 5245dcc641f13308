"""What a run of the benchmark says: a table for people, JSON for machines, Markdown for the documentation."""

from __future__ import annotations

import os
import platform
import sqlite3
from pathlib import Path
from typing import Any

import attrs

from .runner import Result

_HEAD = ("", "workload", "measured", "limit", "unit", "figure", "to reach", "processor")


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def line(result: Result) -> tuple[str, ...]:
    """Return one row of the table."""
    sign = "≥" if result.more_is_better else "≤"
    return (
        result.workload,
        result.what,
        f"{result.ours:.4g}",
        "" if result.limit is None else f"{result.limit:.4g}",
        result.unit,
        f"{result.ratio:.2f}",
        f"{sign} {result.reach:g} {'yes' if result.reached else 'NO'}",
        f"{result.details['cpu']:.2f}" if "cpu" in result.details else "",
    )


def table(results: list[Result]) -> str:
    """Return all rows as aligned text."""
    rows = [_HEAD, *map(line, results)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )


def markdown(results: list[Result]) -> str:
    """Return all rows as a table of Markdown."""
    rows = [_HEAD, tuple("---" for _ in _HEAD), *map(line, results)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def as_json(results: list[Result]) -> dict[str, Any]:
    """Return everything that was measured."""
    return {
        "machine": machine(),
        "results": [attrs.asdict(one) | {"reached": one.reached} for one in results],
    }


def into_page(page: Path, results: list[Result]) -> None:
    """Replace the table between the page's two marks."""
    text = page.read_text()
    before, mark, rest = text.partition("<!-- figures -->\n")
    _, end, after = rest.partition("<!-- end of figures -->")
    if not (mark and end):
        raise ValueError(f"{page} has no marks for the figures")
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    page.write_text(f"{before}{mark}\n{markdown(results)}\n\nMeasured on: {about}.\n\n{end}{after}")
