"""The file that a hub on SQLite holds open, and what is done when its path leads to another one.

A backup that is moved into the place of an open file finds the old file's log beside it. Whoever opens the
backup then, replays that log into it, and so damages it. So nothing is opened while the old file is in use;
whoever closes it last puts its log aside.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from statesync.hub.db.failures import GONE, REPLACED, WrongFile
from statesync.sqlite.identity import Identity, identity_of

_log = logging.getLogger(__name__)

_BESIDE = ("-wal", "-shm")
"""How the files end that SQLite keeps beside its own."""


@define(eq=False)
class HeldFile:
    """The file at ``path``, with how many connections are open to it."""

    path: Path
    _identity: Identity | None = None
    _beside: dict[Path, Identity | None] = field(factory=dict)
    _connections: int = 0
    _was_there: bool = False
    _lock: threading.Lock = field(factory=threading.Lock)

    def check(self) -> None:
        """Raise ``WrongFile`` if the path does not lead to the file that is open."""
        if self._identity is None:
            return
        found = identity_of(self.path)
        if found != self._identity:
            raise WrongFile(GONE if found is None else REPLACED, self.path)

    def is_in_place(self) -> bool:
        """Tell whether the path leads to the file that is open, if one is."""
        return self._identity is None or identity_of(self.path) == self._identity

    def open(self, connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        """Return what ``connect`` does: a connection to the file that is open already, if one is.

        Raises ``WrongFile`` if another one, or none, is at its path by now.
        """
        with self._lock:
            self.check()
            found = identity_of(self.path)
            if found is None and self._was_there:
                raise WrongFile(GONE, self.path)
            connection = connect()
            if identity_of(self.path) != found:
                connection.close()
                raise WrongFile(REPLACED, self.path)
            self._identity, self._was_there = found, True
            self._connections += 1
        return connection

    def note_log(self) -> None:
        """Take note of the files beside the one that is open, once SQLite has made them."""
        with self._lock:
            if self.is_in_place():
                self._beside = {path: identity_of(path) for path in map(self._named, _BESIDE)}

    def shut(self, connection: sqlite3.Connection) -> None:
        """Close a connection. With the last one, the log of a file that was replaced is put aside."""
        with self._lock:
            connection.close()
            self._connections -= 1
            if self._connections == 0:
                if not self.is_in_place() and self.path.exists():
                    self._put_log_aside()
                self._identity = None

    def _put_log_aside(self) -> None:
        """Rename the files beside it, if they still are those of the file that was open."""
        stamp = int(time.time())
        for path, known in self._beside.items():
            if known is not None and identity_of(path) == known:
                aside = path.with_name(f"{path.name}.{stamp}")
                path.replace(aside)
                _log.warning(
                    "%s was replaced while the hub had it open; %s is of the file before, and was put aside "
                    "as %s", self.path.name, path.name, aside.name,
                )  # fmt: skip

    def _named(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)
