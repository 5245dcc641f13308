"""Who is let in, and how much is held for whom: what the requests of one process share.

A request has nothing before its token is known and its body is here. Then it has a place until its answer is
sent; the bytes of its body, of its page while that is made, and of its answer count for as long as they are
here. No space gets more than half of either, and no token more than half of its space's, so none keeps the
others out. The requests of a space
stand in lines, in which its tokens take turns, and all surveys in one more. Nobody waits for a thread without
end.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from threading import Lock
from types import TracebackType
from weakref import WeakValueDictionary

import anyio
from attrs import field

from statesync.classes import define
from statesync.hub.access.rights import Rights
from statesync.hub.errors import Refused, busy
from statesync.hub.http.pace import Pace
from statesync.hub.http.shares import Share
from statesync.hub.limits import HubLimits

_NO_RIGHTS = Rights({})

MADE = 4
"""Times the bytes of the records for it that a page, or an answer, may have in memory while it is made: what
the database's driver gives, the texts, and the JSON with what it is packed into."""


@define(eq=False)
class Line:
    """Requests of one kind: so many ``at_once``, the others behind them.

    Tokens take turns. The requests of one follow in the order in which they came, and no more than ``most``
    of them wait. ``who`` has them: a space, or the hub. Waiting requests hold no thread and no connection,
    which others need.
    """

    most: int
    patience: float
    who: str
    what: str
    at_once: int = 1
    by_token: bool = True
    """Whether tokens are told apart."""
    _taken: int = 0
    _waiting: OrderedDict[str, deque[anyio.Event]] = field(factory=OrderedDict)
    """By token, the next one first; none is here without a request that waits."""
    _lock: Lock = field(factory=Lock)

    def enter_at_once(self) -> bool:
        """Take a turn if there is one; may be called from any thread."""
        with self._lock:
            return self._take()

    async def wait(self, holder: str = "") -> None:
        """Take a turn when it comes; raise the 503 if too many wait already, or if it takes too long."""
        turn, holder = anyio.Event(), holder if self.by_token else ""
        self._join(holder, turn)
        try:
            with anyio.fail_after(self.patience):
                await turn.wait()
        except BaseException as error:
            self._step_out(holder, turn)
            if isinstance(error, TimeoutError):
                message = f"the request has waited {self.patience:g} seconds for the {self.what} before it"
                raise busy(message) from error
            raise

    def leave(self) -> None:
        """Give the turn to the next one."""
        with self._lock:
            if not self._waiting:
                self._taken -= 1
                return
            holder, turns = self._waiting.popitem(last=False)
            turns.popleft().set()
            if turns:
                self._waiting[holder] = turns

    def _take(self) -> bool:
        is_free = self._taken < self.at_once
        self._taken += is_free
        return is_free

    def _join(self, holder: str, turn: anyio.Event) -> None:
        with self._lock:
            if self._take():
                turn.set()
                return
            turns = self._waiting.get(holder, deque())
            if len(turns) >= self.most:
                waiting = f"{self.most} {self.what} that wait for their turn"
                raise busy(f"{self.who} has {waiting}, which is the limit")
            turns.append(turn)
            self._waiting[holder] = turns

    def _step_out(self, holder: str, turn: anyio.Event) -> None:
        with self._lock:
            turns = self._waiting.get(holder, deque())
            if turn in turns:
                turns.remove(turn)
                if not turns:
                    del self._waiting[holder]
                return
        self.leave()  # its turn came in the moment in which it gave up


