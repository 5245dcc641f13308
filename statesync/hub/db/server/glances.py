"""Reading from PostgreSQL without a thread: single statements of many requests, on one connection.

A thread that asks and waits costs several times as much as the question. So the event loop asks by itself:
each statement is sent when its request comes, and the answers come in the same order. Whatever is not as it
should be ends the connection, and is left to a thread, which waits, tries again and says it in words.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from attrs import field
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

from statesync.classes import define

_Connection = psycopg.Connection[tuple[Any, ...]]
_Rows = list[tuple[Any, ...]] | None

_LONGEST = 2.0
"""Seconds without any answer after which a server is not waited for."""

_PAUSE = 0.2
"""Seconds from one attempt to connect to the next."""

_MOST = 512
"""Results that a connection may owe before another statement takes a thread; a statement has two of them."""

_WHOLE_NUMBERS = frozenset({20, 21, 23})
_BOOLEAN = 16
"""The types of columns, as PostgreSQL numbers them; others are read as texts."""


@define(eq=False)
class Glances:
    """One connection for the event loop of a process.

    ``connect`` opens it, in a thread. ``count_doubts`` counts the times that all connections were doubted.
    """

    connect: Callable[[], _Connection]
    count_doubts: Callable[[], int]
    _wire: _Wire | None = None
    _is_opening: bool = False
    _not_before: float = 0.0
    _closings: int = 0

    async def ask(self, sql: str, parameters: Sequence[str]) -> _Rows:
        """Return the rows of one statement, whose parameters are ``$1`` and on; None if a thread has to."""
        loop = asyncio.get_running_loop()
        wire = self._wire
        if wire is None or wire.loop is not loop or wire.is_closed or wire.doubts != self.count_doubts():
            self._renew(loop)
            return None
        return await wire.ask(sql, parameters)

    def close(self) -> None:
        """Close the connection, from any thread; the next question opens another."""
        wire, self._wire = self._wire, None
        self._closings += 1
        if wire is None:
            return
        if wire.loop.is_running() and not _is_current(wire.loop):
            wire.loop.call_soon_threadsafe(wire.close)
        else:
            wire.close()

    def let_go(self) -> _Connection | None:
        """Forget the connection in a forked process, and return it: it is the parent's."""
        wire, self._wire, self._is_opening = self._wire, None, False
        return None if wire is None else wire.connection

    def _renew(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to open a connection, unless another loop has one."""
        wire = self._wire
        if wire is not None and wire.loop is not loop and not wire.loop.is_closed():
            return
        if self._is_opening or time.monotonic() < self._not_before:
            return
        self.close()
        self._is_opening, self._not_before = True, time.monotonic() + _PAUSE
        begun = (self.count_doubts(), self._closings)
        opening = loop.run_in_executor(None, self.connect)
        opening.add_done_callback(lambda opened: self._take(opened, loop, *begun))

    def _take(
        self, opened: asyncio.Future[_Connection], loop: asyncio.AbstractEventLoop, doubts: int, closings: int
    ) -> None:
        self._is_opening = False
        if opened.cancelled() or opened.exception() is not None:
            return  # a thread meets the same error, and says it
        if closings == self._closings:
            self._wire = _Wire(opened.result(), loop, doubts)
        else:
            opened.result().close()


@define(eq=False)
class Numbered:
    """Glances at statements that have ``?`` for their parameters."""

    glances: Glances
    _numbered: dict[str, str] = field(factory=dict)

    async def ask(self, sql: str, parameters: Sequence[str]) -> Sequence[Any] | None:
        """Return the rows of one statement; None if a thread has to ask."""
        numbered = self._numbered.get(sql)
        if numbered is None:
            first, *rest = sql.split("?")
            numbered = first + "".join(f"${place}{part}" for place, part in enumerate(rest, 1))
            self._numbered[sql] = numbered
        return await self.glances.ask(numbered, parameters)


@define(eq=False)
class _Wire:
    """A connection that is in use by one event loop."""

    connection: _Connection
    loop: asyncio.AbstractEventLoop
    doubts: int
    is_closed: bool = False
    _asked: deque[asyncio.Future[_Rows] | None] = field(factory=deque)
    """For each result that will come, who waits for it; None for what nobody waits for."""
    _names: dict[str, bytes] = field(factory=dict)
    """The statements that are prepared."""
    _answered: int = 0
    _look: asyncio.TimerHandle | None = None
    _socket: int = field(init=False)
    """Its number; a connection that was lost does not tell it any more."""

    def __attrs_post_init__(self) -> None:
        self.connection.pgconn.nonblocking = 1
        self.connection.pgconn.enter_pipeline_mode()
        self._socket = self.connection.fileno()
        self.loop.add_reader(self._socket, self._read)

    def ask(self, sql: str, parameters: Sequence[str]) -> asyncio.Future[_Rows]:
        """Send a statement; return what its rows will come by, or None if they will not."""
        answer: asyncio.Future[_Rows] = self.loop.create_future()
        if len(self._asked) > _MOST:
            answer.set_result(None)
            return answer
        try:
            self._send(sql, parameters, answer)
        except psycopg.Error:  # a thread meets it, too, and says it
            self.close()
        if self._look is None and not self.is_closed:
            self._look = self.loop.call_later(_LONGEST, self._look_after, self._answered)
        if self.is_closed and not answer.done():
            answer.set_result(None)
        return answer

    def close(self) -> None:
        """Close the connection; whoever waits is told that a thread has to ask."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._look is not None:
            self._look.cancel()
        if not self.loop.is_closed():
            for answer in filter(None, self._asked):
                _give(answer, None)
            self.loop.remove_reader(self._socket)
            self.loop.remove_writer(self._socket)
        self._asked.clear()
        self.connection.close()

    def _send(self, sql: str, parameters: Sequence[str], answer: asyncio.Future[_Rows]) -> None:
        wire = self.connection.pgconn
        name = self._names.get(sql)
        if name is None:
            name = self._names[sql] = f"glance_{len(self._names)}".encode()
            wire.send_prepare(name, sql.encode())
            self._asked.append(None)
        wire.send_query_prepared(name, [parameter.encode() for parameter in parameters])
        self._asked.append(answer)
        wire.pipeline_sync()
        self._asked.append(None)
        if wire.flush():
            self.loop.add_writer(self._socket, self._write)

    def _write(self) -> None:
        try:
            is_left = self.connection.pgconn.flush()
        except psycopg.Error:
            self.close()
            return
        if not is_left:
            self.loop.remove_writer(self._socket)

    def _read(self) -> None:
        wire = self.connection.pgconn
        try:
            wire.consume_input()
            while self._asked and not wire.is_busy():
                result = wire.get_result()
                if result is not None:
                    self._take(result)
        except psycopg.Error:
            self.close()
        else:
            if not self._asked and wire.status != ConnStatus.OK:
                self.close()

    def _take(self, result: PGresult) -> None:
        answer = self._asked.popleft()
        self._answered += 1
        has_failed = result.status in (ExecStatus.FATAL_ERROR, ExecStatus.PIPELINE_ABORTED)
        if answer is not None:
            _give(answer, None if has_failed else _rows_of(result))
        if has_failed:
            raise psycopg.OperationalError(result.error_message.decode(errors="replace"))

    def _look_after(self, answered: int) -> None:
        """Close a connection on which nothing has come since the last look."""
        self._look = None
        if self._asked and answered == self._answered:
            self.close()
        elif self._asked:
            self._look = self.loop.call_later(_LONGEST, self._look_after, self._answered)


def _give(answer: asyncio.Future[_Rows], rows: _Rows) -> None:
    if not answer.done():  # whoever waited may have been cancelled
        answer.set_result(rows)


def _rows_of(result: PGresult) -> list[tuple[Any, ...]]:
    columns = range(result.nfields)
    types = [result.ftype(column) for column in columns]
    return [
        tuple(_value(result.get_value(row, column), types[column]) for column in columns)
        for row in range(result.ntuples)
    ]


def _value(text: bytes | None, kind: int) -> object:
    if text is None:
        return None
    if kind in _WHOLE_NUMBERS:
        return int(text)
    return text == b"t" if kind == _BOOLEAN else text.decode()


def _is_current(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:  # no loop runs in this thread
        return False
