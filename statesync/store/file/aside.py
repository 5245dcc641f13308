"""Code of the program's in a session's thread: Peewee has connections for it that are not the session's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import Logger, getLogger
from typing import Any

from peewee import SqliteDatabase, _ConnectionState

logger: Logger = getLogger(__name__)


class Aside:
    """The connections of the program's code in the threads of sessions, as Peewee keeps them.

    In each thread one is for what is called between statements of the session's, one (``within``) for what
    runs in them. They stay for the next time, until ``leave``.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        self._database: Any = database
        self._here = _OfThread()

    @property
    def is_in(self) -> bool:
        """Whether the calling thread is a session's, and in the program's code."""
        return self._here.is_in

    @property
    def is_within(self) -> bool:
        """Whether the calling thread is in a statement of a session's, and in the program's code in there."""
        return self._here.is_within

    @contextmanager
    def block(self, *, within: bool) -> Iterator[None]:
        """Let Peewee have other connections in the block than before it, and the same again after it.

        A transaction that it leaves open is rolled back. A process that the block has forked, and that comes
        back from it, ends.
        """
        process, here = os.getpid(), self._here
        if here.is_in:
            try:
                yield
            finally:
                self._clear_up(process)
            return
        state = self._database._state.__dict__
        mine, here.is_in, here.is_within = dict(state), True, within
        state.update(here.states[within])
        try:
            yield
        finally:
            self._clear_up(process)
            here.states[within] = dict(state)
            here.is_in = here.is_within = False
            state.update(mine)

    def leave(self) -> None:
        """Close what the program's code has opened in the calling thread."""
        for within in (False, True):
            with self.block(within=within):
                if not self._database.is_closed():
                    self._database.close()

    def calling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of SQL, as it is called in a session's statement."""

        def called(*values: Any) -> Any:
            with self.block(within=True):
                return function(*values)

        return called

    def _clear_up(self, process: int) -> None:
        if os.getpid() != process:
            _end_fork()
        roll_back_what_is_open(self._database)


class _OfThread(threading.local):
    """What one thread has of them."""

    def __init__(self) -> None:
        self.states: dict[bool, dict[str, Any]] = {
            within: vars(_ConnectionState()) for within in (False, True)
        }
        self.is_in = self.is_within = False


def roll_back_what_is_open(database: SqliteDatabase) -> None:
    """Roll back the transaction of the calling thread's connection, if it is in one."""
    state: Any = database._state  # type: ignore[attr-defined]
    if not state.closed and (state.conn.in_transaction or state.transactions):
        logger.error("a transaction was left open by code of the program's: it is rolled back")
        state.conn.rollback()
        state.set_connection(state.conn)


def _end_fork() -> None:
    """End a process that comes back from a callback that has forked it: the session goes on in its parent.

    Not by an error: whatever runs on the way out would touch the parent's connections.
    """
    logger.error("a callback has forked a process that came back from it, into its parent's session: it ends")
    os._exit(os.EX_SOFTWARE)
