"""A hub's database: pooled connections, transactions, and the statements that differ between databases.

Everything else in the hub is written once. What SQLite and PostgreSQL do differently (how a batch is
looked up and written, how a page is read) is a ``Dialect``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

import peewee
from attrs import define, field

from statesync.hub.errors import BadDatabase, outcome_unknown


class Stored(NamedTuple):
    """What a push has to know of a record: who wrote it last, under which version, and its JSON text."""

    version: int
    writer: str
    deleted: bool
    data: str | None


class Written(NamedTuple):
    """What a push writes of a record."""

    object: str
    key: str
    version: int
    deleted: bool
    data: str | None


Read = tuple[str, str, int, bool, str | None]
"""What a page carries of a record: object, key, version, whether it is deleted, JSON text.

A plain tuple, as the drivers give it: every record of every page passes through it.
"""

Statement = tuple[str, list[object]]
"""A query with ``?`` for each of its parameters."""


class Pool(Protocol):
    """What the hub uses of a Peewee database that pools its connections."""

    param: str
    """The placeholder of a parameter."""

    def execute_sql(self, sql: str, params: Sequence[object]) -> Any:
        """Run one statement and return its cursor."""

    def cursor(self) -> Any:
        """Return a cursor of the driver's own."""

    def connection_context(self) -> AbstractContextManager[Any]:
        """Take a connection for the calling thread, and give it back at the end."""

    def atomic(self, mode: str | None) -> AbstractContextManager[Any]:
        """Run a transaction."""

    def close_all(self) -> None:
        """Close every connection."""


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

    def find(
        self, pool: Pool, space: str, keys: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Stored]:
        """Return the records that exist among the (object, key) pairs of ``keys``."""

    def write(self, pool: Pool, space: str, writer: str, records: Sequence[Written]) -> None:
        """Insert or replace ``records``."""

    def merged(self, feeds: Sequence[Statement], limit: int) -> Statement:
        """Return the query of the first ``limit`` records of all ``feeds``, in the order of their versions.

        It reads no further than that into any feed.
        """

    def page(
        self, pool: Pool, feeds: Sequence[Statement], limit: int, max_bytes: int
    ) -> tuple[list[Read], bool]:
        """Return the first records of ``feeds``, and whether they have more.

        At most ``limit`` records, and none that begins past ``max_bytes`` of the records before it.
        """


@define(eq=False)
class Database:
    """One hub database, safe to use from many threads: each transaction takes a pooled connection.

    Programs only hand it on: from ``Hub.database`` to ``create_token`` and its like.
    """

    pool: Pool
    dialect: Dialect
    turn: AbstractContextManager[object] = field(factory=nullcontext)
    """What a writer of this process waits for before it asks the database."""
    end: Callable[[], None] = field(default=lambda: None)
    """Ends what goes on beside the requests."""

    def run(self, sql: str, *parameters: object) -> Any:
        """Run one statement inside the transaction that is open; placeholders are ``?``."""
        return self.pool.execute_sql(sql.replace("?", self.pool.param), parameters)

    @contextmanager
    def asking(self) -> Generator[None]:
        """Take a connection for single statements, each of which sees a state of its own."""
        with self.pool.connection_context():
            yield

    @contextmanager
    def reading(self) -> Generator[None]:
        """Open a transaction that sees one state of the database from its first statement on."""
        with self.asking(), self.one_state():
            yield

    def one_state(self) -> AbstractContextManager[Any]:
        """Let what follows inside ``asking`` see one state of the database."""
        return self.pool.atomic(self.dialect.read_mode)

    @contextmanager
    def writing(self) -> Generator[None]:
        """Open a transaction that writes; it is committed at the end, or rolled back by an exception.

        Raises the refusal ``outcome_unknown`` if the database was lost during the commit.
        """
        ended = False
        try:
            with self.turn, self.pool.connection_context(), self.pool.atomic(self.dialect.write_mode):
                yield
                ended = True
        except (peewee.OperationalError, peewee.InterfaceError) as error:
            if not ended:
                raise
            raise outcome_unknown() from error

    def close(self) -> None:
        """Close every connection."""
        self.end()
        self.pool.close_all()


def open_database(url: str, *, connections: int = 8, patience: float = 10.0) -> Database:
    """Return the database at ``url``: ``sqlite:///hub.db``, ``sqlite:////var/lib/hub.db`` or ``postgresql://…``.

    No connection is made yet. At most ``connections`` are open at once; ``patience`` is how many seconds a
    transaction waits for one, and in SQLite for the writer before it. Raises ``BadDatabase`` for any
    other address.
    """
    kind, _, rest = url.partition("://")
    if kind == "sqlite" and rest.startswith("/") and rest[1:] not in ("", ":memory:"):
        from statesync.hub.sqlite import open_sqlite

        return open_sqlite(rest[1:], connections, patience)
    if kind in ("postgresql", "postgres"):
        from statesync.hub.postgres import open_postgres

        return open_postgres(f"postgresql://{rest}", connections, patience)
    raise BadDatabase(
        f"{url!r} is no database of a hub; use sqlite:///hub.db, sqlite:////absolute/path/hub.db "
        "or postgresql://user@host/name"
    )


def cut(rows: Iterator[Read], limit: int, max_bytes: int) -> tuple[list[Read], bool]:
    """Take what fits into a page from rows that are read as they come; tell whether more follow."""
    taken: list[Read] = []
    size = 0
    for row in rows:
        if len(taken) == limit or size >= max_bytes:
            return taken, True
        taken.append(row)
        size += len(row[4] or "")
    return taken, False
