"""The lock of a store is one process's, whatever that process forks; see also ``faults/test_two_runners``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rig.child import on_a_device

from statesync.errors import StoreReadOnly, SyncInProgress
from statesync.store.file.lock import StoreLock

PATIENCE = 10.0

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device.db"


def forked(work: Callable[[], object]) -> int:
    """Do ``work`` in a child and return its exit code: 0 if it raised nothing."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_free(path: Path) -> bool:
    lock = StoreLock(path)
    try:
        lock.acquire()
    except SyncInProgress:
        return False
    lock.release()
    return True


def test_it_is_taken_until_it_is_given_back(path: Path) -> None:
    lock = StoreLock(path)
    for _ in range(3):
        lock.acquire()
        assert not is_free(path)
        with pytest.raises(SyncInProgress):
            lock.acquire()
        lock.release()
        assert is_free(path)


def test_no_file_stays_open(path: Path) -> None:
    lock, before = StoreLock(path), len(os.listdir("/dev/fd"))
    lock.acquire()
    assert not is_free(path)
    lock.release()
    assert len(os.listdir("/dev/fd")) == before


def test_a_child_that_ends_leaves_the_store_to_its_parent(path: Path) -> None:
    lock = StoreLock(path)
    lock.acquire()
    assert forked(lambda: None) == 0
    assert not is_free(path)
    lock.release()
    assert is_free(path)


def test_a_child_that_gives_back_what_its_parent_holds_takes_nothing_away(path: Path) -> None:
    lock = StoreLock(path)
    lock.acquire()
    assert forked(lock.release) == 0
    assert not is_free(path)
    lock.release()


def test_a_child_that_outlives_its_parent_keeps_no_store_locked(path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from statesync.store.file.lock import StoreLock\n"
        "lock = StoreLock(Path(sys.argv[1])); lock.acquire()\n"
        "if os.fork() == 0: print('forked', flush=True)\n"
        "sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        env=on_a_device(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "forked\n"
        assert not is_free(path)
        parent.kill()
        parent.wait(PATIENCE)
        assert is_free(path)  # closing its input, which the block does, ends the child


def test_it_is_free_at_once_though_a_child_has_not_let_go_yet(path: Path) -> None:
    # In a process of one thread: what a child of many inherits may be locked for ever. ``PyDLL`` keeps the
    # interpreter, and nothing of Python's runs in the child that could let go.
    code = (
        "import ctypes, os, sys; from pathlib import Path; from statesync.store.file.lock import StoreLock\n"
        "lock, other = (StoreLock(Path(sys.argv[1])) for _ in range(2)); lock.acquire()\n"
        "ours, theirs = os.pipe()\n"
        "if ctypes.PyDLL(None).fork() == 0: os.close(theirs); os.read(ours, 1); os._exit(0)\n"
        "lock.release(); other.acquire(); other.release()\n"
        "os.close(theirs); print(os.wait()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        env=on_a_device(),
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_a_place_that_cannot_be_written_is_named_and_can_be_tried_again(path: Path) -> None:
    place, lock = Path(f"{path}.lock"), StoreLock(path)
    place.mkdir()
    for _ in range(2):
        with pytest.raises(StoreReadOnly, match=r"the lock beside device\.db cannot be written"):
            lock.acquire()
    place.rmdir()
    lock.acquire()
    lock.release()
