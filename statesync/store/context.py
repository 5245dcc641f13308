"""What one session is told: who it is, which objects it syncs with which space, and how."""

from __future__ import annotations

import sqlite3

from attrs import frozen

from statesync.store.parts import StoreParts
from statesync.store.tracking.objects import Objects
from statesync.values import SyncOptions


@frozen(eq=False)
class SessionContext:
    """One session and the store that it works on."""

    parts: StoreParts
    session: str
    space: str
    objects: Objects
    options: SyncOptions

    def raw(self) -> sqlite3.Connection:
        """Return the calling thread's connection."""
        return self.parts.database.raw()
