"""What the disk does to a session: a clear error, the session failed, the data as before (K8, K10).

Every test takes a device that has synced and edited, lets the disk fail in the middle of the next session,
and lets it recover: nothing may be lost, and the session after it must bring both sides together.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rig.child import on_a_device
from rig.device import Device, device_at
from rig.gate import Gate

from statesync import Phase, Store, SyncError, SyncOptions
from statesync.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreReadOnly
from statesync.store.file.connections import Connection
from store.care.test_doctor import leaf_of


@contextmanager
def no_more_pages(device: Device) -> Iterator[None]:
    """Let the database grow no more, as on a full disk.

    The limit is a connection's own, so every connection that is opened from here on gets it.
    """
    set_most_pages(device, 1)  # SQLite takes the pages that there are for the least
    try:
        yield
    finally:
        set_most_pages(device, 2**32 - 2)


def set_most_pages(device: Device, pages: int) -> None:
    database: Any = device.store.database
    database.pragma("max_page_count", pages, permanent=True)


def test_a_full_disk_fails_the_session_and_leaves_the_data_as_it_was(here: Device, there: Device) -> None:
    there.add(3000)
    there.sync()
    here.sync(download_batch_size=10, sync_type="upload_only")
    before = here.rows()
    with no_more_pages(here), pytest.raises(StoreFull, match="free some space") as caught:
        here.sync(download_batch_size=1000)
    assert here.rows() == before
    assert caught.value.code == StoreFull.code
    assert here.sync().phase is Phase.DONE
    assert here.rows() == there.rows()
    # The journal may not have had room for the end of the session: then the next one has ended it.
    assert here.store.sessions()[-2].phase is Phase.FAILED


def test_an_upload_whose_acknowledgement_does_not_fit_the_disk_is_settled_by_the_next_session(
    new_device: Callable[..., Device], there: Device, gate: Gate
) -> None:
    here = new_device("here", gate.url, busy_timeout=0.1)
    here.add(5)
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    blocker = sqlite3.connect(here.store.database.database, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # the answer comes, and cannot be written
    held.release()
    with pytest.raises(StoreLocked):
        session.result(30)
    blocker.execute("ROLLBACK")
    blocker.close()
    result = here.sync()
    assert result.stats.uploaded == 5
    there.sync()
    assert there.rows() == here.rows()
    assert not here.store.conflicts()
    pushes = [seen.body for seen in gate.seen if seen.verb == "push"]
    assert [push["batch"] for push in pushes] == [pushes[0]["batch"]] * 2


def test_a_database_that_another_program_holds_too_long_fails_the_session_with_who_is_to_blame(
    tmp_path: Path, address: str, space: str
) -> None:
    with (
        device_at(tmp_path / "held.db", address, space, busy_timeout=0.1) as device,
        closing(sqlite3.connect(tmp_path / "held.db", isolation_level=None)) as other,
    ):
        device.add(3)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked, match="another program is writing"):
            device.sync()
        other.execute("ROLLBACK")
        assert device.sync().stats.uploaded == 3


def test_a_page_that_is_damaged_under_a_session_fails_it_and_names_the_file(
    tmp_path: Path, address: str, space: str, there: Device
) -> None:
    there.add(3000)
    there.sync()
    path = tmp_path / "torn.db"
    with device_at(path, address, space) as device:
        device.sync()
    page, size = leaf_of(path, "airport")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    there.airport.update(name="touched").execute()
    there.sync(upload_batch_size=3000)
    with device_at(path, address, space) as device:
        with pytest.raises(StoreCorrupt, match=r"torn\.db"):
            device.sync()
        assert device.store.sessions()[-1].phase is Phase.FAILED


READ_ONLY = """
import os, shutil, sys  # the folder of the library may be closed to whom it becomes
from statesync import Store
from statesync.errors import StoreError
if os.getuid() == 0:  # to root nothing is read-only
    os.setgid(65534)
    os.setuid(65534)
try:
    store = Store.open(sys.argv[1]) if len(sys.argv) > 2 else Store(sys.argv[1])
    store.setup()
except StoreError as error:
    print(type(error).__name__, error)
