"""What a database's errors mean, and what a device is told of each.

SQLite and PostgreSQL say it by a number or a code of their own. Peewee keeps the driver's error in its own.
An error that stands in no table here is a defect of the hub.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from pathlib import Path

import peewee
import psycopg

from statesync.classes import define, frozen
from statesync.errors import UsageError
from statesync.hub.errors import Refused, refused

_log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two warnings."""


class Undone(peewee.PeeweeException):
    """A statement had failed before the commit came to it: nothing was committed. ``orig`` is its error."""

    def __init__(self, orig: Exception) -> None:
        super().__init__(str(orig))
        self.orig: Exception = orig


@frozen
class Failure:
    """Why a database did not do what it was asked to do, though the hub has made no mistake."""

    words: str
    """What has happened, for the device and the log, in words that come after "the hub's database"."""
    code: str = "database_unavailable"
    status: int = 503
    retry_after: float = 1.0
    is_lasting: bool = True
    """Whether connections that are open now would fail again where new ones may not."""
    needs_care: bool = False
    """Whether the hub is not ready until whoever runs it has done something."""

    def refusal(self) -> Refused:
        """Return what a device is told; nothing of its request was applied."""
        return refused(self.status, self.code, f"the hub's database {self.words}", self.retry_after)


BUSY = Failure("is busy; try again", is_lasting=False)
LOCKED = Failure("has others who write for too long; try again", "busy", is_lasting=False)
AWAY = Failure("is busy or away; try again")
FULL = Failure(
    "has no room left on its disk, and stores nothing until whoever runs the hub has freed some",
    "storage_full", 507, 5.0, is_lasting=False, needs_care=True,
)  # fmt: skip
NEARLY_FULL = Failure(
    "has next to no room left on its disk; whoever runs the hub has to free some",
    "storage_full", 507, 5.0, is_lasting=False,
)  # fmt: skip
READ_ONLY = Failure(
    "can only be read now, as a standby or a disk that is write-protected; try again", "database_read_only"
)
OUT_OF_MEMORY = Failure("is out of memory; try again")
BROKEN_DISK = Failure("cannot read or write its disk; whoever runs the hub has to look at it")
INHERITED = Failure("was in use when this process was forked, and cannot be opened here", is_lasting=False)
GONE = Failure(
    "is a file that is no longer there; whoever runs the hub has to put it back", is_lasting=False,
    needs_care=True,
)  # fmt: skip
"""Its connections stay open: the file may have been moved, and come back, and its log is with them."""
REPLACED = Failure("is another file by now; the hub goes on with it, if it is a hub's", needs_care=True)
DAMAGED = Failure("is damaged; whoever runs the hub has to restore it from a backup")
NO_HUB = Failure(
    "has no hub of this version in it; whoever runs the hub has to finish its restore, or to make one with: "
    "statesync hub init", needs_care=True,
)  # fmt: skip
NO_RIGHTS = Failure(
    "does not let the hub use its tables; whoever runs the hub has to finish its restore, or to give the "
    "hub's user the rights to them", needs_care=True,
)  # fmt: skip


class WrongFile(Exception):
    """A path does not lead to the file that was opened by it."""

    def __init__(self, failure: Failure, path: Path) -> None:
        super().__init__(f"{path} is not the file that was opened by this name")
        self.failure = failure


_BY_SQLITE = {
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_NOMEM: OUT_OF_MEMORY,
    sqlite3.SQLITE_IOERR: BROKEN_DISK,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}
"""By the lowest byte of SQLite's error code."""

_BY_SQLSTATE = {
    "25006": READ_ONLY,
    "25P03": AWAY,  # a transaction stood still for too long, and its connection was ended
    "25P04": AWAY,  # or took too long in all
    "26000": AWAY,  # what the connection had prepared is gone: whoever pools it has given it another server
    "40001": BUSY,  # two transactions that could not both be right
    "3F000": NO_HUB,  # no schema that the search_path names
    "40P01": BUSY,
    "42501": NO_RIGHTS,
    "42703": NO_HUB,  # a column is missing
    "42P01": NO_HUB,  # a table is
    "53100": FULL,
    "53200": OUT_OF_MEMORY,
    "55P03": LOCKED,
    "57014": BUSY,  # a statement or a lock took too long
    "58030": BROKEN_DISK,
    "XX001": DAMAGED,
    "XX002": DAMAGED,
}

_LACKS = re.compile("no such (?:table|column): |has no column named ")
"""How SQLite says what PostgreSQL has codes for: it has one for every fault of a statement."""


_LIKE_AWAY = (
    peewee.OperationalError,
    peewee.InterfaceError,
    sqlite3.OperationalError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)


def failure_of(error: BaseException) -> Failure | None:
    """Return what an error of a database's means; None if it is none, or a defect of the hub."""
    if isinstance(error, Undone):
        error = error.orig
    native = native_of(error)
    if isinstance(native, WrongFile):
        return native.failure
    if isinstance(native, MemoryError):
        return OUT_OF_MEMORY
    if isinstance(native, UsageError):
        return INHERITED
    if isinstance(native, sqlite3.Error):
        found = NO_HUB if _LACKS.search(str(native)) else _by_code(native)
    else:
        found = _BY_SQLSTATE.get(getattr(native, "sqlstate", None) or "")
    is_away = isinstance(error, _LIKE_AWAY)
    return found or (AWAY if is_away else None)


def _by_code(native: sqlite3.Error) -> Failure | None:
    return _BY_SQLITE.get(getattr(native, "sqlite_errorcode", 0) & 0xFF)


def native_of(error: object) -> object:
    """Return the driver's own error, which Peewee keeps in its own."""
    while isinstance(error, peewee.PeeweeException) and (orig := getattr(error, "orig", None)) is not None:
        error = orig  # it wraps its own, too
    return error


@define(eq=False)
class Warnings:
    """Logs what fails, once in ``PAUSE`` seconds: a database that is away fails every request."""

    _last: float = float("-inf")
    _unsaid: int = 0

    def warn(self, what: str, error: BaseException) -> None:
        """Log what has failed, with the number of those before it that were not logged."""
        now = time.monotonic()
        if now < self._last + PAUSE:
            self._unsaid += 1
            return
        unsaid, self._unsaid, self._last = self._unsaid, 0, now
        more = f" (and {unsaid} failures before this one)" if unsaid else ""
        _log.warning("%s: %s%s", what, error, more)
