"""Opening a hub's database by its address: the one module that knows both dialects."""

from __future__ import annotations

from statesync.hub.addresses import without_password
from statesync.hub.db import distribution, schema
from statesync.hub.db.database import Database
from statesync.hub.db.postgres import open_postgres
from statesync.hub.db.sqlite import SqliteDialect, make_private, open_sqlite
from statesync.hub.errors import BadDatabase


def open_database(url: str, *, connections: int = 8, patience: float = 10.0) -> Database:
    """Return the database at ``url``: ``sqlite:///hub.db``, ``sqlite:////var/lib/hub.db`` or ``postgresql://…``.

    No connection is made yet. At most ``connections`` are open at once. A transaction waits ``patience``
    seconds for one, and in SQLite for the writer before it. Raises ``BadDatabase`` for any other address.
    """
    kind, _, rest = url.partition("://")
    if kind == "sqlite" and rest.startswith("/") and rest[1:] not in ("", ":memory:"):
        return open_sqlite(_path_of(url), connections, patience)
    if kind in ("postgresql", "postgres"):
        return open_postgres(f"postgresql://{rest}", connections, patience)
    raise BadDatabase(
        f"{without_password(url)!r} is no database of a hub; use sqlite:///hub.db, "
        "sqlite:////absolute/path/hub.db or postgresql://user@host/name"
    )


def _path_of(url: str) -> str:
    return url.removeprefix("sqlite:///")


def open_ready(url: str, *, connections: int = 8, patience: float = 10.0) -> Database:
    """Return the database at ``url`` after a look at its tables; see ``open_database``.

    Raises ``BadDatabase``, ``HubNotReady`` and ``HubTooNew``; the database is closed then.
    """
    database = open_database(url, connections=connections, patience=patience)
    try:
        schema.check(database)
    except BaseException:
        database.close()
        raise
    return database


def prepare(url: str, *, distributed: bool = False) -> int:
    """Make the hub's tables in the database at ``url``, or bring them to this version.

    A file is made for its owner alone. Returns the number of migrations that ran. With ``distributed`` the
    tables are spread by their space over the machines of a PostgreSQL with the Citus extension. Raises
    ``BadDatabase``, ``HubTooNew`` and ``CannotDistribute``; after the last the tables are there,
    undistributed.
    """
    database = open_database(url)
    try:
        if isinstance(database.dialect, SqliteDialect):
            make_private(_path_of(url))
        done = schema.migrate(database)
        if distributed:
            distribution.distribute(database)
        return done
    finally:
        database.close()
