"""Seeing commits to an SQLite file, of this process and of others: SQLite counts them for each connection."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Mapping

from statesync.hub.db.held import Apart
from statesync.hub.signals.waiters import Head

LOOK_EVERY = 0.02
"""Seconds between two looks, while anybody waits."""

_HEADS = "SELECT space, epoch, head FROM space WHERE space IN (SELECT value FROM json_each(?))"


class FileObserver:
    """Asks one connection, which does nothing else, for SQLite's count; that takes some microseconds."""

    tells_others: bool = False

    def __init__(self, apart: Apart) -> None:
        self._apart = apart
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin with nothing, as a forked process does."""
        self._woken = threading.Event()
        self._seen: tuple[int, int] | None = None

    def wait(self, seconds: float, *, watches: bool) -> Collection[str] | None:
        """Wait; return None if somebody has committed since the last look, and no space otherwise."""
        until, is_new, left = time.monotonic() + seconds, False, seconds
        while not is_new and left >= 0:
            is_woken = self._woken.wait(min(left, LOOK_EVERY) if watches else left)
            self._woken.clear()
            is_new = watches and self._is_new()
            left = -1.0 if is_woken else until - time.monotonic()
        return None if is_new else ()

    def wake(self) -> None:
        """End the wait that is under way, or the next one."""
        self._woken.set()

    def heads(self, spaces: Collection[str]) -> Mapping[str, Head]:
        """Return the heads of those of ``spaces`` that there are."""
        with self._apart.used() as connection:
            rows = connection.execute(_HEADS, (json.dumps(list(spaces)),)).fetchall()
        return {space: Head(epoch, head) for space, epoch, head in rows}

    def tell(self, _spaces: Collection[str]) -> float:
        """Do nothing: other processes see it in the file."""
        return 0.0

    def rest(self) -> None:
        """Close the connection."""
        self._apart.shut()

    def _is_new(self) -> bool:
        with self._apart.used() as connection:
            (count,) = connection.execute("PRAGMA data_version").fetchone()
            seen = (self._apart.opened, count)
        is_new, self._seen = seen != self._seen, seen
        return is_new
