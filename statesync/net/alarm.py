"""An alarm for requests that take too long: one thread for the whole process sleeps for all of them.

A ``threading.Timer`` a request would start a thread and wake it again, which takes longer than a short
request to a hub nearby. Here an alarm is set and taken back without waking anybody: the thread sleeps until
the earliest one that it knew of, and only then looks what has become of it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_SLEEP = 3600.0
"""Seconds: a time-out may be longer than a system can wait, or infinite."""


class Alarm:
    """Rings for blocks that take too long. Its thread ends when it wakes up and nothing is set."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, without thread and alarms: a fork leaves both behind, in the parent."""
        self._news = threading.Condition()
        self._set: dict[object, tuple[float, Callable[[], None]]] = {}
        self._wakes_at: float | None = None
        """When the thread wakes up by itself, in monotonic seconds; None: there is no thread."""

    @contextmanager
    def after(self, seconds: float, ring: Callable[[], None]) -> Iterator[None]:
        """Call ``ring`` in another thread if the block takes longer than ``seconds``."""
        this, due = object(), time.monotonic() + seconds
        with self._news:
            self._wake_by(due)  # raises where there is no thread: then nothing may be left that rings
            self._set[this] = due, ring
        try:
            yield
        finally:
            with self._news:
                self._set.pop(this, None)

    def _wake_by(self, due: float) -> None:
        if self._wakes_at is None:
            threading.Thread(target=self._watch, name="statesync-alarm", daemon=True).start()
            self._wakes_at = due
        elif due < self._wakes_at:
            self._wakes_at = due
            self._news.notify()

    def _watch(self) -> None:
        while late := self._sleep():
            for ring in late:
                ring()

    def _sleep(self) -> list[Callable[[], None]]:
        """Sleep until alarms are due and return them; none if nothing is set any more."""
        with self._news:
            while self._set:
                now = time.monotonic()
                late = [this for this, (due, _) in self._set.items() if due <= now]
                if late:
                    return [self._set.pop(this)[1] for this in late]
                self._wakes_at = min(now + LONGEST_SLEEP, *(due for due, _ in self._set.values()))
                self._news.wait(self._wakes_at - now)
            self._wakes_at = None
            return []


alarm: Alarm = Alarm()
"""The process's one alarm."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=alarm.forget)
