"""Plots of the figures, written as plain SVG: no library, and the same file from the same figures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import chain
from math import log10
from pathlib import Path

from .runner import Result

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 720, 320, 70, 40, 50
_OURS, _LIGHT, _LIMIT = "#2463a8", "#7fb2e5", "#b0b7c0"


def write_plots(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write the plots that the results have figures for, and return their files."""
    plots = {
        "ratios.svg": _ratios(results),
        "growth.svg": _lines(
            results,
            "seconds",
            "seconds of one sync: scattered (blue), the newest (light), the bare loop scattered (grey)",
        ),
        "memory.svg": _lines(results, "memory", "MB resident at most, first download"),
        "cancel.svg": _histogram(results),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, svg in plots.items():
        if svg:
            (folder / name).write_text(svg)
            written.append(folder / name)
    return written


def _ratios(results: Sequence[Result]) -> str:
    """Bars: each figure as a part of its target; the line is the target."""
    rows = [(f"{one.workload} {one.what}", _share(one)) for one in results]
    height = _TOP + 22 * len(rows) + 20
    scale = 300 / max(1.5, *(share for _, share in rows))
    parts = []
    for at, (name, share) in enumerate(rows):
        y = _TOP + 22 * at
        parts.append(_text(400, y + 13, name, "end"))
        parts.append(_box(410, y + 2, share * scale, 15, _OURS if share <= 1 else "#c0392b"))
        parts.append(_text(770, y + 13, f"{share:.2f}", "end"))
    parts.append(_rule(410 + scale, _TOP - 6, 410 + scale, height - 16))
    return _svg("Each figure as a part of its target (left of the line: reached)", parts, height, 780)


def _share(one: Result) -> float:
    if one.more_is_better:
        return one.reach / one.ratio
    return max(0.0, one.ratio / one.reach)


def _lines(results: Sequence[Result], name: str, title: str) -> str:
    """A line over the number of records, which is drawn by its logarithm."""
    found = [one.series for one in results if name in one.series]
    if not found or len(found[0]["records"]) < 2:
        return ""
    across, up = found[0]["records"], found[0][name]
    others = {_LIMIT: found[0].get(f"bare {name}", []), _LIGHT: found[0].get(f"near {name}", [])}
    low, high, most = log10(across[0]), log10(across[-1]), max(chain(up, *others.values())) * 1.25
    width, height = _WIDTH - _LEFT - 30, _HEIGHT - _TOP - _BOTTOM

    def places(values: Sequence[float]) -> list[tuple[float, float]]:
        return [
            (_LEFT + width * (log10(x) - low) / (high - low), _TOP + height * (1 - y / most))
            for x, y in zip(across, values, strict=False)
        ]

    points = places(up)
    parts = [*_axes(most), *(_polyline(places(other), colour) for colour, other in others.items())]
    parts.append(_polyline(points, _OURS))
    for (x, y), count, value in zip(points, across, up, strict=True):
        parts += [_dot(x, y), _text(x, y - 9, f"{value:.3g}", "middle")]
        parts.append(_text(x, _HEIGHT - _BOTTOM + 18, f"{count:,.0f}", "middle"))
    parts.append(_text(_WIDTH / 2, _HEIGHT - 10, "records on the device", "middle"))
    return _svg(title, parts, _HEIGHT, _WIDTH)


def _histogram(results: Sequence[Result], bins: int = 30) -> str:
    """How long cancels took, over how long whole batches take."""
    found = [one.series for one in results if "latencies" in one.series]
    if not found:
        return ""
    cancels, batches = found[0]["latencies"], found[0]["batches"]
    most = max(*cancels, *batches) * 1.02
    columns = {_LIMIT: _shares(batches, most, bins), _OURS: _shares(cancels, most, bins)}
    tallest = max(max(shares) for shares in columns.values())
    width, height = _WIDTH - _LEFT - 30, _HEIGHT - _TOP - _BOTTOM
    parts = _axes(tallest)
    for at, (colour, shares) in enumerate(columns.items()):
        for place, share in enumerate(shares):
            tall = height * share / tallest
            x = _LEFT + width * place / bins + at * width / bins / 2
            parts.append(_box(x, _TOP + height - tall, width / bins / 2 - 1, tall, colour))
    for tick in range(6):
        x = _LEFT + width * tick / 5
        parts.append(_text(x, _HEIGHT - _BOTTOM + 18, f"{most * tick / 5 * 1000:.0f}", "middle"))
    parts.append(_text(_WIDTH / 2, _HEIGHT - 10, "milliseconds", "middle"))
    return _svg("Cancel to terminal event (blue) beside whole batches (grey), shares", parts, _HEIGHT, _WIDTH)


def _shares(values: Sequence[float], most: float, bins: int) -> list[float]:
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(value / most * bins))] += 1
    return [count / len(values) for count in counts]


def _axes(most: float) -> list[str]:
    height = _HEIGHT - _TOP - _BOTTOM
    parts = [_rule(_LEFT, _TOP + height, _WIDTH - 30, _TOP + height)]
    for tick in range(1, 5):
        y = _TOP + height * (1 - tick / 4)
        parts += [
            _rule(_LEFT, y, _WIDTH - 30, y, "#e3e6ea"),
            _text(_LEFT - 8, y + 4, f"{most * tick / 4:.2g}", "end"),
        ]
    return parts


def _svg(title: str, parts: list[str], height: float, width: float) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    back = '<rect width="100%" height="100%" fill="white"/>'
    named = f'<text x="{width / 2}" y="22" font-size="14" text-anchor="middle">{escape(title)}</text>'
    return "\n".join([head, back, named, *parts, "</svg>\n"])


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}">{escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _rule(x: float, y: float, to_x: float, to_y: float, colour: str = "#444") -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}"/>'


def _dot(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_OURS}"/>'


def _polyline(points: Sequence[tuple[float, float]], colour: str) -> str:
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>'
