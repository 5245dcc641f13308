"""A repair that is killed leaves the damaged file or the mended one; nobody else writes meanwhile.

For kills at any line and at any moment: ``PYTHONPATH=tests python -m store.real.repair.search``.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from rig.search import some

from statesync import Store, StoreLocked, SyncInProgress
from statesync.store.care import mending, salvage, settling

from .killing import (
    KILLED,
    WAITING,
    at_step,
    end,
    limit_writes,
    make,
    mended_or_damaged,
    note_model,
    repair_until,
    repaired,
    run_and_end,
)

STEPS = [
    ("call", salvage, "remove_parts"),
    ("call", salvage, "_replace"),
    ("call", salvage, "_write_through"),
    ("call", salvage, "_mended"),
    ("call", mending, "_losses"),
    ("call", mending, "_make_indexes_anew"),
    ("call", mending, "_copy"),
    ("return", mending, "_copy"),
    ("call", settling, "settle"),
    ("return", settling, "settle"),
    ("call", salvage, "_check"),
    ("return", salvage, "_replace"),
    ("return", salvage, "salvage"),
]
"""Where a repair is killed: once between each two things that it does to a file."""


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("first") / "notes.db"
    make(path)
    return path.read_bytes()


@pytest.mark.parametrize(("event", "module", "function"), some(STEPS, 3))
def test_a_repair_that_is_killed_at_any_step_leaves_the_damaged_file_or_the_mended_one(
    damaged: bytes, tmp_path: Path, event: str, module: ModuleType, function: str
) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(damaged)
    assert run_and_end(partial(repair_until, path, at_step(event, module, function), end)) == KILLED
    is_written = (event, module) == ("return", salvage)
    assert mended_or_damaged(path) == ("mended" if is_written else "damaged")
    repaired(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_repair_that_is_killed_while_it_writes_into_the_file_leaves_the_damaged_one(
    damaged: bytes, tmp_path: Path, share: float
) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(damaged)
    size = int(len(damaged) * share)
    killed = run_and_end(
        partial(repair_until, path, at_step("return", salvage, "_check"), limit_writes(size))
    )
    assert killed == -signal.SIGXFSZ
    assert 0 < path.with_name("notes.db-wal").stat().st_size <= size
    assert mended_or_damaged(path) == "damaged"
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
