"""Pictures of the lifecycle, drawn from the charts and from recorded sessions.

Text formats need nothing but this package and are the same on every machine, byte for byte::

    from statesync import diagram
    from statesync.lifecycle import SESSION

    print(diagram.mermaid(SESSION))
    print(diagram.mermaid(SESSION, diagram.taken(store.journal(id), store.session(id))))
    diagram.show(SESSION)  # in a notebook

SVG and PNG need ``statesync[diagrams]`` and raise ``DiagramsMissing`` without it.
"""

from __future__ import annotations

from statesync.diagram.drawing import Arrow, Box, Drawing, Kind, Label, Mark, Marks, Weight, drawing_of
from statesync.diagram.formats import DiagramsMissing, dot, mermaid, png, svg
from statesync.diagram.history import taken
from statesync.diagram.notebook import HasChart, Shown, show, show_session
from statesync.diagram.sequence import sequence_mermaid
from statesync.diagram.sequence_svg import sequence_svg
from statesync.diagram.tables import markdown, scxml

__all__ = [
    "Arrow",
    "Box",
    "DiagramsMissing",
    "Drawing",
    "HasChart",
    "Kind",
    "Label",
    "Mark",
    "Marks",
    "Shown",
    "Weight",
    "dot",
    "drawing_of",
    "markdown",
    "mermaid",
    "png",
    "scxml",
    "sequence_mermaid",
    "sequence_svg",
    "show",
    "show_session",
    "svg",
    "taken",
]
