"""Two runners: threads, processes, killed ones, copies and restored backups; on either side."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from statesync import AllRejected, Phase, Remote, SyncInProgress, WrongHub
from statesync.wire import Page, Pull, Push, PushAnswer

from .checks import check_applied_once, check_equal, check_sessions
from .day import OPTIONS
from .field import Device, device, evidence, local_hub, make_hub
from .recovery import check_end_of_day, finish_the_day, restore


class Gate:
    """A remote that says when a request has come, and holds it until it is let through."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.has_come = threading.Event()
        self.opened = threading.Event()

    @property
    def space(self) -> str:
        return self._remote.space

    def push(self, request: Push) -> PushAnswer:
        self._hold()
        return self._remote.push(request)

    def pull(self, request: Pull) -> Page:
        self._hold()
        return self._remote.pull(request)

    def interrupt(self) -> None:
        self.opened.set()

    def close(self) -> None:
        self._remote.close()

    def _hold(self) -> None:
        self.has_come.set()
        assert self.opened.wait(30)


@pytest.fixture
def hub(morning: Path, folder: Path) -> Iterator[Remote]:
    restore(morning, folder)
    with local_hub(folder / "hub.db") as remote:
        yield remote


def copy(source: Path, target: Path) -> None:
    """Copy a database that nobody has open, as somebody would who knows of one file alone."""
    assert not source.with_name(source.name + "-wal").exists()
    shutil.copy(source, target)


def test_a_second_thread_is_told_that_a_sync_is_in_progress(folder: Path, hub: Remote) -> None:
    with device(folder / "a.db") as a:
        gate = Gate(hub)
        first = a.store.scope(gate).start_sync(OPTIONS)
        assert gate.has_come.wait(10)
        with pytest.raises(SyncInProgress):
            a.store.scope(hub).sync(OPTIONS)
        gate.opened.set()
        first.result(30)
        finish_the_day(a, hub)
        with evidence(folder) as found:
            check_end_of_day(found, a)


