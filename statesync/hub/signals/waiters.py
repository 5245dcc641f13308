"""Those who wait for a space's head to move. A waiter is a few fields: no thread, and no connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from attrs import field

from statesync.classes import define


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
class _Space:
    """Those who wait in one space. A head is read for those who were there before that alone."""

    known: set[Waiter] = field(factory=set)
    """Those who know ``head``, and wait for another one."""
    head: Head | None = None
    asked: set[Waiter] = field(factory=set)
    """Those for whom it is read now."""
    fresh: set[Waiter] = field(factory=set)
    """Those who have come since."""

    def note(self, head: Head) -> list[Waiter]:
        """Take the head that was read; return those who are told, and wait no more.

        Those who know it already are not looked at: as many may wait as come.
        """
        looked_at = self.asked if head == self.head else self.known | self.asked
        told = [each for each in looked_at if head.head != each.since or each.is_hurried]
        for waiter in looked_at:
            waiter.head = head
        self.head = head
        self.known |= self.asked
        self.known.difference_update(told)
        self.asked = set()
        return told

    def discard(self, waiter: Waiter) -> bool:
        """Take one out; return whether nobody is left."""
        for some in (self.known, self.asked, self.fresh):
            some.discard(waiter)
        return not (self.known or self.asked or self.fresh)


@define(eq=False)
class Waiters:
    """All that wait in one process, and the spaces of theirs that may have moved. From any thread."""

    _by_space: dict[str, _Space] = field(factory=dict)
    _doubted: set[str] = field(factory=set)
    _is_all_doubted: bool = False
    _lock: threading.Lock = field(factory=threading.Lock)

    def __len__(self) -> int:
        """Return in how many spaces somebody waits."""
        return len(self._by_space)

    def add(self, waiter: Waiter) -> None:
        """Let it wait. Its space is in doubt: the head is read after this, so no move is missed."""
        with self._lock:
            space = self._by_space.get(waiter.space)
            if space is None:
                space = self._by_space[waiter.space] = _Space()
            space.fresh.add(waiter)
            self._doubted.add(waiter.space)

    def remove(self, waiter: Waiter) -> None:
        """Let it wait no more."""
        with self._lock:
            space = self._by_space.get(waiter.space)
            if space is not None and space.discard(waiter):
                del self._by_space[waiter.space]

    def count(self, space: str) -> int:
        """Return how many wait in a space, whose head was read for them."""
        with self._lock:
            found = self._by_space.get(space)
            return 0 if found is None else len(found.known)

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
        """Return the spaces that may have moved, and doubt them no more; their heads are read after this.

        Without ``all_of_them`` those that were named alone, where any may have moved.
        """
        with self._lock:
            doubted, self._doubted = self._doubted & self._by_space.keys(), set()
            if self._is_all_doubted and all_of_them:
                self._is_all_doubted = False
                doubted = set(self._by_space)
            for name in doubted:
                space = self._by_space[name]
                space.asked |= space.fresh
                space.fresh = set()
            return doubted

    def take_all(self) -> list[Waiter]:
        """Return all, of whom none waits any more."""
        with self._lock:
            spaces = list(self._by_space.values())
            self._by_space.clear()
            return [waiter for each in spaces for waiter in each.known | each.asked | each.fresh]

    def note(self, spaces: Iterable[str], heads: Mapping[str, Head]) -> None:
        """Take the heads of ``spaces`` that were read, and let those be told who wait for what they say."""
        told: list[Waiter] = []
        with self._lock:
            for name in spaces:
                space = self._by_space.get(name)
                if space is not None:
                    told += space.note(heads.get(name, NOWHERE))
                    if not (space.known or space.fresh):
                        del self._by_space[name]
        ring(told)


def ring(waiters: Iterable[Waiter]) -> None:
    """Let all of them know, those together that have the same bell."""
    by_bell: dict[Ring, list[Wake]] = {}
    for waiter in waiters:
        by_bell.setdefault(waiter.ring, []).append(waiter.wake)
    for bell, wakes in by_bell.items():
        bell(wakes)
