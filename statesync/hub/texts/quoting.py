"""A client's texts in messages: escaped, on one line, and never longer than people read.

Whoever puts into a message what a client has sent does it by these two. So no message grows with a request.
"""

from __future__ import annotations

_MOST_QUOTED = 60
_MOST_WORDS = 300


def quoted(text: str) -> str:
    """Return a client's text in quotes; of a long one, only how it begins."""
    shown = repr(text[:_MOST_QUOTED])
    if len(text) <= _MOST_QUOTED and len(shown) <= _MOST_QUOTED + 2:
        return shown
    return f"{shown[: _MOST_QUOTED + 1]}…{shown[-1]}"


def shortened(words: str) -> str:
    """Return a library's words about a request, which may quote as much of it as they like."""
    shown = words[:_MOST_WORDS]
    if not shown.isprintable():
        shown = repr(shown)[1:-1]
    return words if shown == words else f"{shown[:_MOST_WORDS]}…"
