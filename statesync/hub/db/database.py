"""A hub's database: pooled connections, transactions, and what a dialect has to do.

SQLite and PostgreSQL look up and write a batch, and read a page, each in its own way: that is a ``Dialect``.
Everything else in the hub is written once. This module knows neither of the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol, TypeVar

from attrs import field

from statesync.classes import define
from statesync.hub.db.failures import AWAY, FULL, Undone, Warnings, WrongFile, failure_of
from statesync.hub.db.groups import Group
from statesync.hub.errors import outcome_unknown
from statesync.hub.limits import Allowance, Room

_Outcome = TypeVar("_Outcome")

_TOGETHER = 16
"""Pushes of a space that are worked on at once where they share a commit."""

_AT_ONCE = 1.0
"""Seconds in which a connection that has died while nobody used it is found dead, if it is at all."""


class Stored(NamedTuple):
    """What a push has to know of a record: its version, who wrote that, and the JSON text.

    A record that is not deleted has no text here where a push would have looked at too much. ``row`` is where
    it stands, in a database that finds it sooner by that than by its key.
    """

    version: int
    writer: str
    deleted: bool
    data: str | None
    row: int | None = None

    @property
    def is_left_out(self) -> bool:
        """Whether its text would have been too much."""
        return self.data is None and not self.deleted


class Written(NamedTuple):
    """What a push writes of a record; its data is JSON in UTF-8.

    As a text it may take four times the memory, so that only what is being written is made one. ``row`` is
    where the record was found in this transaction; None if it was not, or may have been purged since.
    """

    object: str
    key: str
    version: int
    deleted: bool
    data: bytes | None
    row: int | None = None

    @property
    def text(self) -> str | None:
        """The data as a text."""
        return None if self.data is None else self.data.decode()


FeedRow = tuple[str, str, int, bool, bytes | None]
"""What a page carries of a record: object, key, version, whether it is deleted, JSON in UTF-8.

A plain tuple: every record of every page passes through it. As a text the JSON may take four times the
memory.
"""

PROBE_BYTES = 1 << 14
"""Bytes of the row by which a database is asked whether it can be written: a disk that is all but full may
take a number, and refuse every push."""

Finding = Callable[[], Mapping[tuple[str, str], Stored]]
"""Gives the records that were asked for, by object and key."""

_TABLES = ("space", "record", "receipt", "mark", "token", "living")
_ALL_TABLES = (
    "SELECT name FROM hub_meta WHERE name = 'schema'",
    " UNION ALL ".join(f"SELECT space FROM {table} WHERE space = ' '" for table in _TABLES),  # nobody's space
)
"""What fails where a table is missing, as in a database whose restore has only begun."""

Statement = tuple[str, list[object]]
"""A query with ``?`` for each of its parameters."""


def size_of(text: str | None) -> int:
    """Return how many bytes a text has; most are ASCII, and Python knows that of a text."""
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())


class Pool(Protocol):
    """What the hub uses of a Peewee database that pools its connections."""

    param: str
    """The placeholder of a parameter."""
    database: Any
    """Where the database is."""

    def execute_sql(self, sql: str, params: Sequence[object]) -> Any:
        """Run one statement and return its cursor."""

    def cursor(self) -> Any:
        """Return a cursor of the driver's own."""

    def lent(self) -> AbstractContextManager[None]:
        """Take a connection for the calling thread, and give it back at the end."""

    def begin_at_rest(self) -> None:
        """Take another connection if the calling thread's is amid a transaction that nobody will end."""

    def was_idle(self) -> bool:
        """Tell whether the connection had been opened before it was taken."""

    def together(self) -> AbstractContextManager[None]:
        """Let the statements inside travel when an answer is asked for; their end may raise ``Undone``."""

    def check_in_place(self) -> None:
        """Raise what says that the open connections lead elsewhere than new ones would."""

    def distrust(self) -> None:
        """Use no connection again that is open now."""

    def atomic(self, mode: str | None) -> AbstractContextManager[Any]:
        """Run a transaction."""

    def close_all(self) -> None:
        """Close every connection."""


class Glances(Protocol):
    """How one kind of database is read by an event loop, which must not wait."""

    async def ask(self, sql: str, parameters: Sequence[str]) -> Sequence[Any] | None:
        """Return the rows of one statement; None if a thread has to ask."""


class Dialect(Protocol):
    """What one kind of database does in its own way. Every call runs inside a transaction."""

    read_mode: str
    """How a transaction begins in which all statements see one state."""
    write_mode: str | None
    """How a transaction begins that writes."""
    text_type: str
    """The type of texts, which compare by their code points."""
    row_lock: str
    """What makes a SELECT hold its row until the transaction ends."""
    key_order: str
    """The expression by which keys compare as the device's do: by their code points."""
    data_bytes: str
    """The expression for the bytes of a record's JSON text."""
    data_for_pages: str
    """The expression for what ``page`` reads of it."""

    def check_usable(self, pool: Pool) -> None:
        """Raise ``BadDatabase`` for a database that cannot hold every record."""

    def check_writable(self, pool: Pool) -> None:
        """Raise what a write of ``PROBE_BYTES`` would raise now; called outside of any transaction."""

    def find(self, pool: Pool, space: str, keys: Sequence[tuple[str, str]], max_bytes: int) -> Finding:
        """Ask for the records that exist among the (object, key) pairs of ``keys``; return what gives them.

        Records that follow ``max_bytes`` of others come without their texts, which are not read then.
        """

    def write(self, pool: Pool, space: str, writer: str, records: Sequence[Written]) -> None:
        """Insert or replace ``records``."""

    def merged(self, feeds: Sequence[Statement], limit: int) -> Statement:
        """Return the query of the first ``limit`` records of all ``feeds``, in the order of their versions.

        It reads no further than that into any feed.
        """

    def page(
        self, pool: Pool, feeds: Sequence[Statement], limit: int, allowance: Allowance
    ) -> tuple[list[FeedRow], bool]:
        """Return the first records of ``feeds``, and whether they have more.

        At most ``limit`` records, and none that begins past what is allowed of the records before it.
        """

    def stretch(
        self, pool: Pool, query: Statement, limit: int, allowance: Room
    ) -> tuple[list[FeedRow], bool]:
        """Return the first rows of a query that has them in the order of their keys, as ``page`` does.

        Those that have no text say so where a record says whether it is deleted.
        """


