"""Which file each connection of a device is of, and what is said when its path leads to another one, or none.

What is committed to a file that nobody finds any more is lost. A connection to the new one, opened while the
old one is in use, would find the old one's log beside it and damage the new one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from weakref import WeakKeyDictionary

from statesync.errors import StoreError
from statesync.sqlite.identity import Identity, identity_of, logs_of, put_aside


class _Held:
    """The file that a connection is of, and the log beside it; a new file has none before it is written."""

    def __init__(self, identity: Identity | None, logs: dict[Path, Identity | None]) -> None:
        self.identity, self.logs = identity, logs


class HeldFiles:
    """The files that connections are of, with the logs beside them."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[sqlite3.Connection, _Held] = WeakKeyDictionary()

    def hold(self, path: Path, connection: sqlite3.Connection) -> None:
        """Take note of a connection that has just been opened."""
        self._of[connection] = _Held(identity_of(path), logs_of(path))

    def check(self, path: str, connections: Iterable[sqlite3.Connection]) -> None:
        """Raise ``StoreError`` if one of ``connections`` is of another file than ``path`` leads to."""
        found = identity_of(path)
        for held in map(self._of.get, connections):
            if held is None:
                continue
            if held.identity != found:
                name = os.path.basename(path)
                raise StoreError(_gone(name) if found is None else _replaced(name))
            if None in held.logs.values():
                held.logs = logs_of(Path(path))

    def is_in_place(self, path: Path, connection: sqlite3.Connection) -> bool:
        """Tell whether ``path`` leads to the file that a connection is of."""
        held = self._of.get(connection)
        return held is None or held.identity == identity_of(path)

    def let_go(self, path: Path, connection: sqlite3.Connection, *, is_last: bool) -> None:
        """Take note of a connection that was closed; after the last one no old log stays by a new file."""
        held = self._of.pop(connection, None)
        if held is not None and is_last and identity_of(path) not in (held.identity, None):
            put_aside(path, held.logs)


def _gone(name: str) -> str:
    return (
        f"{name} was deleted or moved while it was open, and what is written now would be lost; put the "
        f"file back and sync again, or close the store and remove {name}-wal and {name}-shm before "
        "a backup is put in its place"
    )


def _replaced(name: str) -> str:
    return (
        f"another file was put in the place of {name} while it was open, and what is written now would "
        "be lost; close the store in every thread, and open it again"
    )
