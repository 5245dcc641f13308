"""The hub on PostgreSQL: many writers, each of which holds its own space's row alone."""

from __future__ import annotations

import os
import secrets
import selectors
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from itertools import chain
from math import isfinite
from typing import Any

import peewee
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import ConnStatus, TransactionStatus

from statesync.hub.addresses import has_password, without_password
from statesync.hub.db.database import (
    PROBE_BYTES,
    Database,
    FeedRow,
    Finding,
    Pool,
    Statement,
    Stored,
    Written,
)
from statesync.hub.db.failures import READ_ONLY, Undone
from statesync.hub.db.glances import Glances, Numbered
from statesync.hub.db.pages.fitting import FEEDS, SCAN, page_of, take_varchars_as_bytes
from statesync.hub.db.pool import PooledDatabase
from statesync.hub.errors import BadDatabase
from statesync.hub.limits import Allowance, Room
from statesync.net.alarm import alarm
from statesync.sqlite import forks

_Connection = psycopg.Connection[tuple[Any, ...]]

_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)

# Every statement of the hub walks along an index in its order. Before a table has statistics the planner may
# choose another index and a sort instead, and read a whole object for each key. So it gets no choice.
DETOURS = ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin")
_ALWAYS_BY_INDEX = " ".join(f"-c enable_{way}=off" for way in DETOURS)

_ANY_LENGTH = 1 << 30
"""Bytes: PostgreSQL holds no longer text."""

_WRITTEN_AT_ONCE = 4 << 20
"""Bytes of data in one statement; as texts, and on their way to the server, they take many times as much."""

_AHEAD_KEYS, _AHEAD_BYTES = 100, 1 << 20
"""Records that are looked up before it is known that they are wanted, and bytes of them that come then."""

# This asks for the first key from here on, which can only be read in the order of the primary key.
FIND = """
SELECT found.object, found.key, found.version, found.writer, found.deleted,
    CASE WHEN octet_length(found.data) <= %s THEN found.data END, octet_length(found.data)
FROM unnest(%b::text[], %b::text[]) AS wanted (object, key)
CROSS JOIN LATERAL (
    SELECT * FROM record WHERE space = %s AND object = wanted.object AND key >= wanted.key
    ORDER BY key LIMIT 1
) AS found WHERE found.key = wanted.key
"""
# The space comes from its own row, so that a distributed database sees one machine in it, and one commit.
_WRITE = """
INSERT INTO record (space, object, key, version, writer, deleted, data)
SELECT space.space, new.object, new.key, new.version, %s::text, new.deleted, new.data
FROM space CROSS JOIN unnest(%b::text[], %b::text[], %b::bigint[], %b::boolean[], %b::text[])
    AS new (object, key, version, deleted, data)
WHERE space.space = %s
ON CONFLICT (space, object, key) DO UPDATE SET
    version = excluded.version, writer = excluded.writer, deleted = excluded.deleted, data = excluded.data
"""
# No space has such a name.
_PROBE = "INSERT INTO receipt (space, client, number, batch, answer) VALUES (' ', %s, 0, ' ', %s)"


class _Undone(Exception):
    """Rolls a transaction back in which nothing has failed."""


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


