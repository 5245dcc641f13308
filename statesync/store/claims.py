"""Which space an object belongs to: a session claims its objects for its space, ``reset`` lets them go."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from statesync.store import spaces
from statesync.store.cursors import applied, cursor
from statesync.store.tracking.objects import Objects
from statesync.store.upload.doubts import resolve_doubts


def claim_objects(connection: sqlite3.Connection, objects: Iterable[str], space: str) -> str | None:
    """Let ``objects`` belong to ``space``, up to the first that belongs to another; return that one, or None.

    A space that has never answered, such as a mistyped one, owns nothing.
    """
    owners = applied.spaces(connection)
    others = [name for name in objects if owners.get(name) != space]
    return _claim(connection, others, owners, space) if others else None


def _claim(
    connection: sqlite3.Connection, objects: Iterable[str], owners: Mapping[str, str], space: str
) -> str | None:
    hubs = spaces.hubs(connection)
    # A hub does not send a device what it wrote itself; one that has been here before may have forgotten it.
    rereading = cursor.OWN if space in hubs else None
    for name in objects:
        owner = owners.get(name)
        if owner is not None:
            if hubs.get(owner) is not None:
                return name
            resolve_doubts(connection, owner)
        applied.move_to_space(connection, name, space, rereading)
    return None


def objects_of(connection: sqlite3.Connection, space: str, objects: Objects) -> Objects:
    """Return the objects that belong to ``space``."""
    owners = applied.spaces(connection)
    return {name: objects[name] for name, owner in owners.items() if owner == space and name in objects}


def forget(connection: sqlite3.Connection, objects: Iterable[str]) -> None:
    """Forget where these objects belong, and every space that no object is left of."""
    for name in objects:
        applied.remove(connection, name)
    for space in spaces.hubs(connection).keys() - set(applied.spaces(connection).values()):
        resolve_doubts(connection, space)
        spaces.remove(connection, space)
