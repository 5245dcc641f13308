"""Opening a hub's database by its address: the one module that knows both dialects."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable
from pathlib import Path

from statesync.checks import kind_of
from statesync.hub.addresses import without_password
from statesync.hub.db import schema
from statesync.hub.db.database import Database
from statesync.hub.db.file.held import make_private
from statesync.hub.db.file.opening import open_sqlite
from statesync.hub.db.server import distribution
from statesync.hub.db.server.opening import open_postgres
from statesync.hub.errors import BadDatabase, HubNotReady

LONGEST = 50.0
"""Seconds that a transaction may take on a server: less than a device waits for an answer."""


def open_database(
    url: str, *, connections: int = 8, patience: float = 10.0, longest: float = LONGEST
) -> Database:
    """Return the database at ``url``: ``sqlite:///hub.db``, ``sqlite:////var/lib/hub.db`` or ``postgresql://…``.

    No connection is made yet, and no file. At most ``connections`` are lent at once. A transaction waits
    ``patience`` seconds for one, and for whoever writes before it; on a server it takes ``longest`` at most.
    Raises ``BadDatabase`` for any other address.
    """
    path = file_at(url)
    if path is not None:
        return open_sqlite(str(path), connections, patience)
    kind, _, rest = url.partition("://")
    if kind in ("postgresql", "postgres"):
        return open_postgres(f"postgresql://{rest}", connections, patience, longest)
    raise BadDatabase(
        f"{without_password(url)!r} is no database of a hub; use sqlite:///hub.db, "
        "sqlite:////absolute/path/hub.db or postgresql://user@host/name"
    )


def useful_connections(url: str) -> int:
    """Return how many connections are of use: readers of one SQLite file hinder each other."""
    return 8 if file_at(url) is None else 2


def file_at(url: str) -> Path | None:
    """Return the path of the SQLite file that ``url`` is the address of; None if it is of something else.

    Raises ``BadDatabase`` for what is no text.
    """
    if not isinstance(url, str):
        raise BadDatabase(f"the address of a hub's database must be a text, not {kind_of(url)}")
    path = url.removeprefix("sqlite:///")
    return Path(path) if path not in (url, "", ":memory:") else None


def open_ready(
    url: str, *, connections: int = 8, patience: float = 10.0, longest: float = LONGEST
) -> Database:
    """Return the database at ``url`` after a look at its tables; see ``open_database``.

    Raises ``BadDatabase``, ``HubNotReady`` and ``HubTooNew``; the database is closed then.
    """
    _check_there(file_at(url))
    database = open_database(url, connections=connections, patience=patience, longest=longest)
    try:
        schema.check(database)
    except BaseException:
        database.close()
        raise
    return database


def prepare(url: str, *, distributed: bool = False, say: Callable[[str], object] = lambda _line: None) -> int:
    """Make the hub's tables in the database at ``url``, or bring them to this version.

    A file is made for its owner alone. Returns the number of migrations that ran, however long they took.
    With ``distributed`` the tables are spread by their space over the machines of a PostgreSQL with the Citus
    extension, and ``say`` is called with what has become of them, and what is left to do. Raises
    ``BadDatabase``, ``HubTooNew`` and ``CannotDistribute``. A server without the extension has the tables
    then, undistributed; a file that was made in vain is gone again.
    """
    path = file_at(url)
    if path is None:
        return _prepare(url, distributed, say)
    if distributed:
        raise distribution.one_machine()
    check_writable(url)
    is_new = make_private(path)
    try:
        return _prepare(url, distributed, say)
    except BaseException:
        if is_new:
            for ending in ("", "-wal", "-shm"):  # SQLite removes its own with the last cursor alone
                path.with_name(path.name + ending).unlink(missing_ok=True)
        raise


def check_writable(url: str) -> None:
    """Raise ``BadDatabase`` where ``url`` leads to what is no file, or to one that may only be read.

    SQLite would make files beside one that may only be read, and could not remove them again.
    """
    path = file_at(url)
    if path is not None and is_file(path) and not os.access(path, os.W_OK):
        raise BadDatabase(
            f"{path} may only be read; make the file and its folder writable for who runs the hub"
        )


def is_file(path: Path) -> bool:
    """Tell whether a SQLite file is there; raise ``BadDatabase`` for what is none, and cannot become one."""
    try:
        path = path.absolute()
    except FileNotFoundError as error:
        raise BadDatabase("the working folder is gone; change into one that is there") from error
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise BadDatabase(
            f"{path} cannot be reached ({error.strerror}); check its address: it has to be a shorter path, "
            "or one that is open to who runs the hub"
        ) from error
    if not stat.S_ISREG(mode):
        raise BadDatabase(
            f"{path} is no file; check its address: it has to be a file, in a folder that exists"
        )
    return True


def _check_there(path: Path | None) -> None:
    if path is not None and not is_file(path) and path.parent.is_dir():
        raise HubNotReady(f"there is no file {path}; make one with: statesync hub init --database URL")


def _prepare(url: str, distributed: bool, say: Callable[[str], object]) -> int:
    database = open_database(url, longest=math.inf)
    try:
        done = schema.migrate(database)
        if distributed:
            distribution.distribute(database, say)
        return done
    finally:
        database.close()
