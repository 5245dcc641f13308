"""A device's file is taken away, or replaced, while it is open: no session says that it is done."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Thread

import pytest
from rig.device import Device, device_at
from rig.gate import Gate

from statesync import Phase, StoreError


def path_of(device: Device) -> Path:
    return Path(device.store.database.database)


def backup(path: Path) -> Path:
    copy = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def take_away(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    backup(path).replace(path)


WAYS = pytest.mark.parametrize(
    ("lose", "words"), [(take_away, "was deleted or moved"), (replace, "another file was put in the place")]
)


@WAYS
def test_no_session_is_done_on_a_file_that_was_taken_away_before(
    here: Device, lose: Callable[[Path], None], words: str
) -> None:
    here.sync()
    here.add(3)
    lose(path_of(here))
    for _ in range(2):
        with pytest.raises(StoreError, match=words):
            here.sync()


@WAYS
def test_no_session_is_done_whose_file_is_taken_away_while_it_runs(
    here: Device, gate: Gate, lose: Callable[[Path], None], words: str
) -> None:
    here.add(3)
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    lose(path_of(here))
    held.release()
    with pytest.raises(StoreError, match=words):
        session.result(30)


@WAYS
def test_what_the_library_writes_between_sessions_is_not_lost_in_silence(
    here: Device, lose: Callable[[Path], None], words: str
) -> None:
    here.add(3)
    here.sync()
    lose(path_of(here))
    with pytest.raises(StoreError, match=words):
        here.store.retry()


def test_a_file_that_was_moved_and_is_back_is_gone_on_with(here: Device, there: Device) -> None:
    here.add(3)
    path = path_of(here)
    path.replace(path.with_name("elsewhere.db"))
    with pytest.raises(StoreError):
        here.sync()
    path.with_name("elsewhere.db").replace(path)
    assert here.sync().phase is Phase.DONE
    there.sync()
    assert there.rows() == here.rows()


def test_no_other_thread_opens_the_new_file_while_the_old_one_is_in_use(here: Device) -> None:
    here.add(3)
    replace(path_of(here))
    raised: list[BaseException] = []

    def read() -> None:
        try:
            here.rows()
        except StoreError as error:
            raised.append(error)

    thread = Thread(target=read)
    thread.start()
    thread.join()
    assert "close the store" in str(raised)


def test_a_backup_in_the_place_of_an_open_file_is_not_damaged_by_the_log_of_the_old_one(
    tmp_path: Path, address: str, space: str, there: Device
) -> None:
    path = tmp_path / "device.db"
    with ExitStack() as before:
        device = before.enter_context(device_at(path, address, space))
        device.add(3)
        copy = backup(path)
        device.add(2000, first=3)
        copy.replace(path)
        with pytest.raises(StoreError):
            device.sync()
    with device_at(path, address, space) as device:
        assert device.keys() == ["k00000", "k00001", "k00002"]
        assert device.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        device.sync()
        there.sync()
        assert there.rows() == device.rows()
