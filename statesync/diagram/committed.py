"""The pictures that a repository keeps: written from the charts, and checked against them."""

from __future__ import annotations

from pathlib import Path

from statesync.diagram.drawing import GROUP, drawing_of
from statesync.diagram.formats import dot, mermaid, png, source_of, svg
from statesync.diagram.tables import markdown, scxml
from statesync.lifecycle import CHARTS, Chart

_TEXTS = {"mmd": mermaid, "dot": dot, "md": markdown, "scxml": scxml}


def write(folder: Path) -> list[Path]:
    """Write every picture of every chart into ``folder``; return the files, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for chart in CHARTS:
        texts = {kind: draw(chart) for kind, draw in _TEXTS.items()} | {"svg": svg(chart)}
        for kind, text in texts.items():
            files.append(folder / f"{chart.name}.{kind}")
            files[-1].write_text(text, encoding="utf-8", newline="\n")
        files.append(folder / f"{chart.name}.png")
        files[-1].write_bytes(png(chart))
    return files


def stale(folder: Path) -> list[str]:
    """Return what is wrong with the pictures in ``folder``, a line a file; nothing if all are up to date.

    Texts are compared byte for byte. Versions of graphviz place things differently, so of an SVG it is
    compared which text it was drawn from and which arrows it shows, and of a PNG which text alone. Nothing
    needs to be installed for that.
    """
    return [
        f"{folder / name}: {wrong}; `statesync diagram --write` draws it again"
        for chart in CHARTS
        for name, wrong in _wrong(folder, chart).items()
        if wrong
    ]


def _wrong(folder: Path, chart: Chart) -> dict[str, str | None]:
    found = {f"{chart.name}.{kind}": _wrong_text(folder, chart, kind) for kind in _TEXTS}
    for kind in ("svg", "png"):
        path = folder / f"{chart.name}.{kind}"
        found[path.name] = _wrong_picture(path, chart) if path.exists() else "missing"
    return found


def _wrong_text(folder: Path, chart: Chart, kind: str) -> str | None:
    path = folder / f"{chart.name}.{kind}"
    if not path.exists():
        return "missing"
    return None if path.read_bytes() == _TEXTS[kind](chart).encode() else "not what the chart says"


def _wrong_picture(path: Path, chart: Chart) -> str | None:
    content = path.read_bytes()
    if source_of(dot(chart)).encode() not in content:
        return "drawn from another text than the chart's"
    if path.suffix == ".svg":
        drawing = drawing_of(chart)
        shown = [
            f"{drawing.grouped[-1] if arrow.source == GROUP else arrow.source}&#45;&gt;{arrow.target}"
            for arrow in drawing.arrows
        ]
        if any(f"<title>{arrow}</title>".encode() not in content for arrow in shown):
            return "an arrow is missing"
    return None