@define(eq=False)
class Database:
    """One hub database, safe to use from many threads: each transaction takes a pooled connection.

    Programs only hand it on: from ``Hub.database`` to ``create_token`` and its like.
    """

    pool: Pool
    dialect: Dialect
    writer_lock: AbstractContextManager[object] = field(factory=nullcontext)
    """What a writer of this process holds while it writes, taken before a connection is."""
    stop_background: Callable[[], None] = field(default=lambda: None)
    """Ends the work that goes on beside the requests."""
    needs_care: bool = False
    """Whether a request has met what whoever runs the hub has to mend, and ``check_writable`` has met nothing
    since."""
    glances: Glances | None = None
    """Reads without a thread."""
    group: Group | None = None
    """Lets pushes share a commit; None where each has its own."""
    _failed_commits: Warnings = field(init=False, factory=Warnings)

    @property
    def together(self) -> int:
        """How many pushes of a space are worth working on at once."""
        return 1 if self.group is None else _TOGETHER

    async def glance(self, sql: str, *parameters: str) -> Sequence[Any] | None:
        """Run one statement that reads, in an event loop, and return its rows; None if that takes a thread.

        Every parameter is a text. Whatever fails takes a thread, too, which tells of it.
        """
        return None if self.glances is None else await self.glances.ask(sql, parameters)

    def run(self, sql: str, *parameters: object) -> Any:
        """Run one statement inside the transaction that is open; placeholders are ``?``."""
        return self.pool.execute_sql(sql.replace("?", self.pool.param), parameters)

    def ask(self, sql: str, *parameters: object) -> list[Any]:
        """Run one statement outside of any transaction, and return its rows.

        If its connection has died while nobody used it, the statement is run once more, on a new one.
        """
        begun, was_idle = time.monotonic(), False
        try:
            with self.connection():
                was_idle = self.pool.was_idle()
                return list(self.run(sql, *parameters).fetchall())
        except Exception as error:
            is_late = time.monotonic() > begun + _AT_ONCE
            if not was_idle or is_late or failure_of(error) is not AWAY:
                raise
        with self.connection():
            return list(self.run(sql, *parameters).fetchall())

    @contextmanager
    def connection(self) -> Generator[None]:
        """Take a connection for single statements; each of them sees a state of its own."""
        with self.pool.lent():
            try:
                yield
            except Exception as error:
                failure = failure_of(error)
                if failure is not None:
                    self.needs_care |= failure.needs_care
                    if failure.is_lasting:
                        self.pool.distrust()
                raise

    def snapshot(self) -> AbstractContextManager[Any]:
        """Let the statements inside, on the open connection, see one state of the database."""
        return self.pool.atomic(self.dialect.read_mode)

    @contextmanager
    def reading(self) -> Generator[None]:
        """Take a connection for statements that all see one state of the database."""
        with self.connection():
            self.pool.begin_at_rest()
            with self.snapshot():
                yield

    def write(self, step: Callable[[], _Outcome]) -> _Outcome:
        """Run ``step`` in a transaction that writes, and return what it returns once that is committed.

        Its statements travel together, so that a failure may be raised later than by the statement. Where
        pushes share a commit another thread may run it, and once more after it was undone. Raises what
        ``writing`` raises.
        """
        if self.group is not None:
            return self.group.run(step)
        with self.writing(together=True):
            return step()

    @contextmanager
    def writing(self, *, together: bool = False) -> Generator[None]:
        """Open a transaction that writes; it is committed at the end, or rolled back by an exception.

        ``together`` lets its statements travel when an answer is asked for. Raises the refusal
        ``outcome_unknown`` if the commit fails, whatever the reason; only where a disk is full, or a
        statement failed that travelled with the commit, is it certain that nothing was committed. Nor is it
        known what becomes of a commit to a file in whose place another one was put meanwhile.
        """
        ended = False
        try:
            with self.writer_lock, self.connection():
                self.pool.begin_at_rest()
                with self._transaction(together):
                    yield
                    self.pool.check_in_place()
                    ended = True
                self.pool.check_in_place()
        except Exception as error:
            if not ended or isinstance(error, Undone) or failure_of(error) is FULL:
                raise
            self._failed_commits.warn("a commit failed", error)
            raise outcome_unknown() from error

    @contextmanager
    def _transaction(self, together: bool) -> Generator[None]:
        with self.pool.together() if together else nullcontext(), self.pool.atomic(self.dialect.write_mode):
            yield

    def seems_well(self) -> bool:
        """Tell whether nothing has been met, and can be seen at once, that needs care."""
        try:
            self.pool.check_in_place()
        except WrongFile:
            return False
        return not self.needs_care

    def check_writable(self) -> None:
        """Raise what a write of some size would raise now, to any table; nothing of it stays."""
        with self.writer_lock, self.connection():
            for sql in _ALL_TABLES:
                self.run(sql)
            self.dialect.check_writable(self.pool)
            self.needs_care = False

    def close(self) -> None:
        """Stop what runs in the background, then close every connection."""
        self.stop_background()
        self.pool.close_all()
