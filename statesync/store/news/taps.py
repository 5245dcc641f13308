"""Taps on a connection: temporary triggers that note which records are written on it and make no change.

What a program writes is in the objects' logs. What the library writes is in none: pages, resolved conflicts,
what is taken back, and whatever cascades from that. So the taps run where the triggers of tracking do not.
Both table and triggers are the connection's own, and what they have noted is undone with its transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from statesync.store.file.reading import read
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import in_main, literal, quoted
from statesync.store.tracking.triggers import IS_UNTRACKED

Noted = dict[str, set[str] | None]
"""Keys by the object's name; None where nobody knows which."""

MOST = 100_000
"""Keys of one object that are told at most; for more, a program reads the object anew."""

_EVENTS = {
    "insert": ("AFTER INSERT", ("NEW",)),
    "update": ("AFTER UPDATE", ("OLD", "NEW")),
    "delete": ("AFTER DELETE", ("OLD",)),
}

Taps = frozenset[tuple[str, str]]
"""Names of taps, and the tables that they are on."""


def wanted(objects: Objects) -> Taps:
    """Return the taps on these objects; one whose table is gone has none."""
    return frozenset(
        (_name(name, what), one.table) for name, one in objects.items() if not one.is_gone for what in _EVENTS
    )


def found(connection: sqlite3.Connection) -> Taps:
    """Return the taps that a connection has."""
    rows = connection.execute(
        "SELECT name, tbl_name FROM temp.sqlite_master "
        "WHERE type = 'trigger' AND name LIKE 'statesync\\_news\\_%' ESCAPE '\\'"
    )
    return frozenset(rows.fetchall())


def install(connection: sqlite3.Connection, objects: Objects) -> None:
    """Make the taps on these objects."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS statesync_news (object TEXT, key TEXT)")
    for tracked in objects.values():
        if not tracked.is_gone:
            for what in _EVENTS:
                connection.execute(_tap(tracked, what))


def remove(connection: sqlite3.Connection, there: Taps) -> None:
    """Take taps off; what they have noted stays."""
    for name, _ in there:
        connection.execute(f"DROP TRIGGER temp.{quoted(name)}")


def _name(name: str, what: str) -> str:
    return f"statesync_news_{name}_{what}"


def _tap(tracked: TrackedObject, what: str) -> str:
    when, rows = _EVENTS[what]
    values = ", ".join(f"({literal(tracked.name)}, {row}.{quoted(tracked.key)})" for row in rows)
    return (
        f"CREATE TEMP TRIGGER {quoted(_name(tracked.name, what))} {when} ON {in_main(tracked.table)} "
        f"WHEN {IS_UNTRACKED} BEGIN INSERT INTO statesync_news VALUES {values}; END"
    )


def note(connection: sqlite3.Connection, name: str, keys: Iterable[object] | None) -> None:
    """Note keys of an object; None: nobody knows which."""
    rows = [(name, None)] if keys is None else [(name, key) for key in keys]
    connection.executemany("INSERT INTO temp.statesync_news VALUES (?, ?)", rows)


def has_noted(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether anything is noted of an object."""
    sql = "SELECT 1 FROM temp.statesync_news WHERE object = ? LIMIT 1"
    return connection.execute(sql, (name,)).fetchone() is not None


_IS_THERE = "SELECT 1 FROM temp.sqlite_master WHERE name = 'statesync_news'"


def take(connection: sqlite3.Connection) -> Noted:
    """Return what was noted, and forget it; nothing, where the taps were undone with what they noted."""
    if connection.execute(_IS_THERE).fetchone() is None:
        return {}
    sql = "SELECT DISTINCT object, key FROM temp.statesync_news"
    rows = read(connection, lambda: connection.execute(sql).fetchall())
    connection.execute("DELETE FROM temp.statesync_news")
    by_object: dict[str, list[object]] = {}
    for name, key in rows:
        by_object.setdefault(name, []).append(key)
    return {name: as_keys(keys) for name, keys in by_object.items()}


def as_keys(keys: Sequence[object]) -> set[str] | None:
    """Return keys as they are told; too many of them, or one that is no text, stand for all."""
    texts = {key for key in keys if isinstance(key, str)}
    return None if len(keys) > MOST or len(texts) < len(keys) else texts
