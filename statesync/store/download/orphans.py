"""Orphans: records whose foreign key names a record that is not there once the feed is drained.

Children can come before their parents in a feed, so foreign keys are not enforced while pages are
applied. Only what the session touched is looked at, so the cost follows the changes, not the data.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from statesync.store.file.reading import StoredKey, key_for_people, read
from statesync.store.tracking.description import Reference
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted
from statesync.values import RecordError


def watched(objects: Objects) -> frozenset[str]:
    """Return the objects that have foreign keys, or that foreign keys of others point to."""
    children = {name for name, tracked in objects.items() if tracked.references}
    tables = {reference.parent_table for tracked in objects.values() for reference in tracked.references}
    return frozenset(children | {name for name, tracked in objects.items() if tracked.table in tables})


def begin(connection: sqlite3.Connection) -> None:
    """Make the connection's list of touched records, empty."""
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS statesync_touched "
        "(tablename TEXT, key TEXT, PRIMARY KEY (tablename, key)) WITHOUT ROWID"
    )
    connection.execute("DELETE FROM statesync_touched")


def note(connection: sqlite3.Connection, tracked: TrackedObject, keys: Iterable[str]) -> None:
    """Add records that were stored or deleted to the list."""
    connection.executemany(
        "INSERT OR IGNORE INTO statesync_touched VALUES (?, ?)", ((tracked.table, key) for key in keys)
    )


def find(connection: sqlite3.Connection, objects: Objects) -> list[RecordError]:
    """Return the orphans among what was touched: children that came, or whose parents went."""
    orphans: dict[tuple[str, str], RecordError] = {}
    for tracked in objects.values():
        for reference in tracked.references:
            for key, parent in _of_reference(connection, tracked, reference):
                message = f"its {reference.column} names '{parent}', which {reference.parent_table} has not"
                shown = key_for_people(key)
                orphans[tracked.name, shown] = RecordError(tracked.name, shown, "orphaned", message)
    return list(orphans.values())


def _of_reference(
    connection: sqlite3.Connection, tracked: TrackedObject, reference: Reference
) -> list[tuple[StoredKey, object]]:
    child, key, column = in_main(tracked.table), quoted(tracked.key), quoted(reference.column)
    parent, parent_key = in_main(reference.parent_table), quoted(reference.parent_column)
    is_orphan = (
        f"child.{column} IS NOT NULL AND NOT EXISTS "
        f"(SELECT 1 FROM {parent} AS parent WHERE parent.{parent_key} = child.{column})"
    )
    found = is_key(f"child.{key}", "touched.key")
    sql = (
        f"SELECT child.{key}, child.{column} FROM temp.statesync_touched AS touched "
        f"CROSS JOIN {child} AS child ON {found} "
        f"WHERE touched.tablename = :child AND {is_orphan} "
        f"UNION SELECT child.{key}, child.{column} FROM temp.statesync_touched AS touched "
        f"CROSS JOIN {child} AS child ON child.{column} = touched.key "
        f"WHERE touched.tablename = :parent AND {is_orphan}"
    )
    tables = {"child": tracked.table, "parent": reference.parent_table}
    return read(connection, lambda: connection.execute(sql, tables).fetchall())
