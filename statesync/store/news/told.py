"""What an observer is told."""

from __future__ import annotations

from statesync.classes import frozen


@frozen
class News:
    """What has come of one object with one commit: the keys of its records, as they stand when it is told.

    ``stored`` are there, as they were stored or as they have become since; ``deleted`` are gone. With
    ``everything`` nobody knows which records have changed: read the object anew.
    """

    object: str
    stored: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    everything: bool = False
