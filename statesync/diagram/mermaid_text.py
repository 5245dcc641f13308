"""Drawings in mermaid, which GitHub and many editors show by themselves.

A chart is a state diagram. A picture of what happened is a flowchart: mermaid's state diagrams cannot
draw one arrow fainter than another.
"""

from __future__ import annotations

from collections.abc import Callable

from statesync.diagram.drawing import GROUP, Arrow, Box, Drawing, Kind, Label, Weight
from statesync.diagram.graphviz_text import FILLS, LINES

_FORBIDDEN = str.maketrans({'"': "'", ";": ",", "#": "", "<": "(", ">": ")", "{": "(", "}": ")", "|": "/"})


def write_mermaid(drawing: Drawing) -> str:
    """Return ``drawing`` as a mermaid state diagram, or as a flowchart where it tells what happened."""
    if any(arrow.label.mark.weight is not Weight.PLAIN for arrow in drawing.arrows):
        return _flowchart(drawing)
    return _state_diagram(drawing)


def _state_diagram(drawing: Drawing) -> str:
    lines = ["stateDiagram-v2", "    direction TB", *(f"    %% {line}" for line in drawing.caption)]
    lines += _framed(drawing, _state, f'    state "{drawing.group}" as {GROUP} {{', "    }")
    for box in drawing.boxes:
        lines += [f"    [*] --> {box.phase}"] if box.is_initial else []
    lines += [f"    {arrow.source} --> {arrow.target} : {_words(arrow.label)}" for arrow in drawing.arrows]
    lines += [f"    {box.phase} --> [*]" for box in drawing.boxes if box.is_final]
    return "\n".join([*lines, *_classes(drawing)]) + "\n"


def _flowchart(drawing: Drawing) -> str:
    lines = ["flowchart TB", *(f"    %% {line}" for line in drawing.caption)]
    lines += _framed(drawing, _node, f'    subgraph {GROUP}["{drawing.group}"]', "    end")
    initial = next(box.phase for box in drawing.boxes if box.is_initial)
    lines += ["    initial((( ))) --> " + str(initial)]
    lines += [_link(arrow) for arrow in drawing.arrows]
    for number, arrow in enumerate(drawing.arrows, start=1):  # arrow 0 is the one from the initial marker
        color, width = LINES[arrow.label.mark.weight]
        lines.append(f"    linkStyle {number} stroke:{color},stroke-width:{width}px,color:{color}")
    return "\n".join([*lines, *_classes(drawing)]) + "\n"


def _framed(drawing: Drawing, draw: Callable[[Box], list[str]], begin: str, end: str) -> list[str]:
    outside = [line for box in drawing.boxes if box.phase not in drawing.grouped for line in draw(box)]
    inside = [line for box in drawing.boxes if box.phase in drawing.grouped for line in draw(box)]
    return [*(f"    {line}" for line in outside), begin, *(f"        {line}" for line in inside), end]


def _state(box: Box) -> list[str]:
    lines = [str(box.phase), *filter(None, [_plain(box.mark.text)])]
    lines += [_words(label) for label, _ in box.inside]
    return [f"{box.phase} : {line}" for line in lines]


def _node(box: Box) -> list[str]:
    lines = [f"<b>{box.phase}</b>", *filter(None, [_plain(box.mark.text)])]
    lines += [_words(label) for label, _ in box.inside if label.mark.weight is not Weight.FAINT]
    opening, closing = ("([", "])") if box.is_final else ("(", ")")
    return [f'{box.phase}{opening}"{"<br/>".join(lines)}"{closing}']


def _link(arrow: Arrow) -> str:
    return f'    {arrow.source} -->|"{_words(arrow.label)}"| {arrow.target}'


def _words(label: Label) -> str:
    """Return a label's parts with breaks between them: what happened, the trigger, its guards, its effect."""
    faint = label.mark.weight is Weight.FAINT
    parts = [_plain(label.mark.text), label.trigger]
    if label.guards and not faint:
        parts.append(_plain(f"[{' and '.join(label.guards)}]"))
    if label.effect and not faint:
        parts.append(_plain(f"/ {label.effect}").replace(":", ""))
    return "<br/>".join(filter(None, parts))


def _plain(text: str) -> str:
    """Return ``text`` without what mermaid would read as its own signs."""
    return text.translate(_FORBIDDEN)


def _classes(drawing: Drawing) -> list[str]:
    lines = []
    for kind in Kind:
        members = [
            str(box.phase)
            for box in drawing.boxes
            if box.kind is kind and box.mark.weight is not Weight.FAINT
        ]
        if members:
            name, (fill, line) = kind.replace(" ", "_"), FILLS[kind]
            lines.append(f"    classDef {name} fill:{fill},stroke:{line},color:{line}")
            lines.append(f"    class {','.join(members)} {name}")
    faint = [str(box.phase) for box in drawing.boxes if box.mark.weight is Weight.FAINT]
    if faint:
        lines.append(f"    classDef faint fill:#ffffff,stroke:{LINES[Weight.FAINT][0]},color:#868e96")
        lines.append(f"    class {','.join(faint)} faint")
    return lines