"""


def let_everybody_in(folder: Path) -> None:
    """Open a folder and those around it, which pytest keeps to the user who runs it."""
    for around in (folder, *folder.parents):
        if not around.stat().st_mode & stat.S_IXOTH:
            around.chmod(0o755)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_or_folder_that_cannot_be_written_is_said_so_at_once(tmp_path: Path, what: str) -> None:
    path = make_shared(tmp_path, with_file=what == "file", file_mode=0o444)
    said = said_by_somebody_else(tmp_path, path, folder_mode=0o555)
    assert said.stdout.startswith(StoreReadOnly.__name__), said.stderr
    assert "field.db" in said.stdout


@pytest.mark.crossed
@pytest.mark.parametrize("with_file", [True, False])
@pytest.mark.parametrize("arguments", [(), ("open",)], ids=["set up", "opened without models"])
def test_a_folder_that_may_not_be_entered_is_said_so_at_once(
    tmp_path: Path, with_file: bool, arguments: tuple[str, ...]
) -> None:
    path = make_shared(tmp_path, with_file=with_file, file_mode=0o644)
    said = said_by_somebody_else(tmp_path, path, *arguments, folder_mode=0o000)
    assert said.stdout.startswith(StoreReadOnly.__name__), said.stderr
    assert "field.db cannot be reached: Permission denied" in said.stdout


def make_shared(tmp_path: Path, *, with_file: bool, file_mode: int) -> Path:
    """Make a folder, with a store in it or without, and return the store's path."""
    shared = tmp_path / "shared"
    shared.mkdir()
    path = shared / "field.db"
    if with_file:
        Store(path).setup()
        for file in shared.iterdir():
            file.chmod(file_mode)
    return path


def said_by_somebody_else(
    tmp_path: Path, path: Path, *arguments: str, folder_mode: int
) -> subprocess.CompletedProcess[str]:
    """Let a program open the store that is not root, with the folder in this mode."""
    path.parent.chmod(folder_mode)
    let_everybody_in(tmp_path)
    try:
        return subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(path), *arguments],
            env=on_a_device(PYTHONPATH=os.pathsep.join([on_a_device()["PYTHONPATH"], *sys.path])),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("kind", [StoreFull, StoreLocked, StoreReadOnly, StoreCorrupt])
def test_every_error_of_the_disk_has_its_own_code(kind: type[StoreError]) -> None:
    codes = [other.code for other in (StoreError, StoreFull, StoreLocked, StoreReadOnly, StoreCorrupt)]
    assert codes.count(kind.code) == 1


def test_a_disk_that_is_full_from_the_first_write_on_says_so_before_a_session_exists(
    here: Device, new_device: Callable[..., Device]
) -> None:
    here.sync()
    sessions = here.store.sessions()
    here.add(2000)
    here.store.database.close()
    with no_more_pages(here), pytest.raises(SyncError) as caught:
        here.scope.sync(SyncOptions(upload_batch_size=2000))
    assert isinstance(caught.value, StoreFull)
    assert len(here.rows()) == 2000
    assert here.sync(upload_batch_size=2000).stats.uploaded == 2000
    assert len(here.store.sessions()) <= len(sessions) + 2


class FullAtCommit(Connection):
    """A connection to a disk that has no room for the log: SQLite rolls back by itself, and says why."""

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(FullCursor)


class FullCursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = (), /) -> FullCursor:
        if sql != "COMMIT":
            return super().execute(sql, parameters)
        super().execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")


def test_a_disk_that_is_full_at_the_commit_is_named_as_that(here: Device, there: Device) -> None:
    there.add(10)
    there.sync()
    database: Any = here.store.database
    database.close()
    database.connect_params["factory"] = FullAtCommit
    with pytest.raises(StoreFull, match="free some space"):
        here.sync()
    database.close()
    database.connect_params["factory"] = Connection
    assert here.sync().stats.downloaded == 10


def test_a_program_that_is_out_of_memory_is_told_so(here: Device, there: Device) -> None:
    there.add(10)
    there.sync()

    def exhaust() -> None:
        raise MemoryError  # which SQLite takes for its own, and reports as that

    database: Any = here.store.database
    database.register_function(exhaust, "exhaust", 0)
    here.execute("CREATE TRIGGER fails BEFORE INSERT ON airport BEGIN SELECT exhaust(); END")
    with pytest.raises(StoreError, match="out of memory; give the program more"):
        here.sync()
    here.execute("DROP TRIGGER fails")
    assert here.sync().stats.downloaded == 10
