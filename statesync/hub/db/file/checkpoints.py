"""Writing a hub's SQLite file: one after the other, and its log is kept short while no push waits for it.

SQLite would write the log back within the commit that makes it long, and every other writer would wait.
If changes are scattered over many records, that takes as long as a push, every few pushes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from attrs import field

from statesync.classes import define
from statesync.hub.errors import busy
from statesync.sqlite.wal import write_back

PAUSE = 1.0
"""Seconds from a write to the writing back; a page that is written again meanwhile is written back once."""


class Checkpoints:
    """Writes back the log of the database at ``path`` soon after each write, in a thread of its own.

    ``is_in_place`` tells whether the log there is that of the file there.
    """

    def __init__(self, path: Path, is_in_place: Callable[[], bool]) -> None:
        self._path, self._is_in_place = path, is_in_place
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin without a thread, as a forked process is without it."""
        self._thread: threading.Thread | None = None
        # An interrupt within an Event's ``set`` leaves it locked, and the next write would wait for ever.
        self._wanted: SimpleQueue[None] = SimpleQueue()
        self._closed = threading.Event()

    def note_write(self) -> None:
        """Take note of a write; one thread may call this at a time. Raises nothing: the write is done."""
        if self._wanted.empty():
            self._wanted.put(None)
        if self._thread is None and not self._closed.is_set():
            thread = threading.Thread(target=self._run, name="statesync-checkpoints", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there are too many; the next write tries again
                return
            self._thread = thread

    def close(self) -> None:
        """End the thread, after the writing back that is under way."""
        self._closed.set()
        self._wanted.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._is_over():
            if self._is_in_place():
                write_back(self._path)

    def _is_over(self) -> bool:
        """Wait for a write, and for those that follow soon; tell whether it is closed instead."""
        self._wanted.get()
        if self._closed.wait(PAUSE):
            return True
        while not self._wanted.empty():
            self._wanted.get()
        return self._closed.is_set()  # what was taken may have been the word of ``close``


@define(eq=False)
class WriterLock:
    """Lets in one writer of a process after the other.

    SQLite would let each of them ask again and again, with pauses. Of eight writers the unluckiest waited
    half a second that way; in line it waits 30 ms. Whoever an interrupt has left with the lock, a Ctrl-C in
    the main thread, has it when it comes again, and then no more.
    """

    patience: float
    checkpoints: Checkpoints
    lock: threading.RLock = field(factory=threading.RLock)

    def begin_anew(self) -> None:
        """Be free in a forked process: whoever held the lock is its parent's."""
        self.lock = threading.RLock()

    def __enter__(self) -> None:
        if not self.lock.acquire(timeout=self.patience):
            raise busy("the hub has too many writes under way")

    def __exit__(self, *_error: object) -> None:
        try:
            self.checkpoints.note_write()
        finally:
            with suppress(RuntimeError):  # it is this thread's no more
                while True:
                    self.lock.release()
