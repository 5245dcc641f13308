"""The same question again on the same connection, which most of those who wait ask most of the time.

To read a head, route it, and answer by an application costs 0.3 ms, and each commit of a space makes all who
wait there ask again. So a head that was read once, and that comes again byte for byte but for the digits of
``since``, is not read again: what it means is known. Its sender waits without a task or a timer of its own,
and all get the same bytes. Whatever comes otherwise, or is not as usual, goes the usual way.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import h11
from attrs import field
from uvicorn.protocols.http.h11_impl import H11Protocol

from statesync.classes import define, frozen
from statesync.hub.access.rights import Right, Rights
from statesync.hub.errors import Refused
from statesync.hub.http.crowd import as_bytes
from statesync.hub.http.waiting.pauses import END
from statesync.hub.http.waiting.room import Room, unavailable
from statesync.hub.signals.waiters import Waiter
from statesync.wire import MAX_VERSION

ASKED = "statesync.asked"
"""Where a request's scope has the bytes of its head, if all came at once and nothing else did."""

KNOWN = "statesync.known"
"""Where it has what its head means, once that is known."""

_HEAD = re.compile(
    rb"(GET /v1/spaces/[A-Za-z0-9._-]{1,64}/changes\?since=)"
    rb"[0-9]{1,19}"
    rb"((?:&wait=[0-9.]{1,12})? HTTP/1\.1\r\n.*)",
    re.DOTALL,
)
_MOST_DIGITS = 19
_LONG_ENOUGH = 1.0
"""Seconds: who waits for less is served as anybody."""


@frozen(eq=False, repr=False)  # a token is in it
class Known:
    """What a head means that was read, and what is around its digits."""

    room: Room
    before: bytes
    after: bytes
    space: str
    token: str | None
    seconds: float
    scope: dict[str, Any] = field(init=False)
    """What uvicorn, and who watches the connection, find of a request that asks so."""

    @scope.default
    def _scope(self) -> dict[str, Any]:
        return {"headers": (), KNOWN: self}

    @classmethod
    def of(
        cls, room: Room, head: bytes | None, space: str, token: str | None, seconds: float
    ) -> Known | None:
        """Return it; None for a head that has to be read each time."""
        parts = None if head is None or seconds < _LONG_ENOUGH else _HEAD.fullmatch(head)
        if parts is None or b"expect" in parts[2].lower():
            return None
        return cls(room, parts[1], parts[2], space, token, seconds)

    def since(self, head: bytes) -> int | None:
        """Return what ``head`` asks for if it is the same one; None for any other."""
        before, after = self.before, self.after
        if not (head.startswith(before) and head.endswith(after)):
            return None
        digits = head[len(before) : len(head) - len(after)]
        if not digits.isdigit() or len(digits) > _MOST_DIGITS or int(digits) > MAX_VERSION:
            return None
        return int(digits)


