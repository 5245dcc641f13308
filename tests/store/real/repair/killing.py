"""Repairs that are killed: a process repairs a store and ends at a chosen place; what must be left then."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from peewee import TextField

from statesync import Store
from statesync.store.care import mending, repair, salvage

from .damage import damage
from .test_copies import page_of

WAITING = 400
KILLED = 86

Place = Callable[[FrameType, str], bool]
"""Tells whether a repair has come to where it is to be killed."""


def note_model(store: Store) -> Any:
    class Note(store.Model):  # type: ignore[name-defined, misc]
        text = TextField()

    return Note


def make(path: Path, size: int = 60) -> None:
    """Make a store with waiting changes, and a damaged page in a table of another kind."""
    with Store(path) as store:
        note = note_model(store)
        store.setup()
        with store.database.atomic():
            for number in range(WAITING):
                note.create(id=f"k{number:04}", text="x" * size)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE other (text)")
        connection.executemany("INSERT INTO other VALUES (?)", [(f"{number}" * 20,) for number in range(300)])
    damage(path, page_of(path, "other"), "noise")


def mended_or_damaged(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute('SELECT count(*) FROM "statesync_log_Note"').fetchone()
        (folded,) = connection.execute("SELECT count(*) FROM statesync_change").fetchone()
        assert max(count, folded) == WAITING
        try:
            said = connection.execute("PRAGMA integrity_check").fetchall()
        except sqlite3.DatabaseError:
            return "damaged"
    return "mended" if said == [("ok",)] else "damaged"


def repaired(path: Path) -> None:
    """Repair what a killed repair has left, and see that all of it is there."""
    with Store(path) as store:
        note = note_model(store)
        store.repair()
        store.setup()
        assert len(store.pending()) == note.select().count() == WAITING
        assert store.examine() == []
    leftovers = {found.name.removeprefix(path.name) for found in path.parent.iterdir()}
    assert leftovers <= {"", ".damaged", ".lock", "-wal", "-shm"}


def run_and_end(work: Callable[[], object]) -> int:
    """Run ``work`` in a process of its own, which ends without any clearing up; return its exit code."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def repair_until(path: Path, place: Place, act: Callable[[], None]) -> None:
    """Repair, and let ``act`` end this process at the given place."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if place(frame, event):
            act()
        return trace

    sys.settrace(trace)
    with Store(path) as store:
        store.repair()


def end() -> None:
    """End this process at once, without any clearing up."""
    os._exit(KILLED)


def limit_writes(size: int) -> Callable[[], None]:
    """Return what lets the system kill this process where it writes a file longer than ``size`` bytes."""

    def limit() -> None:
        sys.settrace(None)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def at_step(event: str, module: ModuleType, function: str) -> Place:
    """Return the place where a function is called for the first time, or returns."""
    file = module.__file__
    return lambda frame, seen: (
        (seen, frame.f_code.co_name, frame.f_code.co_filename) == (event, function, file)
    )


def at_line(number: int) -> Place:
    """Return the place before so many lines of the repair are done."""
    watched = {module.__file__ for module in (salvage, mending, repair)}
    left = number

    def is_there(frame: FrameType, event: str) -> bool:
        nonlocal left
        left -= event == "line" and frame.f_code.co_filename in watched
        return not left

    return is_there