class Door:
    """Lets requests in, one after the other or many beside each other, by a hub's limits."""

    def __init__(self, limits: HubLimits, patience: float, threads: int = 1, pushes: int = 1) -> None:
        self.limits: HubLimits = limits
        self.pace: Pace = Pace(limits)
        self._patience = patience
        self._pulls, self._pushes = max(1, threads // 2), min(pushes, limits.line + 1)
        seconds = patience + limits.survey_seconds
        self._surveys = Line(limits.line, seconds, "the hub", "surveys", by_token=False)
        self._places = Share(limits.under_way, "requests under way")
        self._bytes = Share(limits.held, "bytes of requests and answers", patience)
        self._lines: WeakValueDictionary[tuple[str, str], Line] = WeakValueDictionary()

    def visit(self, space: str, lines: tuple[Line, ...] = ()) -> Visit:
        """Follow one request to ``space``: a context at whose end it has nothing left."""
        return Visit(space, self._places, self._bytes, lines)

    def push_lines(self, space: str) -> tuple[Line, ...]:
        """Return where a push to ``space`` stands in line: behind those of its space that are worked on.

        That is one, or several where pushes share a commit.
        """
        return (self._line_of(space, "pushes", self._patience, at_once=self._pushes),)

    def pull_lines(self, space: str) -> tuple[Line, ...]:
        """Return where a pull of ``space`` stands in line: behind those of its space.

        They have half of the threads, so that others find one. No more wait than there are places.
        """
        return (self._line_of(space, "pulls", self._patience, self.limits.under_way, self._pulls),)

    def survey_lines(self, space: str) -> tuple[Line, ...]:
        """Return where a survey of ``space`` stands in line: behind those of its space, then with all others.

        So the hub works on one at a time, and the spaces take turns.
        """
        return self._line_of(space, "surveys", self._surveys.patience), self._surveys

    def large_lines(self, space: str) -> tuple[Line, ...]:
        """Return where a large request to ``space`` stands in line, besides: one of a space is worked on."""
        return (self._line_of(space, "large requests", self._patience),)

    def _line_of(self, space: str, what: str, patience: float, most: int = 0, at_once: int = 1) -> Line:
        line = self._lines.get((what, space))
        if line is None:
            line = Line(most or self.limits.line, patience, "the space", what, at_once)
            self._lines[what, space] = line
        return line


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
    is_known: bool = False
    """Whether its token is known."""
    _is_in: bool = False
    """Whether it has a place."""
    _turns: int = 0
    """In how many of its lines its turn has come."""
    _content: int = 0
    """Bytes that are held of its body, or of its answer."""
    _making: int = 0
    """Bytes that may be held besides, while its page is made."""
    _wanted: tuple[int, int] | None = None
    """What it waits for: bytes of its body, and of what is made."""
    _is_worked_on: bool = False
    """Whether a thread works for it."""
    _is_over: bool = False

    def introduce(self, rights: Rights) -> None:
        """Say what the request's token allows."""
        self.rights, self.is_known = rights, True

    def let_in(self) -> None:
        """Give it a place, if it has none; raises the 503 if there is none left. From any thread."""
        if not self._is_in:
            self._places.take(self.space, self.rights.holder, 1)
            self._is_in = True

    def stand_in(self, lines: tuple[Line, ...]) -> None:
        """Let it stand in more lines, behind those in which it stands already."""
        self._lines += lines

    def step_up(self) -> bool:
        """Take the turn in every line; return False if one has yet to come. From any thread."""
        while self._turns < len(self._lines):
            if not self._lines[self._turns].enter_at_once():
                return False
            self._turns += 1
        return True

    async def wait_for_turn(self) -> None:
        """Wait for memory, if it lacks some, and in the lines that are left.

        Raises the 503 if one is long, or takes long. Who waits for memory lets others have their turns.
        """
        if self._wanted is not None:
            self.end_turn()
            await self._wait_for_memory()
        while self._turns < len(self._lines):
            await self._lines[self._turns].wait(self.rights.holder)
            self._turns += 1

    async def _wait_for_memory(self) -> None:
        if self._wanted is not None:
            (content, making), held = self._wanted, self._held
            await self._bytes.wait(self.space, self.rights.holder, content + making - held, held)
            self._content, self._making, self._wanted = content, making, None

    def end_turn(self) -> None:
        """Let the next ones of the lines go on."""
        while self._turns:
            self._turns -= 1
            self._lines[self._turns].leave()

    async def hold(self, size: int) -> None:
        """Hold so many bytes of its body from now on, in place of those until now.

        Waits for room; raises the 503 if that takes long.
        """
        if not self.has_room(size):
            await self._wait_for_memory()

    def has_room(self, size: int) -> bool:
        """Hold so many bytes of its body, and tell whether there is room; if not, it is to wait for that.

        From any thread.
        """
        return self._sets(size, self._making)

    def make(self, size: int, /) -> bool:
        """Let a page of ``size`` bytes of records be made, and tell whether there is room for one.

        It waits only for a page that may not even be begun: of the others it is known how far they go. From
        any thread.
        """
        has_begun = self._making > 0
        if self.look_at(size):
            return True
        self._wanted = None if has_begun else self._wanted
        return False

    def look_at(self, size: int, /) -> bool:
        """Let ``size`` bytes of stored records be read, and tell whether there is room; if not, it is to wait
        for that.

        From any thread.
        """
        return self._sets(self._content, max(MADE * size, self._making))

    def finish(self, size: int) -> None:
        """Hold so many bytes of its answer, and nothing else any more; raises the 503 if there is no room."""
        self._set(size, 0)

    def _sets(self, content: int, making: int) -> bool:
        """Hold so many bytes, and tell whether there is room for them; if not, they are wanted."""
        try:
            self._set(content, making)
        except Refused:
            self._wanted = content, making
            return False
        self._wanted = None
        return True

    @property
    def _held(self) -> int:
        return self._content + self._making

    def _set(self, content: int, making: int) -> None:
        more = content + making - self._held
        if more > 0:
            self._bytes.take(self.space, self.rights.holder, more, self._held)
        elif more < 0:
            self._bytes.give_back(self.space, self.rights.holder, -more)
        self._content, self._making = content, making

    def begin_work(self) -> None:
        """Let a thread work for it: what it has then is held until that has ended, whoever waits for it."""
        self._is_worked_on = True

    def end_work(self) -> None:
        """Take note that the thread has ended its work."""
        self._is_worked_on = False
        if self._is_over:
            self._leave()

    def __enter__(self) -> Visit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        if not self._is_worked_on:
            self._leave()

    def _leave(self) -> None:
        self.end_turn()
        self.finish(0)
        if self._is_in:
            self._places.give_back(self.space, self.rights.holder, 1)
