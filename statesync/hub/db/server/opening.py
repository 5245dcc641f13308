"""Opening a hub's database on a PostgreSQL server: what its address says, and how its connections behave."""

from __future__ import annotations

from math import isfinite
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from statesync.hub.addresses import PASSWORDS, has_password, without_password
from statesync.hub.db.database import Database
from statesync.hub.db.server.glances import Numbered
from statesync.hub.db.server.pool import PostgresPool
from statesync.hub.db.server.records import PostgresDialect
from statesync.hub.errors import BadDatabase
from statesync.sqlite import forks

# Every statement of the hub walks along an index in its order. Before a table has statistics the planner may
# choose another index and a sort instead, and read a whole object for each key. So it gets no choice.
DETOURS = ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin")
_ALWAYS_BY_INDEX = " ".join(f"-c enable_{way}=off" for way in DETOURS)


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
    is_misread = "@" in f"{found.get('host')}{found.get('port')}{found.get('dbname')}"
    if has_password(url) and (is_misread or not any(found.get(name) for name in PASSWORDS)):
        raise BadDatabase(
            f"the address {address!r} cannot be read; in a password, write %2F for /, %40 for @ and %25 for %"
        )
    return found
