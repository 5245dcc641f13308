"""So many of something for all requests of a process: what one space gets of it, and who waits for more."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Lock

import anyio
from attrs import field

from statesync.classes import define
from statesync.hub.errors import Refused, busy


@define(eq=False)
class _Waiting:
    """A request that goes on when it has so many more."""

    space: str
    holder: str
    count: int
    has: int
    loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop)
    turn: asyncio.Event = field(factory=asyncio.Event)

    def is_of(self, who: tuple[str, str]) -> bool:
        """Tell whether it is one of those whose part of the whole ``who`` is."""
        return who in _parts_of(self.space, self.holder)

    def go_on(self) -> None:
        """Let it go on; from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self.turn.set)


@define(eq=False)
class Share:
    """So many of something: one space gets half of them, and one token half of that. From any thread.

    Without tokens nobody can tell the devices of a space apart.
    """

    most: int
    what: str
    patience: float = 0.0
    """Seconds that who waits for some waits at most."""
    _taken: dict[tuple[str, str], int] = field(factory=dict)
    """By space and token; all that a space has, and all that there is, have empty texts in their places."""
    _waiting: list[_Waiting] = field(factory=list)
    _lock: Lock = field(factory=Lock)

    def take(self, space: str, holder: str, count: int, has: int = 0) -> None:
        """Give a request of ``holder`` to ``space`` so many more; it ``has`` some already.

        Raises the 503 where there are not so many. What is too large for a share is given to who is alone:
        those who wait themselves do nothing, and keep nobody from it.
        """
        with self._lock:
            self._take(space, holder, count, has)

    async def wait(self, space: str, holder: str, count: int, has: int = 0) -> None:
        """Do what ``take`` does as soon as there are so many; raises the 503 if that takes too long.

        Those who wait go on in the order in which they came, but for who would have more than his share.
        """
        one = _Waiting(space, holder, count, has)
        with self._lock:
            self._waiting.append(one)
            self._go_round()
            if one not in self._waiting:
                return
        try:
            with anyio.fail_after(self.patience):
                await one.turn.wait()
        except BaseException as error:
            self._give_up(one)
            if isinstance(error, TimeoutError):
                message = f"the request has waited {self.patience:g} seconds for {self.what} that others have"
                raise busy(message) from error
            raise

    def give_back(self, space: str, holder: str, count: int) -> None:
        """Take back what a request of ``holder`` to ``space`` has no more need of."""
        with self._lock:
            self._give_back(space, holder, count)

    def _take(self, space: str, holder: str, count: int, has: int, waiting: _Waiting | None = None) -> None:
        half = -(-self.most // 2)
        quarter = -(-half // 2)
        if holder and self._is_over((space, holder), has, count, quarter, waiting):
            raise busy(f"the token has {quarter} {self.what}, which is its half of the space's")
        if self._is_over((space, ""), has, count, half, waiting):
            raise busy(f"the space has {half} {self.what}, which is its half of the hub's")
        if self._is_over(("", ""), has, count, self.most, waiting):
            raise busy(f"the hub has {self.most} {self.what}, which is its limit")
        self._add(space, holder, count)

    def _gets(self, one: _Waiting) -> bool:
        try:
            self._take(one.space, one.holder, one.count, one.has, one)
        except Refused:
            return False
        return True

    def _give_back(self, space: str, holder: str, count: int) -> None:
        self._add(space, holder, -count)
        self._go_round()

    def _go_round(self) -> None:
        """Let all go on who wait, and for whom there are so many now."""
        for one in [*self._waiting]:
            if self._gets(one):
                self._waiting.remove(one)
                one.go_on()

    def _give_up(self, one: _Waiting) -> None:
        with self._lock:
            if one in self._waiting:
                self._waiting.remove(one)
            else:  # it got them in the moment in which it gave up
                self._give_back(one.space, one.holder, one.count)

    def _is_over(
        self, who: tuple[str, str], has: int, count: int, most: int, waiting: _Waiting | None
    ) -> bool:
        others = self._taken.get(who, 0) - has
        if others <= 0 or others + has + count <= most:
            return False
        idle = sum(one.has for one in self._waiting if one is not waiting and one.is_of(who))
        return others > min(idle, most)  # else each could have more than the share while others wait

    def _add(self, space: str, holder: str, count: int) -> None:
        for who in _parts_of(space, holder):
            rest = self._taken.pop(who, 0) + count
            if rest:
                self._taken[who] = rest


def _parts_of(space: str, holder: str) -> set[tuple[str, str]]:
    """Return by what names those are counted that a request has."""
    return {("", ""), (space, ""), (space, holder)}
