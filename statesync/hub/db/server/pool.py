"""The connections of a hub to its PostgreSQL server."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

import peewee
import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from statesync.hub.db.failures import Undone
from statesync.hub.db.pages.fitting import take_varchars_as_bytes
from statesync.hub.db.pool import PooledDatabase
from statesync.hub.db.server.glances import Glances
from statesync.net.alarm import alarm

_Connection = psycopg.Connection[tuple[Any, ...]]

_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class PostgresPool(PooledDatabase[_Connection], peewee.PostgresqlDatabase):
    """The connections to one server, all of which speak UTF-8, whatever the environment says.

    One that is lent for ``longest`` seconds is cut: a server may hang without ever hanging up.
    """

    def __init__(self, address: str, *, longest: float, **settings: Any) -> None:
        self._longest = longest
        super().__init__(address, **settings)
        self.glances: Glances = Glances(self._open, lambda: self._doubts)

    def begin_anew(self) -> None:
        """Leave the parent's connections to the parent, and keep nobody's socket open."""
        for connection, _ in filter(None, (*self._idle, *self._lent.values())):
            detach(connection)
        if (read_at_once := self.glances.let_go()) is not None:
            detach(read_at_once)
        super().begin_anew()

    @contextmanager
    def together(self) -> Generator[None]:
        """Let statements travel as soon as an answer is asked for, in one round trip for all until then.

        The error of a statement is raised then, too. The last ones travel with the commit, which the server
        does not look at after an error: ``Undone`` says so.

        After an error the connection is closed: the server has passed over what followed, and psycopg takes
        statements among that for prepared, which are unknown then for as long as the connection is used.
        """
        connection = self._mine()
        try:
            with connection.pipeline() as pipeline:
                try:
                    yield
                except Exception:
                    with suppress(psycopg.Error):  # what it left; psycopg would log a line at its end
                        pipeline.sync()
                    raise
        except (peewee.PeeweeException, psycopg.Error) as error:
            is_undone = connection.pgconn.transaction_status == TransactionStatus.INERROR
            if is_undone:
                with suppress(psycopg.Error):  # its lock is free at once, and not when the server looks
                    connection.execute("ROLLBACK")
            connection.close()
            if is_undone:
                raise Undone(error) from error
            raise

    def close_all(self) -> None:
        """Close every connection, and the one that reads at once."""
        self.glances.close()
        super().close_all()

    def open_apart(self) -> _Connection:
        """Return a new connection that is none of the pool's."""
        return self._open()

    def watched_apart(self, connection: _Connection) -> AbstractContextManager[None]:
        """Cut a connection if the block takes longer than one of the pool's may be lent."""
        return self._watched(connection)

    def _open(self) -> _Connection:
        connection = psycopg.connect(
            str(self.database), autocommit=True, client_encoding="UTF8", **self.connect_params
        )
        take_varchars_as_bytes(connection)
        return connection

    def _shut(self, connection: _Connection) -> None:
        connection.close()

    def _is_alive(self, connection: _Connection) -> bool:
        """Take a server that has said something unasked for one that has hung up, or is about to."""
        return self._is_at_peace(connection) and not _has_news(connection)

    def _is_at_peace(self, connection: _Connection) -> bool:
        state = connection.pgconn
        return state.status == ConnStatus.OK and state.transaction_status == TransactionStatus.IDLE

    def _watched(self, connection: _Connection) -> AbstractContextManager[None]:
        return alarm.after(self._longest, partial(_cut, connection))


_inherited: list[_Connection] = []
"""Connections of the process that this one was forked from; kept, so that nothing ends them."""


def detach(connection: _Connection) -> None:
    """Put nothing in the place of a connection's socket: no byte of this process's reaches the server by it.

    The number of the descriptor stays taken, so that nobody else's is mistaken for it.
    """
    _inherited.append(connection)
    with suppress(psycopg.Error), open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), connection.fileno())


def _has_news(connection: _Connection) -> bool:
    with _Selector() as waiting:
        waiting.register(connection.fileno(), selectors.EVENT_READ)
        return bool(waiting.select(0))


def _cut(connection: _Connection) -> None:
    """End whatever waits for the server, from another thread."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as copied:
        copied.shutdown(socket.SHUT_RDWR)
