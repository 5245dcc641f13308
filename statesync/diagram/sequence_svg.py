"""The conversation of a recorded session as SVG. It needs no layout program, so no extra either."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from statesync.diagram.drawing import Kind
from statesync.diagram.graphviz_text import FILLS
from statesync.diagram.sequence import Line, Say, conversation
from statesync.lifecycle import Phase
from statesync.values import JournalEntry, SessionInfo

_DEVICE, _HUB, _WIDTH = 190, 590, 780
_TOP, _STEP = 92, 34
_FONT = "DejaVu Sans, Helvetica, sans-serif"
_DARK, _ALARM = "#343a40", FILLS[Kind.ENDED_OTHERWISE]

_KINDS = {
    Phase.IDLE: Kind.READY,
    Phase.UPLOADING: Kind.ACTIVE,
    Phase.DOWNLOADING: Kind.ACTIVE,
    Phase.CANCELLING: Kind.STOPPING,
    Phase.DONE: Kind.ENDED_WELL,
    Phase.CANCELLED: Kind.ENDED_OTHERWISE,
    Phase.FAILED: Kind.ENDED_OTHERWISE,
}


def sequence_svg(journal: Sequence[JournalEntry], session: SessionInfo) -> str:
    """Return a recorded session as an SVG sequence diagram: phases, device and hub from top to bottom."""
    lines = conversation(journal, session)
    bottom = _TOP + _STEP * len(lines)
    height = bottom + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="{_FONT}" font-size="12">',
        f"<title>session {escape(session.id)}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        *_title(session),
        *_lifeline(_DEVICE, "device", bottom),
        *_lifeline(_HUB, "hub", bottom),
        *_phases(lines),
        *(part for number, line in enumerate(lines) for part in _drawn(line, _TOP + _STEP * number)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(
    x: float, y: float, words: str, *, color: str = _DARK, anchor: str = "middle", size: int = 12
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{color}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(words)}</text>"
    )


def _title(session: SessionInfo) -> list[str]:
    words = f"session {session.id}: {session.phase}"
    why = f" ({session.reason})" if session.reason else ""
    return [
        _text(
            14,
            22,
            f"{words}{why} after {session.stats.elapsed:.2f} s, space {session.space}",
            anchor="start",
            size=13,
        )
    ]


def _lifeline(x: int, name: str, bottom: int) -> list[str]:
    return [
        f'<rect x="{x - 80}" y="36" width="160" height="26" rx="6" fill="#f1f3f5" stroke="#495057"/>',
        _text(x, 53, name),
        f'<line x1="{x}" y1="62" x2="{x}" y2="{bottom}" stroke="#adb5bd" stroke-dasharray="4 4"/>',
    ]


def _phases(lines: Sequence[Line]) -> list[str]:
    """Return a coloured band beside the device for every phase, as long as the session was in it."""
    parts: list[str] = []
    begin = 0
    for number, line in enumerate(lines):
        if number + 1 < len(lines) and lines[number + 1].phase is line.phase:
            continue
        fill, color = FILLS[_KINDS[line.phase]]
        y, height = _TOP - 17 + _STEP * begin, _STEP * (number + 1 - begin)
        parts.append(f'<rect x="14" y="{y}" width="84" height="{height - 2}" rx="6" fill="{fill}"/>')
        parts.append(_text(56, y + height / 2 + 3, line.phase, color=color, size=11))
        begin = number + 1
    return parts


def _drawn(line: Line, y: int) -> list[str]:
    time = _text(_WIDTH - 14, y + 4, f"{line.elapsed:.2f} s", color="#868e96", anchor="end", size=10)
    if line.say in (Say.NOTE, Say.ALARM):
        return [*_note(line, y), time]
    there = line.say is Say.REQUEST
    return [*_message(line, y, _DEVICE if there else _HUB, _HUB if there else _DEVICE), time]


def _note(line: Line, y: int) -> list[str]:
    fill, color = _ALARM if line.say is Say.ALARM else ("#fff9db", _DARK)
    width = max(120, 7.2 * len(line.text) + 20)
    x = _DEVICE - 60
    if line.say is Say.ALARM:  # it concerns both sides
        x, width = x - 10, _HUB - _DEVICE + 140
    box = (
        f'<rect x="{x:g}" y="{y - 12}" width="{width:g}" height="24" rx="4" fill="{fill}" stroke="{color}"/>'
    )
    return [box, _text(x + width / 2, y + 4, line.text, color=color)]


def _message(line: Line, y: int, begin: int, end: int) -> list[str]:
    lost = line.say is Say.LOST
    color = _ALARM[1] if lost else "#1c5fb8"
    dash = "" if line.say is Say.REQUEST else ' stroke-dasharray="6 4"'
    back = 1 if end < begin else -1
    stop = end + back * (60 if lost else 0)
    head = (
        f"M{stop - 5},{y - 5} l10,10 m0,-10 l-10,10"
        if lost
        else f"M{end + back * 9},{y - 5} L{end},{y} l{back * 9},5"
    )
    return [
        f'<line x1="{begin}" y1="{y}" x2="{stop}" y2="{y}" stroke="{color}" stroke-width="1.4"{dash}/>',
        f'<path d="{head}" stroke="{color}" stroke-width="1.6" fill="none"/>',
        _text((begin + end) / 2, y - 5, line.text, color=color, size=11),
    ]