class Asking(H11Protocol):
    """uvicorn's protocol for one connection, which knows a question that it has answered before.

    ``began`` is when its connection was made, by the monotonic clock: uvloop's own stands still within a
    turn, and of those that are accepted in one nobody would be the first.
    """

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self.began: float = time.monotonic()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take what comes; whoever waits is read no further."""
        cycle: Any = self.cycle
        if isinstance(cycle, Question) and not cycle.response_complete:
            cycle.more += data
            self.transport.pause_reading()
            return
        question = self._again(cycle, data)
        if question is None:
            self.read(data)
        else:
            self._unset_keepalive_if_required()
            ours: Any = self
            ours.cycle = question
            question.begin()

    def _again(self, cycle: Any, data: bytes) -> Question | None:
        known: Known | None = None if cycle is None else cycle.scope.get(KNOWN)
        since = None if known is None or not cycle.response_complete else known.since(data)
        if known is None or since is None or not self._is_at_rest():
            return None
        return Question(self, known, since, data)

    def _is_at_rest(self) -> bool:
        """Tell whether all that came was answered, and all that was answered has gone.

        What is the beginning of another head was not: whatever comes next belongs to that.
        """
        is_read = self.conn.our_state is h11.IDLE and self.conn.their_state is h11.IDLE and not self._rest()
        is_written = not (self.transport.get_write_buffer_size() or self.transport.is_closing())
        return is_read and is_written

    def read(self, data: bytes) -> None:
        """Read what comes, and keep a head that came in one piece, and with nothing else."""
        before, was_empty = self.cycle, not self._rest()
        super().data_received(data)
        is_whole = self.cycle is not before and self.conn.their_state is h11.DONE and not self._rest()
        if was_empty and is_whole and data.startswith(b"GET "):
            scope: Any = self.cycle.scope
            scope[ASKED] = data

    def _rest(self) -> bytes:
        rest, _ = self.conn.trailing_data
        return rest

    def say(self, answer: bytes, *, ends: bool) -> None:
        """Answer the question, and wait for the next request as after any other; or hang up."""
        self.transport.write(answer)
        self.server_state.total_requests += 1
        if ends:
            self.conn.send(h11.ConnectionClosed())
            self.transport.close()
            return
        ours: Any = self
        ours.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def shutdown(self) -> None:
        """Finish the request that is under way, and hang up."""
        cycle: Any = self.cycle
        super().shutdown()
        end = cycle.end_with_server if isinstance(cycle, Question) else cycle and cycle.scope.get(END)
        if end:
            end()


@define(eq=False, repr=False)  # a head is in it, and so may be a token
class Question:
    """One who waits. To uvicorn it is the cycle of a request, in which nothing goes on."""

    _protocol: Asking
    _known: Known
    _since: int
    _head: bytes
    response_complete: bool = False
    keep_alive: bool = True
    disconnected: bool = False
    more_body: bool = False
    more: bytes = b""
    """What has come after it, and is read after its answer."""
    _holder: str | None = None
    """Whose place it has, as long as it has one."""
    _waiter: Waiter | None = None
    _task: asyncio.Task[None] | None = None
    _is_overdue: bool = False
    _tick: int = 0

    @property
    def scope(self) -> dict[str, Any]:
        """What the head means."""
        return self._known.scope

    @property
    def message_event(self) -> Question:
        """What uvicorn sets when the connection is lost."""
        return self

    def set(self) -> None:
        """Wait no longer for a connection that is lost."""
        if self.disconnected:
            self._leave()

    def begin(self) -> None:
        """Begin to wait, once it is known who asks."""
        known = self._known
        if not known.room.hub.is_open:
            self._task = self._protocol.loop.create_task(self._ask())
            return
        try:
            rights = known.room.hub.admit(known.space, None, Right.READ)
        except Refused:
            self._go_the_usual_way()
        else:
            self._admit(rights)

    async def _ask(self) -> None:
        known = self._known
        try:
            rights = await known.room.hub.admit_at_once(known.space, known.token, Right.READ)
        except Refused:
            rights = None
        if not (self.disconnected or self.response_complete):
            self._admit(rights)

    def _admit(self, rights: Rights | None) -> None:
        """Let it wait; whoever cannot is told so the usual way, in words."""
        try:
            if rights is not None:
                self._enter(rights)
        except Refused:
            rights = None
        if rights is None:
            self._go_the_usual_way()

    def _enter(self, rights: Rights) -> None:
        known = self._known
        known.room.enter(known.space, rights.holder)
        self._holder = rights.holder
        self._waiter = waiter = Waiter(known.space, self._since, known.room.bell.ring, self._answer)
        self._tick = known.room.deadlines.add(self, known.seconds)
        known.room.hub.watch.add(waiter)

    def _go_the_usual_way(self) -> None:
        self._end()
        self._protocol.transport.resume_reading()
        self._protocol.read(self._head + self.more)

    def _answer(self) -> None:
        head = None if self._waiter is None else self._waiter.head
        if head is not None and self._end():
            lines = self._protocol.server_state.default_headers
            self._say(self._known.room.whole_answer(head, lines), ends=not self.keep_alive)

    def be_late(self) -> None:
        """Answer who has waited long enough with what was read; where nothing could be, wait for that."""
        room, waiter = self._known.room, self._waiter
        if waiter is None:
            return
        if room.hub.watch.hurry(waiter) is not None:
            self._answer()
        elif self._is_overdue:
            self._refuse(unavailable())
        else:
            self._is_overdue = True
            self._tick = room.deadlines.add(self, room.hub.patience)

    def end_with_server(self) -> None:
        """Tell who waits that the server ends, and when to come again."""
        self._refuse(self._known.room.ending())

    def _refuse(self, error: Refused) -> None:
        if self._end():
            self._say(as_bytes(error), ends=True)

    def _say(self, answer: bytes, *, ends: bool) -> None:
        self._protocol.say(answer, ends=ends)
        if self.more and not ends:
            self._protocol.transport.resume_reading()
            self._protocol.data_received(self.more)

    def _end(self) -> bool:
        """Wait no longer; return whether there is somebody to be answered."""
        is_over = self.response_complete or self.disconnected
        self.response_complete = True
        self._leave()
        return not is_over

    def _leave(self) -> None:
        room, waiter, self._waiter = self._known.room, self._waiter, None
        if waiter is not None:
            room.hub.watch.remove(waiter)
            room.deadlines.remove(self, self._tick)
        holder, self._holder = self._holder, None
        if holder is not None:
            room.leave(self._known.space, holder)
