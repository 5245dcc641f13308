"""After the end of a process: look at what it left, open it again, sync to the end, compare everything."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from statesync import AllRejected, Remote
from statesync.testing import Point, Watch

from .checks import (
    check_applied_once,
    check_equal,
    check_journal,
    check_sessions,
    check_whole_batches,
    check_whole_pages,
    phases_of,
)
from .day import EXPECTED, IN_CONFLICT, IN_FLIGHT, OPTIONS, SHORT, edit_in_flight, live_the_day
from .field import Device, device, device_at, evidence, local_hub


def restore(morning: Path, folder: Path) -> None:
    """Make ``folder`` a copy of ``morning``."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(morning, folder)


def the_day(folder: Path) -> Callable[[Watch], None]:
    """Return the whole day, hub included, as a program to crash."""

    def program(watch: Watch) -> None:
        with local_hub(folder / "hub.db") as hub:
            live_the_day(folder, watch.remote(hub), watch)

    return program


def the_recovery(folder: Path) -> Callable[[Watch], None]:
    """Return what is done after a crash, as a program to crash once more."""

    def program(watch: Watch) -> None:
        with local_hub(folder / "hub.db") as hub:
            a = device_at(folder / "a.db")
            watch.database(a.store.database)
            a.store.setup()
            finish_the_day(a, watch.remote(hub))
            a.store.close()

    return program


def finish_the_day(a: Device, hub: Remote) -> None:
    """Do what the crash kept the day from: sync to the end, and make its two late edits."""
    scope = a.store.scope(hub)
    with suppress(AllRejected):  # nothing but the long record was left
        scope.sync(OPTIONS)
    if a.rows()["a1"][0] != IN_FLIGHT:
        edit_in_flight(a)
    if a.rows()["long"][0] != SHORT:
        a.write("long", SHORT)
    scope.sync(OPTIONS)


def check_after_crash(folder: Path) -> None:
    """Hold the files to every promise, then let both devices sync to the end and hold the outcome to them."""
    with evidence(folder) as found:
        before = phases_of(found)
        check_journal(found)
        check_whole_pages(found)
        check_whole_batches(found)
    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a, evidence(folder) as found:
        finish_the_day(a, hub)
        check_sessions(a, before)
        check_journal(found)
        check_end_of_day(found, a)
        with device(folder / "b.db") as b:
            b.store.scope(hub).sync()
            check_equal(found, a, b)


def check_end_of_day(found: sqlite3.Connection, a: Device) -> None:
    """Everything is where it belongs, once."""
    assert a.rows() == EXPECTED
    assert a.store.pending() == []
    assert Counter(entry.key for entry in a.store.conflicts()) == Counter(IN_CONFLICT)
    check_equal(found, a)
    check_applied_once(found)


@contextmanager
def naming(*points: Point) -> Iterator[None]:
    """Say in a failure at which points the process ended."""
    try:
        yield
    except AssertionError as error:
        error.add_note(f"the process had ended at {' and then at '.join(map(str, points))}")
        raise
