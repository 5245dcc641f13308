"""Those who wait for a space's head to move. A waiter is a few fields: no thread, and no connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from attrs import define, field


class Head(NamedTuple):
    """How far a space has come; without an epoch where there is no such space yet."""

    epoch: str | None
    head: int


NOWHERE = Head(None, 0)
"""The head of a space that there is not."""

Wake = Callable[[], object]
Ring = Callable[[list[Wake]], object]
"""Gets what wakes those who have an answer in the same moment, in any thread; it returns at once."""


@define(eq=False)
class Waiter:
    """One who wants to be told when the head of ``space`` is another one than ``since``.

    Then ``ring`` gets its ``wake``. ``head`` is what was read since this one waits.
    """

    space: str
    since: int
    ring: Ring
    wake: Wake
    head: Head | None = None
    is_hurried: bool = False
    """Whether it takes the next head that is read, whatever that is."""


@define(eq=False)
class Waiters:
    """All that wait in one process, and the spaces of theirs that may have moved. From any thread."""

    _by_space: dict[str, set[Waiter]] = field(factory=dict)
    _doubted: set[str] = field(factory=set)
    _is_all_doubted: bool = False
    _lock: threading.Lock = field(factory=threading.Lock)

    def __len__(self) -> int:
        """Return in how many spaces somebody waits."""
        return len(self._by_space)

    def add(self, waiter: Waiter) -> None:
        """Let it wait. Its space is in doubt: the head is read after this, so no move is missed."""
        with self._lock:
            self._by_space.setdefault(waiter.space, set()).add(waiter)
            self._doubted.add(waiter.space)

    def remove(self, waiter: Waiter) -> None:
        """Let it wait no more."""
        with self._lock:
            self._remove(waiter)

    def count(self, space: str) -> int:
        """Return how many wait in a space, whose head was read for them."""
        with self._lock:
            return sum(waiter.head is not None for waiter in self._by_space.get(space, ()))

    def hurry(self, waiter: Waiter) -> Head | None:
        """Return the head that was read for it; None if there was none yet: then it is told the next one."""
        with self._lock:
            if waiter.head is None:
                waiter.is_hurried = True
            return waiter.head

    def doubt(self, space: str) -> bool:
        """Say that a space may have moved; return whether anybody waits there."""
        with self._lock:
            is_watched = space in self._by_space
            if is_watched:
                self._doubted.add(space)
            return is_watched

    def doubt_all(self) -> None:
        """Say that any space may have moved."""
        with self._lock:
            self._is_all_doubted = True

    def is_all_doubted(self) -> bool:
        """Tell whether any space may have moved."""
        return self._is_all_doubted

    def take_doubted(self, *, all_of_them: bool) -> Collection[str]:
        """Return the spaces that may have moved, and doubt them no more.

        Without ``all_of_them`` those that were named alone, where any may have moved.
        """
        with self._lock:
            doubted, self._doubted = self._doubted & self._by_space.keys(), set()
            if self._is_all_doubted and all_of_them:
                self._is_all_doubted = False
                doubted = set(self._by_space)
            return doubted

    def take_all(self) -> list[Waiter]:
        """Return all, of whom none waits any more."""
        with self._lock:
            every = [waiter for some in self._by_space.values() for waiter in some]
            self._by_space.clear()
            return every

    def note(self, spaces: Iterable[str], heads: Mapping[str, Head]) -> None:
        """Take the heads of ``spaces`` that were read, and let those be told who wait for what they say."""
        told: list[Waiter] = []
        with self._lock:
            for space in spaces:
                head = heads.get(space, NOWHERE)
                for waiter in self._by_space.get(space, ()):
                    waiter.head = head
                    if head.head != waiter.since or waiter.is_hurried:
                        told.append(waiter)
            for waiter in told:
                self._remove(waiter)
        ring(told)

    def _remove(self, waiter: Waiter) -> None:
        others = self._by_space.get(waiter.space)
        if others is not None:
            others.discard(waiter)
            if not others:
                del self._by_space[waiter.space]


def ring(waiters: Iterable[Waiter]) -> None:
    """Let all of them know, those together that have the same bell."""
    by_bell: dict[Ring, list[Wake]] = {}
    for waiter in waiters:
        by_bell.setdefault(waiter.ring, []).append(waiter.wake)
    for bell, wakes in by_bell.items():
        bell(wakes)