def test_many_threads_sync_one_after_the_other_or_not_at_all(folder: Path, hub: Remote) -> None:
    with device(folder / "a.db") as a:
        outcomes: list[str] = []

        def try_to_sync() -> None:
            try:
                outcomes.append(a.store.scope(hub).sync(OPTIONS).phase)
            except (SyncInProgress, AllRejected) as error:  # the record that is too long may be left alone
                outcomes.append(error.reason)
            finally:
                a.store.database.close()

        threads = [threading.Thread(target=try_to_sync) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(outcomes) <= {"done", "sync_in_progress", "all_rejected"}
        assert "done" in outcomes
        finish_the_day(a, hub)
        check_sessions(a, {})
        with evidence(folder) as found:
            check_end_of_day(found, a)


def _sync_behind_a_gate(folder: Path, speak: Connection) -> None:
    """Be the other process: start a sync whose request hangs, say so, and wait to be killed."""
    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a:
        gate = Gate(hub)
        session = a.store.scope(gate).start_sync(OPTIONS)
        gate.has_come.wait(10)
        speak.send(session.id)
        session.wait(60)


def test_a_second_process_waits_for_the_first_and_goes_on_when_that_is_killed(
    morning: Path, folder: Path
) -> None:
    restore(morning, folder)
    listen, speak = multiprocessing.Pipe(duplex=False)
    other = multiprocessing.get_context("fork").Process(target=_sync_behind_a_gate, args=(folder, speak))
    other.start()
    session = listen.recv()
    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a:
        (running,) = [found for found in a.store.sessions() if found.id == session]
        assert running.phase is Phase.UPLOADING, (
            "a session that is alive must not be ended by who opens the store"
        )
        with pytest.raises(SyncInProgress):
            a.store.scope(hub).sync(OPTIONS)
        assert other.pid is not None
        os.kill(other.pid, signal.SIGKILL)
        other.join()
        finish_the_day(a, hub)
        (killed,) = [found for found in a.store.sessions() if found.id == session]
        assert (killed.phase, killed.reason) == (Phase.FAILED, "interrupted")
        with evidence(folder) as found:
            check_end_of_day(found, a)


def identity(folder: Path, name: str) -> str:
    with closing(sqlite3.connect(folder / name)) as database:
        return str(database.execute("SELECT client FROM statesync_space").fetchone()[0])


def settle(folder: Path, hub: Remote, *devices: Device) -> None:
    """Let everybody sync twice, and find everybody equal."""
    for _ in range(2):
        for one in devices:
            one.store.scope(hub).sync()
    with evidence(folder) as found:
        check_equal(found, *devices)
    for one in devices:
        assert one.store.pending() == []


def test_a_copied_database_gets_an_identity_of_its_own_and_keeps_its_changes(
    folder: Path, hub: Remote
) -> None:
    with device(folder / "a.db") as a:
        finish_the_day(a, hub)
    copy(folder / "a.db", folder / "c.db")
    with device(folder / "a.db") as a, device(folder / "c.db") as c:
        a.write("from a", "only here")
        a.write("b1", "changed on the original")
        c.write("from c", "only there")
        c.write("b2", "changed on the copy")
        settle(folder, hub, a, c)
        rows = a.rows()
        assert rows["from a"] == ("only here", None)
        assert rows["from c"] == ("only there", None)
        assert rows["b1"][0] == "changed on the original"
        assert rows["b2"][0] == "changed on the copy"
    assert identity(folder, "a.db") != identity(folder, "c.db")


def test_a_copy_with_pending_changes_applies_none_of_them_twice(folder: Path, hub: Remote) -> None:
    copy(folder / "a.db", folder / "c.db")
    with device(folder / "a.db") as a, device(folder / "c.db") as c:
        finish_the_day(a, hub)
        finish_the_day(c, hub)
        settle(folder, hub, a, c)
        with evidence(folder) as found:
            check_end_of_day(found, a)


def test_a_device_restored_from_an_older_backup_loses_and_repeats_nothing(folder: Path, hub: Remote) -> None:
    copy(folder / "a.db", folder / "backup.db")
    with device(folder / "a.db") as a:
        finish_the_day(a, hub)
        a.write("after", "written after the backup")
        a.write("a2", "changed after the backup")
        a.store.scope(hub).sync()
    copy(folder / "backup.db", folder / "a.db")
    with device(folder / "a.db") as a, device(folder / "b.db") as b:
        a.write("again", "written after the restore")
        finish_the_day(a, hub)
        settle(folder, hub, a, b)
        rows = a.rows()
        assert rows["after"] == ("written after the backup", None)
        assert rows["a2"][0] == "changed after the backup"
        assert rows["again"] == ("written after the restore", None)
        with evidence(folder) as found:
            check_applied_once(found)


def test_a_hub_restored_from_an_older_backup_gets_back_what_it_lost(morning: Path, folder: Path) -> None:
    restore(morning, folder)
    copy(folder / "hub.db", folder / "backup.db")
    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a, device(folder / "b.db") as b:
        finish_the_day(a, hub)
        b.write("late", "of b")
        b.store.scope(hub).sync()
        a.write("later", "of a")
        a.store.scope(hub).sync()
        rows = a.rows()
    copy(folder / "backup.db", folder / "hub.db")
    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a, device(folder / "b.db") as b:
        b.write("newest", "made while the hub was away")
        settle(folder, hub, a, b)
        # s4 was deleted after the backup, and nobody remembers a delete that the hub has forgotten.
        assert a.rows() == {**rows, "newest": ("made while the hub was away", None), "s4": ("s4", 4)}


def test_a_hub_replaced_by_an_empty_one_is_refused_until_the_user_says_so(
    morning: Path, folder: Path
) -> None:
    restore(morning, folder)
    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a:
        finish_the_day(a, hub)
    (folder / "hub.db").unlink()
    make_hub(folder / "hub.db")
    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a:
        a.write("new", "waits for a hub")
        rows = a.rows()
        with pytest.raises(WrongHub, match="reset"):
            a.store.scope(hub).sync()
        assert a.rows() == rows
        assert [change.key for change in a.store.pending()] == ["new"]
        a.store.reset(keep_records=True)
        settle(folder, hub, a)
        assert a.rows() == rows
