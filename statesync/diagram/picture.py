"""Pictures from graphviz text: the one place that imports pygraphviz."""

from __future__ import annotations

from statesync.errors import UsageError


class DiagramsMissing(UsageError):
    """Pictures need pygraphviz, which is not installed."""

    code = 2445
    reason = "diagrams_missing"


def picture(graph: str, form: str) -> bytes:
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
