"""Putting a sound copy into a damaged file, whole or not at all.

The copy is made beside the file, and SQLite then writes it into the file as one transaction. So whoever is
killed in between leaves the damaged file or the mended one, with its name, its rights and its links, and
nobody ever reads a log that belongs to another file. All the while nobody else can open the file.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from statesync.errors import StoreCorrupt, StoreError, StoreLocked
from statesync.store.care.headers import mended_header
from statesync.store.care.losses import Losses
from statesync.store.care.mending import Equip, mended_copy
from statesync.store.file.database import Database
from statesync.store.tracking.quoting import quoted

Settle = Callable[[sqlite3.Connection, Losses], None]
"""Sets right, in the copy, what the losses mean for the rest of it."""

DAMAGED = ".damaged"
"""What the name of the kept file ends in."""

_PARTS = (".damaged.part", ".salvage", ".mended")
_COMPANIONS = ("", "-wal", "-shm", "-journal")


def salvage(database: Database, settle: Settle) -> Losses:
    """Replace a damaged file by a sound copy of what can be read, and return what is lost.

    The damaged file is kept beside it, with ``.damaged`` at its end. Changes nothing, and raises
    ``StoreCorrupt`` where not even the list of tables can be read, ``StoreLocked`` while anybody else has
    the file open, and ``StoreError`` where the program's collations or functions are needed.
    """
    path = database.path
    database.close()
    with database.errors_mapped(), mended_header(path), _alone(path) as file:
        remove_parts(path)
        try:
            return _replace(path, file, database.equip, settle)
        finally:
            remove_parts(path)


def _replace(path: Path, file: sqlite3.Connection, equip: Equip, settle: Settle) -> Losses:
    part, work, fresh = (path.with_name(path.name + ending) for ending in _PARTS)
    damaged = path.with_name(path.name + DAMAGED)
    with closing(sqlite3.connect(part)) as target:
        file.backup(target)
    _write_through(part)
    part.replace(damaged)
    shutil.copyfile(damaged, work)
    losses = _mended(path.name, work, fresh, equip)
    with closing(sqlite3.connect(fresh, isolation_level=None)) as copy:
        equip(copy)
        copy.execute("BEGIN")
        settle(copy, losses)
        copy.execute("COMMIT")
        _check(path.name, copy)
        copy.backup(file)
    return losses


@contextmanager
def _alone(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection beside which nobody else has one, in this process or another."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as file:
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            file.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise _refusal(path, error) from error
        file.execute("COMMIT")
        file.execute("PRAGMA synchronous = FULL")
        yield file


def _refusal(path: Path, error: sqlite3.OperationalError) -> Exception:
    if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return error
    return StoreLocked(
        f"{path.name} is open elsewhere, in another thread or program; close it there, and repair it again"
    )


def _mended(name: str, work: Path, fresh: Path, equip: Equip) -> Losses:
    try:
        return mended_copy(work, fresh, equip)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise StoreCorrupt(
                f"{name} is damaged beyond repair ({error}); restore it from a backup"
            ) from error
        if lacks_the_program(error):
            raise StoreError(
                f"{name} cannot be copied here: {error}, which the program that uses it brings; call "
                "repair() of its Store, with it registered on store.database"
            ) from error
        raise


def _check(name: str, copy: sqlite3.Connection) -> None:
    said = faults_in(copy)
    if said:
        raise StoreCorrupt(f"{name} is damaged beyond repair ({said[0]}); restore it from a backup")


_NO_DAMAGE = re.compile(
    r"ok$|CHECK constraint failed in |(non-)?[A-Z]+ value in (?!statesync_)|non-unique entry in |"
    r"no such (collation|function)"
)
"""What the check says of values that do not fit a table of the program's, and of what it lacks: a copy has
them too. Into its own tables the store writes no such values: there a page is another table's."""


def faults_in(connection: sqlite3.Connection, table: str | None = None) -> list[str]:
    """Return what SQLite finds damaged in a file, or in one table of it."""
    rows = connection.execute(f"PRAGMA integrity_check({1000 if table is None else quoted(table)})")
    return [said for (said,) in rows if not _NO_DAMAGE.match(said)]


_LACKING = ("no such collation", "no such function", "unknown function", "no such module")


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether SQLite says that the file is damaged."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def lacks_the_program(error: sqlite3.Error) -> bool:
    """Tell whether SQLite lacks something that only the program has: a collation, a function, a module."""
    said = str(error)
    return any(words in said for words in _LACKING)


def _write_through(path: Path) -> None:
    """Wait until the disk has the file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove_parts(path: Path) -> None:
    """Remove what a repair has left on its way, this one or one that was killed."""
    for part in _PARTS:
        for companion in _COMPANIONS:
            path.with_name(path.name + part + companion).unlink(missing_ok=True)
