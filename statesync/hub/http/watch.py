"""Watching the connections of uvicorn: who sends no request, or takes no answer, is cut.

While a request is under way the application itself sees to it that its body comes and its answer goes. What
is before and after that, only the server sees: a head that does not end, the rest of a body that was refused,
the last piece of an answer, and answers that are asked for and not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import uvicorn

from statesync.classes import define
from statesync.hub.http.bodies import SHORT
from statesync.hub.http.crowd import BACKLOG, Crowd, TurnedAway, room_for
from statesync.hub.http.waiting.again import Asking
from statesync.hub.limits import HubLimits

_LOOKS = 4
"""Looks at a connection in the shorter of its times."""

_LINE = 32
"""Bytes of a chunked body for each end of a line that is in it: chunks of 64 bytes are large enough."""
_TINY = 2_000
"""Ends of lines that a chunked body may have besides."""

_PIECE = 1 << 12
"""Bytes of what has very many lines that are read at once."""

_FAREWELL = 1.0
"""Seconds that a peer has to close a connection that has given way."""

_NOTHING = object()


# Under httptools, who asks again and again and reads nothing is read on, and not cut.
class _Protocol(Asking):
    """The protocol of one connection, which lets others know that its server ends."""

    def shutdown(self) -> None:
        """Give way, because the server ends; those that were accepted, and are not here yet, do so, too."""
        _crowd_of(self.config).is_ending = True
        self.give_way()

    def give_way(self) -> None:
        """Finish the request that is under way, and hang up."""
        super().shutdown()
        self._hang_up_later()

    def _hang_up_later(self) -> None:
        self.loop.call_later(_FAREWELL, self._hang_up)

    def _hang_up(self) -> None:
        """Wait no longer for the farewell of a peer, which TLS asks for: who is idle does not read."""
        if not self.transport.is_closing() or self.transport.get_write_buffer_size():
            self._hang_up_later()
        else:
            self.transport.abort()  # does nothing where it has ended


_protocol: Callable[..., Any] = _Protocol


class WatchedConfig(uvicorn.Config):
    """uvicorn's configuration, with a hub's limits for its connections."""

    def __init__(self, app: Any, limits: HubLimits, **options: Any) -> None:
        super().__init__(app, http=Watched, backlog=BACKLOG, **options)
        self.limits: HubLimits = limits
        self.crowd: Crowd = Crowd(room_for(limits.sockets))


def _crowd_of(config: uvicorn.Config) -> Crowd:
    """Return the crowd of the server that has this configuration."""
    return config.crowd if isinstance(config, WatchedConfig) else _usual_crowd()


@cache
def _usual_crowd() -> Crowd:
    """Return the crowd of a server that was started without a hub's limits."""
    return Crowd(room_for(HubLimits().sockets))


@define(eq=False)
class _Stretch:
    """Tells whether enough bytes pass in each stretch of ``seconds``."""

    seconds: float
    pace: int
    _of: object = _NOTHING
    _since: float = 0.0
    _count: int = 0

    def is_slow(self, of: object, now: float, count: int) -> bool:
        """Tell whether a stretch ends here in which ``count`` grew too little; another ``of`` begins anew."""
        is_another = of is not self._of
        if not is_another and now - self._since < self.seconds:
            return False
        is_slow = not is_another and count - self._count < self.pace * self.seconds
        self._of, self._since, self._count = of, now, count
        return is_slow

    def end(self) -> None:
        """Forget the stretch: the next one is another."""
        self._of = _NOTHING


@define(eq=False)
class _Chunks:
    """Tells whether a body comes in chunks so small that reading them is the hub's work.

    A chunk costs two ends of lines, and none is counted of a body that is not chunked.
    """

    _of: object = _NOTHING
    _is_chunked: bool = False
    _excess: int = 0

    def are_tiny(self, cycle: Any, data: bytes) -> bool:
        """Tell whether ``data``, which came for the request of ``cycle``, has too many ends of lines."""
        if cycle is not self._of:
            self._of, self._excess = cycle, 0
            self._is_chunked = any(name == b"transfer-encoding" for name, _ in cycle.scope["headers"])
        if self._is_chunked:
            self._excess = max(0, self._excess + data.count(b"\r\n") - len(data) // _LINE)
        return self._excess > _TINY


class Watched(asyncio.Protocol):
    """One connection: uvicorn's protocol, and a look at how it goes on.

    For ``uvicorn --http statesync.hub.http.watch:Watched`` too, with the limits that a hub has by itself.
    """

    def __init__(self, config: uvicorn.Config, **more: Any) -> None:
        limits = config.limits if isinstance(config, WatchedConfig) else HubLimits()
        self._inner = _protocol(config=config, **more)
        self._connections: set[Any] = more["server_state"].connections
        self._crowd = _crowd_of(config)
        self._is_turned_away = False
        self._coming = _Stretch(limits.head_seconds, limits.pace)
        self._going = _Stretch(limits.stall_seconds, limits.pace)
        self._most: int = limits.body + SHORT
        self._pause: float = min(limits.head_seconds, limits.stall_seconds) / _LOOKS
        self._chunks = _Chunks()
        self._received = 0
        self._outside = 0
        self._stop: object | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to look; turn away who is one too many."""
        self._transport: Any = transport
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        if self._crowd.is_full(self._connections):
            self._inner, self._is_turned_away = TurnedAway(self._connections, self._crowd.refusal()), True
            if self._crowd.is_overrun(self._connections):
                self._transport.abort()
        self._inner.connection_made(transport)
        if self._crowd.is_ending and not self._is_turned_away:
            self._inner.give_way()
        self._look()

    def data_received(self, data: bytes) -> None:
        """Count what comes; cut who sends more than a head, or the rest of a body, without a request.

        What has very many lines is read piece by piece, so that it is cut before it has cost much.
        """
        size = _PIECE if data.count(b"\n") > _TINY else len(data)
        for start in range(0, len(data), size):
            if not self._transport.is_closing():
                self._take(data[start : start + size])

    def _take(self, data: bytes) -> None:
        before = self._inner.cycle
        self._received += len(data)
        self._inner.data_received(data)
        cycle = self._inner.cycle
        if cycle is not None and self._chunks.are_tiny(cycle, data):
            self._transport.abort()
        is_served = not (cycle is None or cycle.response_complete)
        if cycle is not before or is_served or self._is_turned_away:
            self._outside = 0
            return
        self._outside += len(data)
        if self._outside > (self._most if cycle is not None and cycle.more_body else SHORT):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End looking."""
        self._next_look.cancel()
        self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """Leave it to uvicorn."""
        answer: bool | None = self._inner.eof_received()
        return answer

    def pause_writing(self) -> None:
        """Take note that nothing more of an answer is taken until what there is has gone."""
        self._stop = object()
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Take note that it has gone."""
        self._stop = None
        self._inner.resume_writing()

    def _look(self) -> None:
        self._next_look: asyncio.TimerHandle = self._loop.call_later(self._pause, self._look)
        if self._is_to_be_cut():
            self._transport.abort()

    def _is_to_be_cut(self) -> bool:
        cycle, now = self._inner.cycle, self._loop.time()
        unsent = self._transport.get_write_buffer_size()
        is_over = cycle is None or cycle.response_complete or self._transport.is_closing()
        if unsent and (is_over or self._stop is not None):
            self._coming.end()
            return self._going.is_slow(self._stop or cycle, now, -unsent)
        self._going.end()
        if is_over:
            return self._coming.is_slow(cycle, now, self._received)
        self._coming.end()
        return False
