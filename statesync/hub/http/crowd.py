"""How many connections a process takes, and what becomes of those that are too many.

Each takes a descriptor, and so do the database and its files: a process that has none left can do nothing.
So it has fewer connections than it has descriptors for. One more takes the place of one that is kept and
asks for nothing, or that has not asked within a moment; where there is none, it is told to come again, and
the next ones are cut.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import sys
import time
from typing import Any

import msgspec
from attrs import field

from statesync.classes import define
from statesync.hub.errors import Refused, busy
from statesync.hub.http.answers import retry_headers
from statesync.wire import Refusal

_log = logging.getLogger(__name__)

BACKLOG = 128
"""Connections that wait until the process takes them, and that it takes at once; others try again."""

_LINGER = 2.0
"""Seconds in which who is turned away has to ask, and to read the answer; and in which everybody has to ask
where others want the place."""

_PAUSE = 1.0
"""Seconds between two lines of the log."""

_NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def allow(connections: int) -> int:
    """Let this process, and those it starts, have so many connections; return how many they can have.

    Connections get three quarters of the descriptors. The soft limit of these is raised if it has to be, and
    never beyond the hard one.
    """
    if sys.platform == "win32":
        return connections
    import resource  # there is none on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = -(-connections * 4 // 3)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return room_for(connections)


def room_for(connections: int) -> int:
    """Return how many connections this process has descriptors for: so many, or fewer."""
    if sys.platform == "win32":
        return connections
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft * 3 // 4))


def tell_of_failures(loop: asyncio.AbstractEventLoop) -> None:
    """Let ``loop`` say in a line that descriptors have run out, once a second; all else it says as ever."""
    line = _Line()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NONE_LEFT:
            line.say(f"{context['message']}: {error.strerror}; let the hub open more files (ulimit -n)")
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
    _look_for_room(loop, line)


def _look_for_room(loop: asyncio.AbstractEventLoop, line: _Line) -> None:
    """Try each second whether there are descriptors; without any, uvloop waits, and does not say so."""
    try:
        for end in os.pipe():
            os.close(end)
    except OSError as error:
        if error.errno not in _NONE_LEFT:
            raise
        line.say(f"no connection can be taken: {error.strerror}; let the hub open more files (ulimit -n)")
    loop.call_later(_PAUSE, _look_for_room, loop, line)


@define
class _Line:
    """A line of the log that is said once in ``_PAUSE`` seconds."""

    _last: float = float("-inf")

    def say(self, what: str) -> None:
        now = time.monotonic()
        if now >= self._last + _PAUSE:
            self._last = now
            _log.warning("%s", what)


@define(eq=False)
class Crowd:
    """The connections of one server: as many as ``most`` are served, and an eighth more get an answer."""

    most: int
    is_ending: bool = False
    """Whether the server has told its connections that it ends; who comes later is told nothing."""
    _line: _Line = field(factory=_Line)

    def is_full(self, connections: set[Any]) -> bool:
        """Tell whether one more is too many; say so. One that is kept and asks for nothing makes room."""
        if len(connections) < self.most or _end_one_at_rest(connections):
            return False
        self._line.say(f"the hub has {self.most} connections, which is its limit; others are turned away")
        return True

    def is_overrun(self, connections: set[Any]) -> bool:
        """Tell whether there are so many that one more does not even get an answer."""
        return len(connections) >= self.most + -(-self.most // 8)

    def refusal(self) -> Refused:
        """Return what those are told that are turned away."""
        return busy(f"the hub has {self.most} connections, which is its limit")


class TurnedAway(asyncio.Protocol):
    """A connection of one too many: its first request is answered that it is to come again, and is not read.

    ``connections`` are those of its server, of which it is one until it ends.
    """

    cycle = None
    began: float = math.inf
    """It has no place that another one could want."""

    def __init__(self, connections: set[Any], refusal: Refused) -> None:
        self._connections = connections
        self._refusal = refusal
        self._is_told = False

    def connection_made(self, transport: Any) -> None:
        """Give it a moment."""
        self._transport: Any = transport
        self._connections.add(self)
        loop = asyncio.get_running_loop()
        self._end: asyncio.TimerHandle = loop.call_later(_LINGER, self._transport.abort)

    def data_received(self, _data: bytes) -> None:
        """Answer, whatever it asks; the rest of it is let go by."""
        if not self._is_told:
            self._is_told = True
            self._transport.write(as_bytes(self._refusal))

    def connection_lost(self, _error: Exception | None) -> None:
        """Leave."""
        self._end.cancel()
        self._connections.discard(self)

    def shutdown(self) -> None:
        """End with the server."""
        self._transport.close()


def _end_one_at_rest(connections: set[Any]) -> bool:
    """Hang up on one that has had its answer, as its time to be kept would; return whether there was one.

    Where there is none, on the one that has waited for longest with its first request: else who connects and
    says nothing would keep all others out for as long as a head may take.
    """
    late, silent = time.monotonic() - _LINGER, []
    for connection in connections:
        cycle = connection.cycle
        if cycle is None:
            silent += [connection] * (connection.began < late and not connection.transport.is_closing())
        elif cycle.response_complete and not connection.transport.is_closing():
            connection.give_way()
            return True
    if silent:
        min(silent, key=lambda connection: connection.began).give_way()
    return bool(silent)


def as_bytes(error: Refused) -> bytes:
    """Return a whole answer, after which the connection ends."""
    body = msgspec.json.encode(Refusal(error.problem))
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **retry_headers(error),
    }
    lines = [
        f"HTTP/1.1 {error.status} Service Unavailable",
        *(f"{name}: {headers[name]}" for name in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
