"""Crash points: end a program at every point where it touches its database or its hub, and see what is left.

A *point* lies right before every SQL statement and every commit of a watched database, right before every
request of a watched remote, and right after every answer of it. ``CrashPoints`` runs a program once in a
forked process to list them; ``crash`` runs it again and ends that process at one of them with
``os._exit``: no transaction is rolled back, no file is closed and no ``finally`` runs, as when a process
is killed. What the operating system was given by then stays on the disk, as it would.

Needs ``os.fork``. No SQLite connection may be open in the calling process when the program is run, because
a forked process must not carry one over.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, Self

from attrs import asdict, field
from peewee import SqliteDatabase

from statesync.classes import frozen
from statesync.remote import Remote
from statesync.wire import Page, Pull, Push, PushAnswer

Program = Callable[["Watch"], object]

_CRASHED = 86
_FAILED = 87


class ProgramFailed(AssertionError):
    """The watched program raised, hung, or did not come to the point where it was to be ended."""


@frozen
class Point:
    """One place where the program can end: right before (``receive``: right after) what ``what`` says.

    ``kind`` is statement, commit, send or receive. ``number`` counts from 1.
    """

    number: int
    kind: str
    what: str

    def __str__(self) -> str:
        return f"point {self.number}, {self.kind}: {self.what}"


class Watch:
    """Given to the program: tell it of every database and every remote whose use is to be counted."""

    def __init__(self, end_at: int | None) -> None:
        self._end_at = end_at
        self._lock = threading.Lock()
        self.points: list[Point] = []

    def database(self, database: SqliteDatabase) -> None:
        """Count the statements and commits of every connection that ``database`` opens from now on.

        For a store, call it right after ``Store(path)`` with ``store.database``.
        """
        database.connect_params["factory"] = _watched_connection(self._pass)

    def remote(self, remote: Remote) -> Remote:
        """Return ``remote`` with its requests and answers counted."""
        return _WatchedRemote(remote, self._pass)

    def _pass(self, kind: str, what: str) -> None:
        with self._lock:
            point = Point(len(self.points) + 1, kind, what)
            if point.number == self._end_at:
                os._exit(_CRASHED)
            self.points.append(point)


@frozen
class CrashPoints:
    """The points of ``program``, which gets a ``Watch``. Iterating lists them, by one run of the program.

    ``patience`` is how many seconds one run may take. The program must do the same on every run, so let
    it begin with fresh copies of its files::

        points = CrashPoints(a_day_in_the_field)
        for point in points:
            restore_files()
            points.run_to(point)
            check_that_nothing_was_lost()

    A sync composes the next batch while it waits for the hub, as far as time allows: two runs of it may
    differ by a few points. ``ProgramFailed`` is raised where the program itself fails.
    """

    program: Program
    patience: float = field(default=30.0, kw_only=True)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.listed())

    def listed(self) -> tuple[Point, ...]:
        """Run the program to its end in a process of its own and return every point that it passed."""
        status, report = self._run(None)
        if status != 0:
            raise ProgramFailed(f"the program failed without a crash (exit code {status}):\n{report}")
        return tuple(Point(**point) for point in json.loads(report))

    def crash(self, at: Point | int) -> None:
        """Run the program as ``run_to`` does, and raise ``ProgramFailed`` if it ended before point ``at``."""
        if not self.run_to(at):
            raise ProgramFailed(f"the program ended and never came to {at}")

    def run_to(self, at: Point | int) -> bool:
        """Run the program in a process of its own that ends at point ``at``; False if it was over before."""
        status, report = self._run(at if isinstance(at, int) else at.number)
        if status not in (0, _CRASHED):
            raise ProgramFailed(f"the program failed before {at} (exit code {status}):\n{report}")
        return status == _CRASHED

    def _run(self, end_at: int | None) -> tuple[int, str]:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _run_in_child(self.program, end_at, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            report = _read_all(pipe.fileno(), self.patience)
        if report is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if report is None:
            raise ProgramFailed(f"the program was not over after {self.patience} seconds")
        return os.waitstatus_to_exitcode(status), report


def _run_in_child(program: Program, end_at: int | None, pipe: int) -> NoReturn:
    """Run the program and end this process, which is a copy of somebody else's, whatever happens."""
    watch = Watch(end_at)
    status = _FAILED
    try:
        program(watch)
        status = 0
    finally:  # whatever was raised must not unwind into the copy of the caller
        points = json.dumps([asdict(point) for point in watch.points])
        _write_all(pipe, (traceback.format_exc() if status else points).encode())
        os._exit(status)


def _write_all(pipe: int, report: bytes) -> None:
    while report:
        report = report[os.write(pipe, report) :]


def _read_all(pipe: int, patience: float) -> str | None:
    """Read until the other end is closed; None if nothing came for ``patience`` seconds."""
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([pipe], [], [], patience)
        if not ready:
            return None
        part = os.read(pipe, 1 << 16)
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


def _watched_connection(passing: Callable[[str, str], None]) -> type[sqlite3.Connection]:
    """Return a connection class that announces every statement and commit before it is run."""

    def announce(sql: str) -> None:
        passing("commit" if sql.lstrip()[:6].upper() == "COMMIT" else "statement", " ".join(sql.split())[:80])

    class WatchedCursor(sqlite3.Cursor):
        def execute(self, sql: str, parameters: Any = (), /) -> Self:
            announce(sql)
            return super().execute(sql, parameters)

        def executemany(self, sql: str, parameters: Iterable[Any], /) -> Self:
            announce(sql)
            return super().executemany(sql, parameters)

    class WatchedConnection(sqlite3.Connection):
        def cursor(self, factory: Any = WatchedCursor) -> Any:
            return super().cursor(factory)

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            return self.cursor().execute(sql, parameters)  # type: ignore[no-any-return]

        def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
            return self.cursor().executemany(sql, parameters)  # type: ignore[no-any-return]

        def commit(self) -> None:
            if self.in_transaction:
                announce("COMMIT")
            super().commit()

    return WatchedConnection


@frozen
class _WatchedRemote:
    _remote: Remote
    _passing: Callable[[str, str], None]

    @property
    def space(self) -> str:
        return self._remote.space

    def push(self, request: Push) -> PushAnswer:
        self._passing("send", f"push {request.number}")
        answer = self._remote.push(request)
        self._passing("receive", f"push {request.number}")
        return answer

    def pull(self, request: Pull) -> Page:
        self._passing("send", "pull")
        page = self._remote.pull(request)
        self._passing("receive", f"page of {len(page.changes)}")
        return page

    def interrupt(self) -> None:
        self._remote.interrupt()

    def close(self) -> None:
        self._remote.close()
