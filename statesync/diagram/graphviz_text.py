"""Drawings in graphviz's language."""

from __future__ import annotations

from html import escape
from textwrap import wrap

from statesync.diagram.drawing import GROUP, Arrow, Box, Drawing, Kind, Label, Weight

FILLS = {
    Kind.READY: ("#f1f3f5", "#495057"),
    Kind.ACTIVE: ("#d0e4ff", "#1c5fb8"),
    Kind.HINDERED: ("#ffe0cc", "#a8480f"),
    Kind.STOPPING: ("#ffecb5", "#9a6b00"),
    Kind.ENDED_WELL: ("#cfeeda", "#1b7a43"),
    Kind.ENDED_OTHERWISE: ("#f8d7da", "#b02a37"),
}
"""Fill and line of every kind of phase."""

LINES = {
    Weight.PLAIN: ("#343a40", 1.2),
    Weight.STRONG: ("#0b3d91", 2.4),
    Weight.FAINT: ("#c9ced3", 0.8),
    Weight.ALARM: ("#c2185b", 2.4),
}
"""Colour and width of every weight."""

_WIDTH = 26
_FONT = 'fontname="DejaVu Sans,Helvetica,sans-serif"'


def write_dot(drawing: Drawing) -> str:
    """Return ``drawing`` as a graph for ``dot``."""
    lines = [
        f"digraph {drawing.name} {{",
        f"  graph [rankdir=TB, compound=true, nodesep=0.55, ranksep=0.6, pad=0.2, {_FONT}, fontsize=11,",
        f"         labelloc=b, label=<{_legend(drawing)}>];",
        f'  node [shape=box, style="rounded,filled", penwidth=1.6, margin="0.12,0.06", {_FONT}];',
        f"  edge [{_FONT}, fontsize=10, arrowsize=0.8];",
        *_markers(drawing),
        *(f"  {_box(box)}" for box in drawing.boxes if box.phase not in drawing.grouped),
        *_group(drawing),
        *(f"  {_arrow(arrow, drawing)}" for arrow in drawing.arrows),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _markers(drawing: Drawing) -> list[str]:
    initial = next(box.phase for box in drawing.boxes if box.is_initial)
    return [
        '  "initial" [shape=circle, style=filled, fillcolor="#212529", label="", width=0.18];',
        f'  "initial" -> "{initial}" [color="#212529"];',
    ]


def _group(drawing: Drawing) -> list[str]:
    return [
        "  subgraph cluster_running {",
        f'    label="{drawing.group}"; labelloc=t; labeljust=l; style="rounded,dashed"; color="#7b8794";',
        '    bgcolor="#f8fafc"; fontcolor="#52606d"; fontsize=11; margin=20;',
        *(f"    {_box(box)}" for box in drawing.boxes if box.phase in drawing.grouped),
        "  }",
    ]


def _box(box: Box) -> str:
    fill, line = FILLS[box.kind]
    if box.mark.weight is Weight.FAINT:
        fill, line = "#ffffff", LINES[Weight.FAINT][0]
    ends = ", peripheries=2" if box.is_final else ""
    return f'"{box.phase}" [fillcolor="{fill}", color="{line}"{ends}, label=<{_table(box, line)}>];'


def _table(box: Box, line: str) -> str:
    rows = [f'<TR><TD><B><FONT POINT-SIZE="14" COLOR="{line}">{box.phase}</FONT></B></TD></TR>']
    if box.mark.text:
        note = "<BR/>".join(escape(part) for part in wrap(box.mark.text, _WIDTH + 8))
        rows.append(f'<TR><TD><FONT POINT-SIZE="10">{note}</FONT></TD></TR>')
    for label, _ in box.inside:
        rows.append(f'<TR><TD ALIGN="LEFT" BALIGN="LEFT">{_words(label, 60)}</TD></TR>')
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="3">{"".join(rows)}</TABLE>'


def _arrow(arrow: Arrow, drawing: Drawing) -> str:
    color, width = LINES[arrow.label.mark.weight]
    source, tail = arrow.source, ""
    if arrow.source == GROUP:
        source, tail = str(drawing.grouped[-1]), ", ltail=cluster_running"
    # A table around the words keeps them at a distance from the line.
    row = f"<TR><TD>{_words(arrow.label, _WIDTH)}</TD></TR>"
    words = f'<TABLE BORDER="0" CELLPADDING="5" CELLSPACING="0">{row}</TABLE>'
    return f'"{source}" -> "{arrow.target}" [label=<{words}>, color="{color}", penwidth={width}{tail}];'


def _words(label: Label, width: int) -> str:
    """Return a label as text of graphviz: what happened, the trigger, its guards, its effect."""
    color = LINES[label.mark.weight][0]
    faint = label.mark.weight is Weight.FAINT
    quiet = color if faint else "#6c757d"
    lines = [f'<B><FONT POINT-SIZE="11" COLOR="{color}">{escape(label.trigger)}</FONT></B>']
    if label.mark.text:
        marked = "<BR/>".join(escape(part) for part in wrap(label.mark.text, width))
        lines.insert(0, f'<B><FONT POINT-SIZE="11" COLOR="{color}">{marked}</FONT></B>')
    guards = wrap(f"[{' and '.join(label.guards)}]", width) if label.guards and not faint else []
    lines += [f'<I><FONT POINT-SIZE="9" COLOR="{quiet}">{escape(part)}</FONT></I>' for part in guards]
    if label.effect and not faint:
        lines.append(f'<FONT POINT-SIZE="9" COLOR="{quiet}">/ {escape(label.effect)}</FONT>')
    return "<BR/>".join(lines)


def _legend(drawing: Drawing) -> str:
    kinds = [kind for kind in Kind if any(box.kind is kind for box in drawing.boxes)]
    cells = "".join(
        f'<TD BGCOLOR="{FILLS[kind][0]}" STYLE="ROUNDED"><FONT COLOR="{FILLS[kind][1]}">{kind}</FONT></TD>'
        for kind in kinds
    )
    caption = "".join(
        f'<TR><TD COLSPAN="{len(kinds)}" ALIGN="LEFT">{escape(line)}</TD></TR>' for line in drawing.caption
    )
    return f'<TABLE BORDER="0" CELLSPACING="6" CELLPADDING="4">{caption}<TR>{cells}</TR></TABLE>'
