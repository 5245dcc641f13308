"""A repair that is killed leaves the damaged file or the mended one; nobody else writes meanwhile."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from peewee import TextField

from statesync import Store, StoreLocked, SyncInProgress
from statesync.store.care import mending, repair, salvage

from .damage import damage
from .test_copies import page_of

WAITING = 400
_KILLED = 86


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
        database: Any = store.database
        database.execute_sql("CREATE TABLE other (text)")
        for number in range(300):
            database.execute_sql("INSERT INTO other VALUES (?)", (f"{number}" * 20,))
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


def repair_until(path: Path, step: int) -> None:
    """Repair, and end this process before the given line of the salvage."""
    watched = {module.__file__ for module in (salvage, mending, repair)}
    left = step

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in watched:
            return None
        if event == "line":
            left -= 1
            if not left:
                os._exit(_KILLED)
        return trace

    sys.settrace(trace)
    with Store(path) as store:
        store.repair()


@pytest.mark.parametrize("stride", [pytest.param(10), pytest.param(3, marks=pytest.mark.long)])
def test_a_repair_that_is_killed_at_any_step_leaves_the_damaged_file_or_the_mended_one(
    tmp_path: Path, stride: int
) -> None:
    make(tmp_path / "first.db")
    template = (tmp_path / "first.db").read_bytes()
    seen, step = [], 1
    while True:
        folder = tmp_path / f"{step}"
        folder.mkdir()
        path = folder / "notes.db"
        path.write_bytes(template)
        if run_and_end(partial(repair_until, path, step)) != _KILLED:
            break
        seen.append(mended_or_damaged(path))
        repaired(path)
        step += stride
    assert {"damaged", "mended"} == set(seen)
    assert seen == sorted(seen)


def test_a_repair_that_is_killed_at_any_moment_leaves_the_damaged_file_or_the_mended_one(
    tmp_path: Path,
) -> None:
    make(tmp_path / "first.db", size=9000)
    template = (tmp_path / "first.db").read_bytes()
    began = time.perf_counter()
    path = tmp_path / "whole.db"
    path.write_bytes(template)
    assert run_and_end(lambda: Store(path).repair()) == 0
    whole = time.perf_counter() - began
    chance = random.Random(8)
    for trial in range(20):
        folder = tmp_path / f"{trial}"
        folder.mkdir()
        path = folder / "notes.db"
        path.write_bytes(template)
        child = os.fork()
        if child == 0:
            try:
                Store(path).repair()
            finally:
                os._exit(0)
        threading.Event().wait(chance.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        mended_or_damaged(path)
        repaired(path)


# -- nobody else ------------------------------------------------------------------------------------------


def test_a_repair_refuses_while_a_thread_of_the_program_has_the_file_open(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    make(path)
    before = path.read_bytes()
    store = Store(path)
    note = note_model(store)
    is_open, may_end = threading.Event(), threading.Event()

    def read() -> None:
        assert note.select().count() == WAITING
        is_open.set()
        may_end.wait(20)
        store.database.close()

    thread = threading.Thread(target=read)
    thread.start()
    assert is_open.wait(20)
    with pytest.raises(StoreLocked, match=r"open elsewhere.*close it there"):
        store.repair()
    assert path.read_bytes() == before
    may_end.set()
    thread.join()
    store.repair()
    store.close()
    assert mended_or_damaged(path) == "mended"


def test_a_repair_refuses_while_another_program_has_the_file_open(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    make(path)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM statesync_session").fetchone() == (0,)
        with Store(path) as store, pytest.raises(StoreLocked, match="open elsewhere"):
            store.repair()
    repaired(path)


def test_whoever_opens_the_file_after_a_repair_writes_into_the_mended_one(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    make(path)
    link = tmp_path / "link.db"
    link.symlink_to(path)
    os.chmod(path, 0o600)
    inode = path.stat().st_ino
    with Store(link) as store:
        store.repair()
    assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (inode, 0o600)
    assert link.is_symlink()
    assert mended_or_damaged(path) == "mended"


def test_a_repair_waits_for_no_session(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    make(path)
    with (
        Store(path) as holder,
        holder._parts.lock.held(),
        Store(path) as store,
        pytest.raises(SyncInProgress),
    ):
        store.repair()
