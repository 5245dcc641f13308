"""What an open store is made of: its database file, the objects that it tracks, and its lock."""

from __future__ import annotations

from pathlib import Path

from statesync.checks import check_count, check_kind, check_timeout
from statesync.errors import BadOptions
from statesync.store.file.database import Database
from statesync.store.file.lock import StoreLock
from statesync.store.tracking.objects import Objects
from statesync.store.tracking.registry import Registry


class StoreParts:
    """The parts of one open store. ``keep_sessions`` is how many sessions its history keeps."""

    def __init__(self, path: str | Path, busy_timeout: float, keep_sessions: int) -> None:
        check_kind("path", path, (str, Path), "a text or a Path")
        if "\0" in str(path):
            raise BadOptions("path must have no NUL: no file's name has one")
        check_timeout("busy_timeout", busy_timeout)
        check_count("keep_sessions", keep_sessions, 1)
        self.database: Database = Database(path, busy_timeout)
        self.registry: Registry = Registry(str(self.database))
        self.lock: StoreLock = StoreLock(self.database.path)
        self.keep_sessions = keep_sessions

    @property
    def objects(self) -> Objects:
        """The tracked objects by name. Raises ``StoreNotReady`` before the store is set up."""
        return self.registry.objects
