"""What those who wait for news in one process share: their places, and what tells them."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
from attrs import field

from statesync.classes import define
from statesync.hub.errors import Refused, busy, refused
from statesync.hub.http.crowd import room_for
from statesync.hub.http.shares import Share
from statesync.hub.http.waiting.pauses import Bell, Deadlines
from statesync.hub.hub import Hub
from statesync.hub.signals.waiters import NOWHERE, Head
from statesync.wire import Signal

_LATE = (5.0, 30.0)
"""Seconds, at random, after which those come again for whom there is no room: others leave meanwhile."""

_A_SECOND = 250
"""Devices that come again in one second after their hub has ended."""

Lines = list[tuple[bytes, bytes]]
"""Lines of a head, by name."""


def body_of(head: Head) -> bytes:
    """Return what is answered to those who wait for ``head``."""
    return msgspec.json.encode(Signal(head.epoch, head.head))


def unavailable() -> Refused:
    """Return the 503 for who has waited for a head that could not be read."""
    return refused(503, "database_unavailable", "the hub's database does not answer; try again", 1)


@define(eq=False)
class _Said:
    """One whole answer, for all who get the same in the same second."""

    head: Head = NOWHERE
    lines: Lines = field(factory=list)
    answer: bytes = b""


class Room:
    """The places of those who wait, of which a space has half and a token a quarter. For one event loop."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        # A fifth of the connections is left to requests that do not wait.
        most = min(hub.limits.waiters, max(1, room_for(hub.limits.sockets) * 4 // 5))
        self._places = Share(most, "devices that wait for news")
        self._count = 0
        self._deadlines: Deadlines | None = None
        self._said = _Said()

    def enter(self, space: str, holder: str) -> None:
        """Take a place; raise the 503 where there is none."""
        try:
            self._places.take(space, holder, 1)
        except Refused as error:
            error.retry_after = random.uniform(*_LATE)  # noqa: S311 - no secret
            raise
        self._count += 1

    def leave(self, space: str, holder: str) -> None:
        """Give a place back."""
        self._count -= 1
        self._places.give_back(space, holder, 1)

    @property
    def bell(self) -> Bell:
        """What wakes those who wait in the running loop."""
        return self.deadlines.bell

    @property
    def deadlines(self) -> Deadlines:
        """What tells those in the running loop who have waited long enough."""
        loop = asyncio.get_running_loop()
        if self._deadlines is None or self._deadlines.bell.loop is not loop:
            self._deadlines = Deadlines(Bell(loop))
        return self._deadlines

    def ending(self) -> Refused:
        """Return what those are told who wait when the hub ends: they come again one after the other."""
        error = busy("the hub ends, or is replaced by another")
        error.retry_after = random.uniform(1.0, 1.0 + self._count / _A_SECOND)  # noqa: S311 - no secret
        return error

    def whole_answer(self, head: Head, lines: Lines) -> bytes:
        """Return the bytes that tell of ``head``, with the ``lines`` that all answers have just now."""
        said = self._said
        if said.head != head or said.lines is not lines:
            said = self._said = _Said(head, lines, _as_bytes(body_of(head), lines))
        return said.answer


NO_STORE: tuple[tuple[str, str], ...] = (("cache-control", "no-store"),)
"""What every answer to the question says besides."""


def _as_bytes(body: bytes, lines: Lines) -> bytes:
    own: list[tuple[str, Any]] = [
        *NO_STORE,
        ("content-length", len(body)),
        ("content-type", "application/json"),
    ]
    said = [b"%s: %s" % line for line in lines] + [f"{name}: {value}".encode() for name, value in own]
    return b"\r\n".join([b"HTTP/1.1 200 OK", *said, b"", body])
