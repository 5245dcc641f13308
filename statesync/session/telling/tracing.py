"""Who is told the steps of every session of the process, besides its own callbacks. Mostly nobody.

A tracer gets each session when it is made, in the thread that starts it, and returns what is told its steps,
in the session's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from statesync.classes import frozen
from statesync.values import Progress


@frozen
class Traced:
    """A session, as far as a tracer knows it."""

    id: str
    space: str
    objects: tuple[str, ...]


OnStep = Callable[[Progress], object]
Tracer = Callable[[Traced], OnStep]


class Tracers:
    """The tracers of a process."""

    def __init__(self) -> None:
        self._all: tuple[Tracer, ...] = ()

    def add(self, tracer: Tracer) -> None:
        """Let a tracer know each session that is made from now on."""
        self._all = (*self._all, tracer)

    def remove(self, tracer: Tracer) -> None:
        """Let it know no more of them."""
        self._all = tuple(each for each in self._all if each is not tracer)

    def begin(self, session: Traced) -> tuple[OnStep, ...]:
        """Return who is told the steps of a session."""
        return tuple(tracer(session) for tracer in self._all)


tracers: Tracers = Tracers()
"""Those of this process."""


@contextmanager
def each_step(tell: OnStep) -> Generator[None]:
    """Let ``tell`` hear each step of the sessions that this thread starts in the block.

    It is for what has to be there at a certain step: ``on_progress`` hears ten a second.
    """
    here = threading.get_ident()

    def trace(_session: Traced) -> OnStep:
        return tell if threading.get_ident() == here else _ignore

    tracers.add(trace)
    try:
        yield
    finally:
        tracers.remove(trace)


def _ignore(_step: Progress) -> None:
    """Hear nothing."""
