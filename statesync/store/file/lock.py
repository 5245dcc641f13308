"""The lock of a store: one session at a time, across threads and processes.

It is a lock on a file beside the database, which dies with its holder.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

from statesync.errors import StoreReadOnly, SyncInProgress, UsageError

_held: set[int] = set()
"""The files that this process has locked."""


class StoreLock:
    """The lock of the database at ``path``; the file beside it is made when it is first taken."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process = os.getpid()
        self._in_use = threading.Lock()
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the store, or raise ``SyncInProgress`` if somebody else has it; never waits.

        Raises ``UsageError`` after a fork: neither SQLite's connections nor the lock are the child's. Raises
        ``StoreReadOnly`` where there is no place for the file.
        """
        name = self._path.name
        if os.getpid() != self._process:
            raise UsageError(f"the process has forked since {name} was opened; make another Store")
        busy = SyncInProgress(f"another session is using {name}; wait for it, or cancel it")
        if not self._in_use.acquire(blocking=False):
            raise busy
        try:
            self._file = _lock(f"{self._path}.lock")
        except OSError as error:
            raise StoreReadOnly(f"the lock beside {name} cannot be written: {error}") from error
        finally:
            if self._file is None:
                self._in_use.release()
        if self._file is None:
            raise busy

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the store for the length of the block; raises what ``acquire`` raises."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Give the store back."""
        file, self._file = self._file, None
        if file in _held:  # in a process that was forked meanwhile it is not: the lock is its parent's
            _unlock(file)
        self._in_use.release()


def _lock(path: str) -> int | None:
    """Return the open file once it is locked, None if somebody else has locked it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    is_ours = False
    try:
        is_ours = lock_descriptor(file, blocking=False)
    finally:
        if not is_ours:
            os.close(file)
    if not is_ours:
        return None
    _held.add(file)
    return file


def _unlock(file: int) -> None:
    _held.discard(file)
    try:
        unlock_descriptor(file)  # closing is not enough while anybody else has it open
    finally:
        os.close(file)


def _let_go() -> None:
    """Close what a fork has copied: a child that outlives its parent must not keep the store locked."""
    for file in _held:
        os.close(file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
