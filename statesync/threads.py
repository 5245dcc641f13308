"""Threads that are used again: starting one takes longer than a short session has to spare.

A thread whose task has ended waits ``IDLE`` seconds for the next one, and ends. Idle, it holds nothing of
what it did, and it keeps no program from ending.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from logging import Logger, getLogger
from pathlib import Path
from queue import Empty, SimpleQueue

logger: Logger = getLogger(__name__)

IDLE = 10.0
"""Seconds that a thread waits for another task."""


_OURS = __name__.partition(".")[0]


class Task:
    """Work that is done once, in a thread that is called ``name`` meanwhile.

    ``after`` is called when the thread is free again, and returns at once.
    """

    def __init__(
        self, work: Callable[[], object], name: str, after: Callable[[], object] | None = None
    ) -> None:
        self.name: str = name
        self._work, self._after = work, after
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._process = os.getpid()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, up to ``timeout`` seconds; tell whether it has come.

        A process that was forked meanwhile does not wait: the work is its parent's, and does not end there.
        """
        if os.getpid() != self._process:
            return self._ended.is_set()
        return self._ended.wait(timeout)

    def is_this_thread(self) -> bool:
        """Tell whether it is the task itself that asks."""
        return threading.current_thread() is self._thread

    def run(self) -> None:
        """Do the work in the calling thread, with the variables of a new context."""
        self._thread = threading.current_thread()
        self._thread.name = self.name
        from contextvars import Context  # most programs that open a store start no thread of ours

        Context().run(self._work)

    def end(self) -> None:
        """Let go of the thread, and tell whoever waits."""
        self._thread = None
        self._ended.set()
        if self._after is not None:
            self._after()

    def whereabouts(self) -> str:
        """Return what the work has called outside of us, and waits for, as a person wants to read it."""
        thread, called = self._thread, None
        frame = None if thread is None else sys._current_frames().get(thread.ident or 0)
        while frame is not None and not str(frame.f_globals.get("__name__")).startswith(_OURS):
            called, frame = frame, frame.f_back
        if called is None:
            return "a call of SQLite's or of the system's"
        code = called.f_code
        return f"{code.co_qualname} ({Path(code.co_filename).name}, line {called.f_lineno})"


class Threads:
    """The threads of a process that wait for work."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, without threads: a fork leaves them behind, in the parent."""
        self._idle: list[SimpleQueue[Task]] = []

    def start(self, task: Task) -> None:
        """Run ``task`` in a daemon thread, one that is idle if there is one. From any thread."""
        try:
            inbox = self._idle.pop()
        except IndexError:
            threading.Thread(target=self._serve, args=(task,), daemon=True).start()
        else:
            inbox.put(task)

    def try_to_start(self, task: Task) -> bool:
        """Do what ``start`` does; return False, and say so in the log, where the process can have no more.

        For what can wait until another time, and must not keep the caller from what it has to do.
        """
        try:
            self.start(task)
        except RuntimeError as error:
            logger.warning("no thread can be started (%s): %s", task.name, error)
            return False
        return True

    def _serve(self, first: Task) -> None:
        inbox: SimpleQueue[Task] = SimpleQueue()
        task: Task | None = first
        while task is not None:
            try:
                task.run()
                threading.current_thread().name = "statesync-idle"
                self._idle.append(inbox)  # before the end: who waits for this task may want the thread
            finally:
                task.end()
            task = self._next(inbox)

    def _next(self, inbox: SimpleQueue[Task]) -> Task | None:
        try:
            return inbox.get(timeout=IDLE)
        except Empty:
            pass
        try:
            self._idle.remove(inbox)
        except ValueError:  # somebody took it at the last moment, and has a task for it
            return inbox.get()
        return None


threads: Threads = Threads()
"""The process's idle threads."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=threads.forget)
