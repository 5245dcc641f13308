"""The outline of a JSON text: how deep it nests, and how much stands where, told without parsing it.

A text is looked at window by window. What that takes does not grow with the text but for the time, and
between two windows other threads have their turn.
"""

from __future__ import annotations

import codecs
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, compress, islice

_WINDOW = 1 << 16

_SHORT = 1 << 12
"""Bytes of a text in which all brackets are counted before any is looked at."""

_BRACKETS = b"[]{}"
_OUTLINE = _BRACKETS + b","
# Quotes stay until strings are told by them.
_NOT_BRACKETS = bytes(set(range(256)) - set(_BRACKETS + b'"'))
_NOT_OUTLINE = bytes(set(range(256)) - set(_OUTLINE + b'"'))
_STEPS = bytes.maketrans(_OUTLINE, b"\x01\xff\x01\xff\x00")
"""How each of them changes the level: one deeper, one back (-1 as a signed byte), or not at all."""
_IS_COMMA = bytes.maketrans(_OUTLINE, b"\x00\x00\x00\x00\x01")


def check_text(body: bytes) -> None:
    """Raise ``UnicodeDecodeError`` for bytes that are no UTF-8."""
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for window in _windows(body):
        decoder.decode(window)
    decoder.decode(b"", final=True)


def is_deeper_than(body: bytes, levels: int) -> bool:
    """Tell whether ``body`` nests deeper than ``levels``, up to where it ends or can be read no further."""
    if len(body) <= _SHORT and body.count(b"[") + body.count(b"{") <= levels:
        return False
    level = 0
    for brackets in outside_strings(body, _NOT_BRACKETS):
        if not brackets:
            continue
        reached = list(accumulate(array("b", brackets.translate(_STEPS)), initial=level))
        if max(reached) > levels:
            return True
        level = reached[-1]
    return False


def commas_at(text: bytes) -> Counter[int]:
    """Return how many commas stand at each level; 1 is inside the outermost list or object.

    A list, or an object, has one value more than it has commas, or none.
    """
    level, found = 0, Counter[int]()
    for outline in outside_strings(text, _NOT_OUTLINE):
        steps = array("b", outline.translate(_STEPS))
        reached = list(islice(accumulate(steps, initial=level), 1, None))
        found.update(compress(reached, outline.translate(_IS_COMMA)))
        level = reached[-1] if reached else level
    return found


def outside_strings(body: bytes, dropped: bytes = b"") -> Iterator[bytes]:
    """Yield ``body`` without its strings, and without the bytes ``dropped``, window by window.

    In JSON a backslash stands in strings only; at any other the parser stops, so what follows does not count.
    Quotes, which have to stay, tell strings apart. Two that have come side by side tell nothing: they
    are an empty string, or the end of one with the beginning of the next.
    """
    is_inside, begun = False, b""
    for window in _windows(body):
        text = begun + window
        if b"\\" in text:
            begun = b"\\" if _ends_in_escape(text) else b""
            text = text[: len(text) - len(begun)].replace(rb"\\", b"").replace(rb"\"", b"")
        else:
            begun = b""
        kept = text.translate(None, dropped) if dropped else text
        parts = kept.replace(b'""', b"").split(b'"')
        yield b"".join(parts[is_inside::2])
        is_inside ^= len(parts) % 2 == 0


def _windows(body: bytes) -> Iterator[bytes]:
    if len(body) <= _WINDOW:
        yield body
        return
    view = memoryview(body)
    for at in range(0, len(body), _WINDOW):
        yield bytes(view[at : at + _WINDOW])


def _ends_in_escape(text: bytes) -> bool:
    """Tell whether the last backslash of ``text`` belongs to what follows."""
    return text.endswith(b"\\") and (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
