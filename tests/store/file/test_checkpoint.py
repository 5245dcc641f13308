"""What a large sync leaves in SQLite's log is written back beside the program; only a close waits for it."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rig.device import Device

from statesync import Progress, SyncCancelled, SyncOptions
from statesync.sqlite.wal import write_back
from statesync.store.file import log_length
from statesync.threads import Task, Threads

PATIENCE = 10.0
LARGE = 40_000
"""Bytes of a record; 150 of them are 1500 pages of SQLite's log."""


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Task]]:
    """The tasks of the database that wait for ``release``; they are done in the end."""
    tasks: list[Task] = []

    class Holding(Threads):
        def start(self, task: Task) -> None:
            tasks.append(task)

    monkeypatch.setattr(log_length, "threads", Holding())
    yield tasks
    release(tasks)


def release(tasks: list[Task]) -> None:
    """Do what was held."""
    for task in tasks:
        threads = Threads()
        threads.start(task)
        assert task.wait(PATIENCE)
    tasks.clear()


def file_of(device: Device) -> Path:
    return Path(device.store.database.database)


def fill(device: Device, count: int, size: int = LARGE) -> None:
    """Put records on the hub."""
    with device.store.database.atomic():
        for number in range(count):
            device.airport.create(id=f"k{number:05}", name="large", plan=os.urandom(size))
    device.sync()


def shorten_log(device: Device) -> None:
    """Have a session's log written back when it has 1200 pages, which a page of 150 records fills."""
    database: Any = device.store.database
    database.pragma("wal_autocheckpoint", 300, permanent=True)


def log_limit(device: Device) -> int:
    """Return the pages after which the calling thread's connection writes its log back."""
    return int(device.execute("PRAGMA wal_autocheckpoint").fetchone()[0])


def test_the_end_of_a_large_sync_does_not_wait_until_its_log_is_written_back(
    here: Device, there: Device, held: list[Task]
) -> None:
    fill(there, 150)
    release(held)
    shorten_log(here)
    before = file_of(here).stat().st_size
    assert here.sync(download_batch_size=150).stats.downloaded == 150
    assert file_of(here).stat().st_size == before
    assert here.airport.select().count() == 150
    release(held)
    assert file_of(here).stat().st_size >= before + 150 * LARGE


def test_nor_does_the_end_of_a_cancel(here: Device, there: Device, held: list[Task]) -> None:
    fill(there, 200)
    release(held)
    shorten_log(here)
    before = file_of(here).stat().st_size

    def cancel(event: Any) -> None:
        if event.batch == 1 and event.state == "in_progress":
            here.scope.cancel_sync()

    session = here.scope.start_sync(SyncOptions(download_batch_size=150), on_progress=cancel)
    with pytest.raises(SyncCancelled):
        session.result(PATIENCE)
    assert here.airport.select().count() == 150
    assert file_of(here).stat().st_size == before
    assert len(held) == 1


def test_what_many_small_batches_have_stored_is_written_back_too(
    here: Device, there: Device, held: list[Task]
) -> None:
    fill(there, 120, size=10)
    release(held)
    assert here.sync(download_batch_size=40).stats.downloaded == 120
    assert len(held) == 1


def test_a_small_sync_leaves_writing_back_to_sqlite(here: Device, there: Device, held: list[Task]) -> None:
    fill(there, 20, size=10)
    here.sync()
    assert held == []


def test_who_closes_the_file_has_all_of_it(here: Device, there: Device, tmp_path: Path) -> None:
    fill(there, 150)
    here.sync(download_batch_size=150)
    here.store.close()
    assert not Path(f"{file_of(here)}-wal").exists()
    copy = shutil.copy(file_of(here), tmp_path / "copy.db")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM airport").fetchone() == (150,)


def test_a_close_waits_until_the_log_is_written_back(here: Device, there: Device, held: list[Task]) -> None:
    fill(there, 150)
    release(held)
    here.sync(download_batch_size=150)
    closed = threading.Event()

    def close() -> None:
        here.store.close()
        closed.set()

    closer = threading.Thread(target=close)
    closer.start()
    assert not closed.wait(0.1)
    release(held)
    closer.join(PATIENCE)
    assert closed.is_set()


def test_a_session_that_outlives_the_programs_connection_puts_nothing_off(
    here: Device, there: Device, held: list[Task]
) -> None:
    fill(there, 150)
    release(held)
    session = here.scope.start_sync(SyncOptions(download_batch_size=150))
    here.store.database.close()
    session.result(PATIENCE)
    assert held == []
    assert not Path(f"{file_of(here)}-wal").exists()


def test_the_next_session_finds_its_limit_as_it_was_and_so_does_the_program(
    here: Device, there: Device
) -> None:
    fill(there, 150)
    database: Any = here.store.database
    seen: list[int] = []

    def look(event: Progress) -> None:
        if event.state == "started":
            session = database._session.execute("PRAGMA wal_autocheckpoint")
            seen.append(session.fetchone()[0])

    for _ in range(2):
        here.scope.start_sync(SyncOptions(download_batch_size=150), on_progress=look).result(PATIENCE)
    assert (seen, log_limit(here)) == ([4000] * 4, 1000)


def test_a_program_that_writes_its_log_back_itself_goes_on_doing_so(
    here: Device, there: Device, held: list[Task]
) -> None:
    database: Any = here.store.database
    database.pragma("wal_autocheckpoint", 0, permanent=True)
    fill(there, 150)
    release(held)
    before = file_of(here).stat().st_size
    here.sync(download_batch_size=150)
    assert held == []
    assert file_of(here).stat().st_size == before


def test_a_log_that_cannot_be_written_back_is_told_of_and_makes_no_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        write_back(tmp_path / "gone.db")
    assert "the log of gone.db could not be written back" in caplog.text
    assert list(tmp_path.iterdir()) == []
