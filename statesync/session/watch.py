"""The watch over a process's sessions: it ends those whose time is over and whose thread has not come back.

A session's thread runs code of the program's, which may hang, and waits for other writers. So somebody else
has to look at the clock. One thread does for all sessions, and lives while there are any: a cancel in a
signal handler cannot start one.
"""

from __future__ import annotations

import os
import threading
import time
from queue import Empty, SimpleQueue
from typing import Protocol

from statesync.checks import LONGEST_WAIT
from statesync.threads import IDLE, Task, threads

_AGAIN = 0.5
"""Seconds after which a session is given up that there was no thread for."""


class Watched(Protocol):
    """A session that can be ended without its thread."""

    def give_up(self) -> None:
        """End it, or let go whoever waits for what comes after its end. In a thread of its own."""


class Watch:
    """Calls ``give_up`` of the sessions that it follows, when their time is over."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, with no thread and no session: a fork leaves both behind, in the parent."""
        self._beginning = threading.Lock()
        self._followed: set[Watched] = set()
        self._due: dict[Watched, float] = {}
        self._news: SimpleQueue[None] = SimpleQueue()
        self._is_awake = False

    def follow(self, session: Watched) -> None:
        """Watch over a session until ``leave``."""
        with self._beginning:
            self._followed.add(session)
            if not self._is_awake:
                threads.start(Task(self._work, "statesync-watch"))
                self._is_awake = True

    def leave(self, session: Watched) -> None:
        """Watch over a session no longer."""
        self._followed.discard(session)
        self._due.pop(session, None)

    def ring_at(self, session: Watched, when: float) -> None:
        """Give a session up at this monotonic time.

        From any thread, and from a signal handler: it takes no lock.
        """
        if session in self._followed:
            self._due[session] = when
            self._news.put(None)

    def _work(self) -> None:
        while not self._falls_asleep(self._wait()):
            for session, when in list(self._due.items()):
                if when <= time.monotonic():
                    self._due.pop(session, None)
                    if not threads.try_to_start(Task(session.give_up, "statesync-give-up")):
                        self.ring_at(session, time.monotonic() + _AGAIN)

    def _wait(self) -> bool:
        """Wait for the next time or the next news; tell whether there was nothing to wait for."""
        due = list(self._due.values())
        left = max(0.0, min(due) - time.monotonic()) if due else IDLE
        try:
            self._news.get(timeout=min(left, LONGEST_WAIT))
        except Empty:
            return not due
        return False

    def _falls_asleep(self, nothing_due: bool) -> bool:
        with self._beginning:
            if nothing_due and not self._followed:
                self._is_awake = False
            return not self._is_awake


watch: Watch = Watch()
"""The process's one watch."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watch.forget)
