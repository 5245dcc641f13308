"""What one session is told: who it is, which objects it syncs with which space, and how."""

from __future__ import annotations

import sqlite3

from attrs import frozen

from statesync.store.core import Core
from statesync.store.outbox import Objects
from statesync.values import SyncOptions


@frozen(eq=False)
class SessionContext:
    """One session and the store that it works on."""

    core: Core
    session: str
    space: str
    objects: Objects
    options: SyncOptions

    def raw(self) -> sqlite3.Connection:
        """Return the calling thread's connection."""
        return self.core.database.raw()