class PostgresDialect:
    """One statement for a whole batch: each costs a round trip, so arrays travel instead of rows."""

    read_mode: str = "REPEATABLE READ"
    write_mode: str | None = None
    text_type: str = 'TEXT COLLATE "C"'
    row_lock: str = " FOR UPDATE"
    key_order: str = 'key COLLATE "C"'
    data_bytes: str = "octet_length(data)"
    data_for_pages: str = "data"

    def check_usable(self, pool: Pool) -> None:
        """Refuse a database in any encoding but UTF-8."""
        (encoding,) = pool.execute_sql("SHOW server_encoding", ()).fetchone()
        if encoding != "UTF8":
            raise BadDatabase(
                f"the database's encoding is {encoding}, and records are UTF-8; make another database with: "
                "createdb --encoding=UTF8 --locale=C --template=template0 NAME"
            )

    def check_writable(self, pool: Pool) -> None:
        """Ask the server whether it would take a write, and write a row that is rolled back.

        It makes room for the row at once, so that a full disk shows.
        """
        (only_reads,) = pool.execute_sql("SHOW transaction_read_only", ()).fetchone()
        if only_reads == "on":
            pool.distrust()
            raise READ_ONLY.refusal()
        row = secrets.token_hex(8), secrets.token_hex(PROBE_BYTES // 2)  # nothing that can be packed
        with suppress(_Undone), pool.atomic(self.write_mode):
            pool.execute_sql(_PROBE, row)
            raise _Undone

    def find(self, pool: Pool, space: str, keys: Sequence[tuple[str, str]], max_bytes: int) -> Finding:
        """Look up all records at once; those that are large are asked for once more, as far as they fit.

        Of a few the question travels at once. Nobody may want the answer, and then nobody pays for it.
        """
        if len(keys) > _AHEAD_KEYS:
            ask = partial(_find, pool, space, keys, max_bytes // len(keys))
            return lambda: self._found(pool, space, ask().fetchall(), max_bytes)
        cursor = _find(pool, space, keys, min(max_bytes, _AHEAD_BYTES) // len(keys))
        return lambda: self._found(pool, space, cursor.fetchall(), max_bytes)

    def _found(
        self, pool: Pool, space: str, rows: list[tuple[Any, ...]], max_bytes: int
    ) -> Mapping[tuple[str, str], Stored]:
        left = max_bytes - sum(row[6] for row in rows if row[5] is not None)
        large: list[tuple[str, str]] = []
        for row in rows:
            if row[5] is None and row[6] is not None and left > 0:
                large.append((row[0], row[1]))
                left -= row[6]
        if large:
            rows += _find(pool, space, large, _ANY_LENGTH).fetchall()
        return {(row[0], row[1]): Stored(*row[2:6]) for row in rows}

    def write(self, pool: Pool, space: str, writer: str, records: Sequence[Written]) -> None:
        """Upsert all records at once, large ones some at a time.

        Those that are on their way are in memory, so the next ones wait until the server has them.
        """
        for place, part in enumerate(_parts(records)):
            if place:
                pool.execute_sql("SELECT 1", ()).fetchone()
            rows = ((each.object, each.key, each.version, each.deleted, each.text) for each in part)
            columns = [list(column) for column in zip(*rows, strict=True)]
            pool.execute_sql(_WRITE, (writer, *columns, space))

    def merged(self, feeds: Sequence[Statement], limit: int) -> Statement:
        """Limit each feed by itself, so that the planner reads it in its order and stops."""
        sql = " UNION ALL ".join(
            f"SELECT * FROM ({sql} ORDER BY version LIMIT ?) AS feed" for sql, _ in feeds
        )
        parameters = [*chain.from_iterable((*some, limit) for _, some in feeds), limit]
        return f"{sql} ORDER BY version LIMIT ?", parameters

    def page(
        self, pool: Pool, feeds: Sequence[Statement], limit: int, allowance: Allowance
    ) -> tuple[list[FeedRow], bool]:
        """Ask for what fits, and for more of it while more is allowed: no record travels that does not fit.

        A driver gives what it was asked for at once, and then has it twice. Most pages take one round trip.
        """
        return page_of(pool, self.merged(feeds, limit + 1), FEEDS, limit, allowance)

    def stretch(
        self, pool: Pool, query: Statement, limit: int, allowance: Room
    ) -> tuple[list[FeedRow], bool]:
        """Ask as for a page of feeds. The planner is told the order, so that it does not sort."""
        sql, parameters = query
        return page_of(
            pool, (f"{sql} ORDER BY key LIMIT ?", [*parameters, limit + 1]), SCAN, limit, allowance
        )


def _find(pool: Pool, space: str, keys: Sequence[tuple[str, str]], longest: int) -> Any:
    """Ask for records with the lengths of their texts; a text that is longer than ``longest`` stays there."""
    names, texts = [name for name, _ in keys], [key for _, key in keys]
    return pool.execute_sql(FIND, (longest, names, texts, space))


def _parts(records: Sequence[Written]) -> Iterator[Sequence[Written]]:
    """Cut ``records`` into statements: each has some bytes of data, and the record that is too much."""
    begin = size = 0
    for end, record in enumerate(records, 1):
        size += len(record.data or b"")
        if size > _WRITTEN_AT_ONCE or end == len(records):
            yield records[begin:end]
            begin, size = end, 0


def open_postgres(url: str, connections: int, patience: float, longest: float) -> Database:
    """Return the hub database at a ``postgresql://`` address, which libpq reads.

    A connection is awaited for ``patience`` seconds, and a lock; a transaction ends after ``longest``.

    Raises ``BadDatabase`` for an address that libpq cannot read.
    """
    given = _read(url)
    pool = PostgresPool(
        url,
        connections=connections,
        patience=patience,
        longest=longest,
        prefer_psycopg3=True,
        connect_timeout=given.get("connect_timeout") or max(2, round(patience)),
        options=f"{_ALWAYS_BY_INDEX} {_in_time(patience, longest)} {given.get('options') or ''}",
    )
    forks.begins_anew(pool)
    return Database(pool, PostgresDialect(), glances=Numbered(pool.glances))


def _in_time(patience: float, longest: float) -> str:
    """Return the options that let the server give up what takes too long.

    A transaction that stands still is ended, too: its hub may be frozen, or cut off, while it holds a space.
    """
    lock, whole = (round(1000 * seconds) if isfinite(seconds) else 0 for seconds in (patience, longest))
    return (
        f"-c lock_timeout={lock} -c statement_timeout={whole} -c idle_in_transaction_session_timeout={whole}"
    )


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


def _read(url: str) -> dict[str, Any]:
    """Return what libpq reads in an address; raise ``BadDatabase`` where that is not what it says.

    libpq quotes what it does not understand, also later, and a part of the password may be among it.
    """
    address = without_password(url)
    try:
        found = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        why = "" if has_password(url) else f" ({str(error).strip()})"
        raise BadDatabase(f"the address {address!r} cannot be read{why}") from None
    is_misread = "@" in f"{found.get('host')}{found.get('dbname')}"
    if has_password(url) and (is_misread or not (found.get("password") or found.get("sslpassword"))):
        raise BadDatabase(
            f"the address {address!r} cannot be read; in a password, write %2F for /, %40 for @ and %25 for %"
        )
    return found
