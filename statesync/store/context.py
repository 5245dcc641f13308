"""What one session is told: who it is, which objects it syncs with which space, and how."""

from __future__ import annotations

import sqlite3

from attrs import field

from statesync.classes import frozen
from statesync.errors import StoreChanged
from statesync.filters import Filters
from statesync.store.parts import StoreParts
from statesync.store.quarantine import Reason
from statesync.store.tracking.objects import Objects
from statesync.values import SyncOptions


@frozen(eq=False)
class SessionContext:
    """One session and the store that it works on.

    ``objects`` are those of its scope and ``tracked`` all of the store's, as they were described when the
    session began; ``filters`` are those of the scope, as they travel.
    """

    parts: StoreParts
    session: str
    space: str
    objects: Objects
    tracked: Objects
    options: SyncOptions
    filters: Filters
    deadly: dict[str, dict[str, Reason]] = field(factory=dict)
    """The records, by their objects, that may not be written: their table rolls everything back then."""

    def check_store(self, connection: sqlite3.Connection) -> None:
        """Raise ``StoreChanged`` if an object is described otherwise than when the session began.

        What was composed, asked for or decoded by the old description must not be stored under the new one.
        Runs in the transaction that stores it.
        """
        now = self.parts.registry.refresh(connection)
        if now is self.tracked:
            return
        changed = [name for name, known in self.tracked.items() if now.get(name) != known]
        if changed:
            raise self.changed(f"what {', '.join(changed)} looks like")

    def changed(self, what: str) -> StoreChanged:
        """Return the error of a session under which ``what`` the store says was changed."""
        return StoreChanged(
            f"{self.parts.database}: {what} was changed while the session ran, by another program or another "
            "version of this one; nothing was stored that no longer fits, sync again to go on"
        )

    def raw(self) -> sqlite3.Connection:
        """Return the calling thread's connection."""
        return self.parts.database.raw()
