"""What can be wrong with a store, in words, and what mends it. ``store/care`` finds it and mends it."""

from __future__ import annotations

from enum import StrEnum

from statesync.classes import frozen


class Repair(StrEnum):
    """What mends a complaint. None of them loses a pending change."""

    SALVAGE = "salvage"
    """Copy what can be read into a new file, keep the damaged one, and fetch the rest from the hub."""
    RETRACK = "retrack"
    """Install the triggers again; what was written unseen is offered to the hub."""
    REFOLD = "refold"
    """Set outbox entries right by what their records are."""
    REREAD = "reread"
    """Read the object from the hub again, from the start; pending changes stay."""
    REINDEX = "reindex"
    """Build the indexes that a table was filled without."""
    CLOSE = "close"
    """Mark the session as failed: its history cannot be trusted, its committed work stays."""


@frozen
class Complaint:
    """One thing that is wrong: ``about`` an object, a session or the file; ``repair`` mends it."""

    about: str
    message: str
    repair: Repair | None
