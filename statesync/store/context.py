"""What one session is told, and what it holds between two transitions.

Nothing here must survive: what must is in the database.
"""

from __future__ import annotations

import sqlite3

from attrs import define, frozen

from statesync.store.download import pages
from statesync.store.journal.batches import DoubtfulBatch
from statesync.store.outbox.changes import Revision
from statesync.store.parts import StoreParts
from statesync.store.tracking.objects import Objects
from statesync.store.upload import verdicts
from statesync.values import SyncOptions
from statesync.wire import Change, Page, Pull, PushAnswer


@frozen(eq=False)
class Brief:
    """What one session is told: who it is, which objects it syncs with which space, and how."""

    core: StoreParts
    session: str
    space: str
    objects: Objects
    options: SyncOptions

    def raw(self) -> sqlite3.Connection:
        """Return the calling thread's connection."""
        return self.core.database.raw()


@define(eq=False)
class Upload:
    """The upload batch that stands ready or is under way."""

    wire_id: str
    wire_number: int
    payload: bytes
    changes: list[Change]
    last_position: int
    revisions: tuple[Revision, ...] = ()
    replayed: DoubtfulBatch | None = None
    answer: PushAnswer | None = None
    resolutions: list[verdicts.Resolution] | None = None


@define(eq=False)
class Download:
    """The page that has come in answer to ``request``, decoded."""

    request: Pull
    page: Page
    parts: list[pages.ObjectPage]


@define
class Timing:
    """Seconds spent on the open batch."""

    request: float = 0.0
    parsing: float = 0.0
