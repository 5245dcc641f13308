"""Who is let in, and how much is held for whom: what the requests of one process share.

A request has nothing before its token is known. Then it has a place until its answer is sent, and the bytes
of its body and of its answer count for as long as they are here. No space gets more than half of either, so
none keeps the others out. The pushes of a space stand in a line, and so do all surveys.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from types import TracebackType
from weakref import WeakValueDictionary

import anyio
from attrs import define, field

from statesync.hub.access.rights import Rights
from statesync.hub.errors import busy
from statesync.hub.http.pace import Pace
from statesync.hub.limits import HubLimits

_NO_RIGHTS = Rights({})


@define(eq=False)
class Share:
    """So many of something, of which one space gets half. May be used from any thread."""

    most: int
    what: str
    _taken: dict[str, int] = field(factory=dict)
    _total: int = 0
    _lock: Lock = field(factory=Lock)

    def take(self, space: str, count: int, has: int = 0) -> None:
        """Give a request of ``space`` so many more; it ``has`` some already.

        Raises the 503 where there are not so many. What is too large for a share is given to who is alone.
        """
        half = -(-self.most // 2)
        with self._lock:
            taken = self._taken.get(space, 0)
            beside, of_space = self._total - has, taken - has
            if of_space and of_space + has + count > half:
                raise busy(f"the space has {half} {self.what}, which is its half of the hub's")
            if beside and beside + has + count > self.most:
                raise busy(f"the hub has {self.most} {self.what}, which is its limit")
            self._taken[space] = taken + count
            self._total += count

    def give_back(self, space: str, count: int) -> None:
        """Take back what a request of ``space`` has no more need of."""
        with self._lock:
            self._total -= count
            rest = self._taken.pop(space, 0) - count
            if rest:
                self._taken[space] = rest


@define(eq=False)
class Line:
    """Requests of one kind: so many (``width``) at a time, the others behind them in their order.

    ``who`` has them: a space, or the hub. Waiting requests hold no thread and no connection, which others
    need.
    """

    most: int
    patience: float
    who: str
    what: str
    width: int = 1
    _taken: int = 0
    _waiting: deque[anyio.Event] = field(factory=deque)
    _lock: Lock = field(factory=Lock)

    def enter_at_once(self) -> bool:
        """Take a turn if there is one; may be called from any thread."""
        with self._lock:
            is_free = self._taken < self.width
            self._taken += is_free
        return is_free

    async def wait(self) -> None:
        """Take the turn when it comes; raise the 503 if too many wait already, or if it takes too long."""
        turn = anyio.Event()
        self._join(turn)
        try:
            with anyio.fail_after(self.patience):
                await turn.wait()
        except BaseException as error:
            self._step_out(turn)
            if isinstance(error, TimeoutError):
                message = f"the request has waited {self.patience:g} seconds for the {self.what} before it"
                raise busy(message) from error
            raise

    def leave(self) -> None:
        """Give the turn to the next one."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken -= 1

    def _join(self, turn: anyio.Event) -> None:
        with self._lock:
            if self._taken < self.width:
                self._taken += 1
                turn.set()
            elif self._taken + len(self._waiting) <= self.most:
                self._waiting.append(turn)
            else:
                waiting = f"{self.most} {self.what} that wait for their turn"
                raise busy(f"{self.who} has {waiting}, which is the limit")

    def _step_out(self, turn: anyio.Event) -> None:
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        self.leave()  # its turn came in the moment in which it gave up


class Door:
    """Lets requests in, one after the other or many beside each other, by a hub's limits."""

    def __init__(self, limits: HubLimits, patience: float, pushes: int = 1) -> None:
        self.limits: HubLimits = limits
        self.pace: Pace = Pace(limits)
        self._patience, self._pushes = patience, min(pushes, limits.line + 1)
        self._surveys = self._new_line("the hub", "surveys", patience + limits.survey_seconds)
        self._places = Share(limits.under_way, "requests under way")
        self._bytes = Share(limits.held, "bytes of requests and answers")
        self._lines: WeakValueDictionary[tuple[str, str], Line] = WeakValueDictionary()

    def visit(self, space: str, lines: tuple[Line, ...] = ()) -> Visit:
        """Follow one request to ``space``: a context at whose end it has nothing left."""
        return Visit(space, self._places, self._bytes, lines)

    def push_lines(self, space: str) -> tuple[Line, ...]:
        """Return where a push to ``space`` stands in line: behind those of its space that are worked on.

        That is one, or several where pushes share a commit.
        """
        return (self._line_of(space, "pushes", self._patience, self._pushes),)

    def survey_lines(self, space: str) -> tuple[Line, ...]:
        """Return where a survey of ``space`` stands in line: behind those of its space, then with all others.

        So the hub works on one at a time, and the spaces take turns.
        """
        return self._line_of(space, "surveys", self._surveys.patience), self._surveys

    def no_lines(self, _space: str) -> tuple[Line, ...]:
        """Return that a request waits for no other."""
        return ()

    def _line_of(self, space: str, what: str, patience: float, width: int = 1) -> Line:
        return self._lines.setdefault((what, space), self._new_line("the space", what, patience, width))

    def _new_line(self, who: str, what: str, patience: float, width: int = 1) -> Line:
        return Line(self.limits.line, patience, who, what, width)


@define(eq=False)
class Visit:
    """One request, and what it has: nothing before it is let in."""

    space: str
    _places: Share
    _bytes: Share
    _lines: tuple[Line, ...]
    """Where it stands in line, one after the other."""
    rights: Rights = _NO_RIGHTS
    """What the request's token allows, once that is known."""
    is_in: bool = False
    """Whether its token is known and it has a place."""
    _turns: int = 0
    """In how many of its lines its turn has come."""
    _held: int = 0

    def let_in(self, rights: Rights) -> None:
        """Give it a place; raises the 503 if there is none. From any thread."""
        self._places.take(self.space, 1)
        self.rights, self.is_in = rights, True

    def step_up(self) -> bool:
        """Take the turn in every line; return False if one has yet to come. From any thread."""
        while self._turns < len(self._lines):
            if not self._lines[self._turns].enter_at_once():
                return False
            self._turns += 1
        return True

    async def wait_for_turn(self) -> None:
        """Wait in the lines that are left; raises the 503 if one is long, or takes long."""
        while self._turns < len(self._lines):
            await self._lines[self._turns].wait()
            self._turns += 1

    def end_turn(self) -> None:
        """Let the next ones of the lines go on."""
        while self._turns:
            self._turns -= 1
            self._lines[self._turns].leave()

    def hold(self, size: int) -> None:
        """Hold so many bytes from now on, in place of those until now; raises the 503 if there is no room.

        From any thread.
        """
        if size > self._held:
            self._bytes.take(self.space, size - self._held, self._held)
        elif size < self._held:
            self._bytes.give_back(self.space, self._held - size)
        self._held = size

    def __enter__(self) -> Visit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_turn()
        self.hold(0)
        if self.is_in:
            self._places.give_back(self.space, 1)
