"""The threads of a process that serves: how its event loop uses them, and where their memory is from.

AnyIO's own way into a thread lets the event loop go round twice before it begins, and takes twice as long. A
small request spends a tenth of its time on that.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar, cast

from attrs import field

from statesync.classes import define
from statesync.hub.errors import busy
from statesync.sqlite import forks

IDLE = 10.0
"""Seconds that a thread waits for work."""

_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""The numbers of the options in glibc's ``malloc.h``."""

_APART = 1 << 20
"""Bytes from which on a piece of memory is the system's again as soon as it is free."""

_Outcome = TypeVar("_Outcome")


@define(eq=False)
class _Job(Generic[_Outcome]):
    """What one coroutine waits for; as a context it keeps the error of its block."""

    work: Callable[[], _Outcome]
    loop: asyncio.AbstractEventLoop
    end: asyncio.Future[None]
    at_end: Callable[[], object]
    context: Context = field(factory=copy_context)
    outcome: _Outcome | None = None
    error: BaseException | None = None

    def run(self) -> None:
        """Do the work, unless nobody waits for it any more."""
        if not self.end.cancelled():
            with self:
                self.outcome = self.context.run(self.work)

    def tell(self) -> None:
        """Let whoever waits know that it is done."""
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._end)

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error  # it is raised where it is waited for
        return True

    def _end(self) -> None:
        self.at_end()
        if not self.end.done():
            self.end.set_result(None)


class Workers:
    """Threads for the work of event loops, ``most`` of them; whoever finds all at work waits in line.

    Who waits there for more than ``patience`` seconds is refused. A database that hangs keeps every thread
    for as long as it may, and those who wait would be kept for as long by each who is before them.

    They end when they have had nothing to do for a while, and keep no program from ending.
    """

    def __init__(self, most: int, patience: float) -> None:
        self._most, self._patience = most, patience
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Begin without threads, as a forked process does."""
        self._lock = threading.Lock()
        self._count = 0
        self._idle: list[SimpleQueue[_Job[object]]] = []
        """Where those look for a job that have none; the one that has been busy last is used first."""
        self._waiting: deque[_Job[object]] = deque()

    async def run(
        self, work: Callable[[], _Outcome], at_end: Callable[[], object] = lambda: None
    ) -> _Outcome:
        """Do ``work`` in a thread, and return what it returns, or raise what it raises.

        Raises the 503 if no thread is free in time, or none is to be had. Who is cancelled waits no longer:
        the work goes on, if it has begun, and nobody hears of its outcome. ``at_end`` is called in the event
        loop when no thread has to do with the work any more.
        """
        loop = asyncio.get_running_loop()
        job: _Job[_Outcome] = _Job(work, loop, loop.create_future(), at_end)
        await self._end_of(cast("_Job[object]", job))
        error, job.error = job.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # it knows this frame, which would know it
        return cast(_Outcome, job.outcome)

    async def _end_of(self, job: _Job[object]) -> None:
        """Let a job begin, and wait until it is done."""
        if self._begin(job):
            await job.end
            return
        giving_up = job.loop.call_later(self._patience, self._give_up, job)
        try:
            await job.end
        except asyncio.CancelledError:
            if self._takes_back(job):
                job.at_end()
            raise
        finally:
            giving_up.cancel()

    def _begin(self, job: _Job[object]) -> bool:
        """Give a job to a thread, or let it wait for one; tell which."""
        with self._lock:
            if self._idle or self._count == self._most:
                return self._hand_over(job)
            self._count += 1
        try:
            threading.Thread(target=self._serve, args=(job,), name="statesync-worker", daemon=True).start()
        except RuntimeError as error:  # the system has none left; those that there are go on
            with self._lock:
                self._count -= 1
                if self._count:
                    return self._hand_over(job)
            job.at_end()
            raise busy("the hub gets no thread") from error
        return True

    def _hand_over(self, job: _Job[object]) -> bool:
        """Give a job to a thread that is there, or let it wait for one; tell which. Called under the lock."""
        if self._idle:
            self._idle.pop().put(job)
            return True
        self._waiting.append(job)
        return False

    def _give_up(self, job: _Job[object]) -> None:
        """Refuse a job that still waits."""
        if self._takes_back(job):
            seconds = f"{self._patience:g} seconds"
            job.error = busy(f"the request has waited {seconds} while others kept all threads")
            job.tell()

    def _takes_back(self, job: _Job[object]) -> bool:
        """Let a job wait no more; return False for one that a thread has."""
        with self._lock:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
            return True

    def _serve(self, first: _Job[object]) -> None:
        inbox: SimpleQueue[_Job[object]] = SimpleQueue()
        job: _Job[object] | None = first
        while job is not None:
            job.run()
            following = self._free(inbox)
            job.tell()
            job = following  # nothing of it is held while there is no other
            if job is None:
                job = self._next(inbox)

    def _free(self, inbox: SimpleQueue[_Job[object]]) -> _Job[object] | None:
        """Take the next job that waits; be free for one that comes, before anybody hears of the last one."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(inbox)
            return None

    def _next(self, inbox: SimpleQueue[_Job[object]]) -> _Job[object] | None:
        with suppress(Empty):
            return inbox.get(timeout=IDLE)
        with self._lock:
            if inbox in self._idle:
                self._idle.remove(inbox)
                self._count -= 1
                return None
        return inbox.get()  # somebody took it at the last moment, and has a job for it


def spare_memory() -> None:
    """Let all threads have their memory from one place, where the system's library is glibc.

    Left to itself that gives each thread a place of its own, up to eight for each core, and what one thread
    has freed there no other one can use. So each thread of a hub kept as much as its largest request had
    taken. It also learns from each large piece to keep the next one that is as large: a hub kept its largest
    pages. Call it before threads are started.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # musl has none, and one place for all
            mallopt(_ARENA_MAX, 1)
            mallopt(_MMAP_THRESHOLD, _APART)
