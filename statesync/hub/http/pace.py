"""How long a body may take to come, and an answer to go: who is too slow is not waited for any longer.

A timer for every request costs a tenth of a small one. So there is one for all, which looks now and then.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from statesync.classes import define
from statesync.hub.limits import HubLimits

_LOOKS = 8
"""Looks in the time that a body or an answer may take in any case."""

_LONGEST = 600.0
"""Seconds after which a device has given up, by ``HttpRemote``'s own ``request_timeout``."""


class Pace:
    """The waits of the requests of one process, and the one timer for all of them. It needs asyncio."""

    def __init__(self, limits: HubLimits) -> None:
        self._limits = limits
        self._waits: set[Wait] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(self) -> Wait:
        """Return what follows the bytes of one body or one answer."""
        return Wait(self)

    def begin(self, wait: Wait) -> None:
        """Look at ``wait`` from now on."""
        loop = asyncio.get_running_loop()
        wait.began = loop.time()
        self._waits.add(wait)
        if self._loop is not loop:
            self._loop = loop
            self._look_later(loop)

    def end(self, wait: Wait) -> None:
        """Look at ``wait`` no more."""
        self._waits.discard(wait)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(self._limits.stall_seconds / _LOOKS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for wait in [one for one in self._waits if now - one.began > self._seconds_for(one.passed)]:
            self._waits.discard(wait)
            wait.give_up()
        if self._waits:
            self._look_later(loop)
        else:
            self._loop = None

    def _seconds_for(self, count: int) -> float:
        return min(self._limits.stall_seconds + count / self._limits.pace, _LONGEST)


@define(eq=False)
class Wait:
    """One body that comes, or one answer that goes; as a context it ends when it is too slow.

    What is awaited in it is cancelled then, and ``is_over`` is set.
    """

    _pace: Pace
    passed: int = 0
    """Bytes that have passed; whoever waits for them counts."""
    began: float = 0.0
    is_over: bool = False
    _task: asyncio.Task[object] | None = None

    def __enter__(self) -> Wait:
        self._task = asyncio.current_task()
        self._pace.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._pace.end(self)
        if not self.is_over or self._task is None:
            return False
        is_ours = self._task.uncancel() == 0
        return is_ours and kind is asyncio.CancelledError

    def give_up(self) -> None:
        """Cancel what is awaited."""
        self.is_over = True
        if self._task is not None:
            self._task.cancel()
