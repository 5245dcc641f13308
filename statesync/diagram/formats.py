"""One function a format, from a chart and, where something happened, its marks.

Here is the one place that imports pygraphviz.
"""

from __future__ import annotations

from hashlib import sha256
from struct import pack
from zlib import crc32

from statesync.diagram.drawing import NO_MARKS, Marks, drawing_of
from statesync.diagram.graphviz_text import write_dot
from statesync.diagram.mermaid_text import write_mermaid
from statesync.errors import UsageError
from statesync.lifecycle import Chart

_PNG_END = 12
"""Bytes of the chunk that ends every PNG; a comment goes before it."""


class DiagramsMissing(UsageError):
    """Pictures need pygraphviz, which is not installed."""

    code = 2445
    reason = "diagrams_missing"


def mermaid(chart: Chart, marks: Marks = NO_MARKS) -> str:
    """Return ``chart`` as mermaid, which GitHub and many editors show by themselves."""
    return write_mermaid(drawing_of(chart, marks))


def dot(chart: Chart, marks: Marks = NO_MARKS) -> str:
    """Return ``chart`` as a text for graphviz."""
    return write_dot(drawing_of(chart, marks))


def svg(chart: Chart, marks: Marks = NO_MARKS) -> str:
    """Return ``chart`` as SVG; raises ``DiagramsMissing`` without ``statesync[diagrams]``.

    Versions of graphviz place things a little differently, so the picture names the text that it was drawn
    from: see ``source_of``.
    """
    graph = dot(chart, marks)
    image = _picture(graph, "svg").decode()
    head, tag, rest = image.partition("<svg")
    return f"{head}<!-- {source_of(graph)} -->\n{tag}{rest}"


def png(chart: Chart, marks: Marks = NO_MARKS) -> bytes:
    """Return ``chart`` as PNG; raises ``DiagramsMissing`` without ``statesync[diagrams]``.

    Its comment names the text that it was drawn from: see ``source_of``.
    """
    graph = dot(chart, marks)
    image = _picture(graph, "png")
    comment = b"tEXtComment\0" + source_of(graph).encode()
    chunk = pack(">I", len(comment) - 4) + comment + pack(">I", crc32(comment))
    return image[:-_PNG_END] + chunk + image[-_PNG_END:]


def source_of(graph: str) -> str:
    """Return the words by which a picture names the graphviz text that it was drawn from."""
    return f"drawn from dot sha256:{sha256(graph.encode()).hexdigest()}"


def _picture(graph: str, form: str) -> bytes:
    """Return ``graph``, a text for graphviz, laid out as ``form``: ``svg`` or ``png``.

    Raises ``DiagramsMissing`` where pygraphviz is not installed.
    """
    try:
        from pygraphviz import AGraph  # type: ignore[import-untyped]
    except ImportError as error:
        raise DiagramsMissing(
            f"a {form} picture needs pygraphviz: pip install 'statesync[diagrams]'; "
            "mermaid, dot, markdown and scxml need nothing"
        ) from error
    drawn = AGraph(string=graph)
    try:
        image: bytes = drawn.draw(format=form, prog="dot")
    finally:
        drawn.close()
    return image
