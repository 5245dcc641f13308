"""Requests that wait: for something that others bring about, or for the end of their connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

import anyio
from attrs import field
from starlette.types import Receive

from statesync.classes import define

END = "statesync.end"
"""Where a request's scope has what ends its wait, because the server ends."""

_AT_ONCE = 100
"""Requests that go on before the event loop looks after others."""

_TICK = 0.25
"""Seconds by which those are told together who have waited long enough."""


@define(eq=False)
class Pause:
    """The wait of one request. It takes no task and no thread besides the request's own.

    A request that waits has read its body, so what it receives next is that its client hangs up.
    """

    is_ended: bool = False
    is_server_ending: bool = False
    _task: asyncio.Task[Any] | None = None

    async def over(self, receive: Receive) -> bool:
        """Wait until somebody ends it; return False if the client hangs up before that."""
        if not self.is_ended:
            self._task = asyncio.current_task()
            try:
                await _hung_up(receive)
            except asyncio.CancelledError:
                if not self._was_cancelled_by_its_end():
                    raise
            finally:
                self._task = None
        return self.is_ended

    def _was_cancelled_by_its_end(self) -> bool:
        """Tell whether nobody else has cancelled the request, such as its server."""
        return self.is_ended and self._task is not None and self._task.uncancel() == 0

    def end(self) -> None:
        """End it, in its event loop."""
        if self.is_ended:
            return
        self.is_ended = True
        if self._task is not None:
            self._task.cancel()

    def end_with_server(self) -> None:
        """End it because the server ends, in its event loop."""
        self.is_server_ending = True
        self.end()


@define(eq=False)
class Bell:
    """Calls what wakes those who wait in one event loop, some at a time."""

    loop: asyncio.AbstractEventLoop

    def ring(self, wakes: Iterable[Callable[[], object]]) -> None:
        """Call them soon. From any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._wake, deque(wakes))

    def _wake(self, wakes: deque[Callable[[], object]]) -> None:
        for _ in range(min(_AT_ONCE, len(wakes))):
            wakes.popleft()()
        if wakes:
            self.loop.call_soon(self._wake, wakes)


class Late(Protocol):
    """One who waits, and is to be told when that was long enough."""

    def be_late(self) -> None:
        """Have waited long enough."""


@define(eq=False)
class Deadlines:
    """When those who wait in one event loop have waited long enough: one timer for all, and ``bell``."""

    bell: Bell
    _by_tick: dict[int, set[Late]] = field(factory=dict)
    _timer: asyncio.TimerHandle | None = None
    _looks_at: int = 0

    def add(self, late: Late, seconds: float) -> int:
        """Tell it in so many seconds, or a quarter later; return what ``remove`` needs."""
        tick = int((self.bell.loop.time() + seconds) / _TICK) + 1
        self._by_tick.setdefault(tick, set()).add(late)
        if self._timer is None or tick < self._looks_at:
            self._look_at(tick)
        return tick

    def remove(self, late: Late, tick: int) -> None:
        """Do not tell it."""
        some = self._by_tick.get(tick)
        if some is not None:
            some.discard(late)

    def _look_at(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = tick
        self._timer = self.bell.loop.call_at(tick * _TICK, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self.bell.loop.time() + _TICK / 2  # a loop's clock may be behind its timers
        late = [
            one
            for tick in [each for each in self._by_tick if each * _TICK <= now]
            for one in self._by_tick.pop(tick)
        ]
        if late:
            self.bell.ring([one.be_late for one in late])
        if self._by_tick:
            self._look_at(min(self._by_tick))


async def comes_in_time(turn: Awaitable[object], receive: Receive) -> bool:
    """Wait for ``turn``; return False, and wait no longer, if the client of a request hangs up before that.

    So nothing is done for nobody, and who asks again after a time-out does not stand behind himself. The
    request's body has to be read.
    """
    with anyio.CancelScope() as scope:

        def give_up(gone: asyncio.Future[None]) -> None:
            if not gone.cancelled():
                scope.cancel()

        gone = asyncio.ensure_future(_hung_up(receive))
        gone.add_done_callback(give_up)
        try:
            await turn
        finally:
            gone.cancel()
    return not scope.cancelled_caught


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
