"""Folding: the log of writes becomes one net change a record."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from statesync.store import bases, cursors
from statesync.store.outbox import changes, queue
from statesync.store.tracking.images import image_sql
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import quoted


def fold(connection: sqlite3.Connection, objects: Objects) -> None:
    """Fold what was logged into net changes; does nothing, cheaply, if nothing was. In a transaction.

    insert + update is an insert, insert + delete is nothing, delete + insert is an update. A change that
    is under way to the hub stays even if insert + delete would make it nothing: the hub may have it.
    """
    for tracked in logged(connection, objects):
        _fold_object(connection, tracked)
        connection.execute(f"DELETE FROM {quoted(tracked.log)}")


def logged(connection: sqlite3.Connection, objects: Objects) -> list[TrackedObject]:
    """Return those of ``objects`` that anything was logged of."""
    has_rows = _have_rows(connection, [tracked.log for tracked in objects.values()])
    return [tracked for tracked, is_logged in zip(objects.values(), has_rows, strict=True) if is_logged]


def _have_rows(connection: sqlite3.Connection, tables: Sequence[str]) -> tuple[int, ...]:
    """Tell of each table whether anything is in it, by one statement."""
    if not tables:
        return ()
    found: tuple[int, ...] = connection.execute(
        f"SELECT {', '.join(f'EXISTS (SELECT 1 FROM {quoted(table)})' for table in tables)}"
    ).fetchone()
    return found


def _fold_object(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    before, key = queue.last_position(connection), quoted(tracked.key)
    # In the order of the writes: the first of a record brings its image and base, each adds a revision.
    connection.execute(
        f"""
        INSERT INTO statesync_change (object, key, operation, image, base, revision)
        SELECT :object, logged.key,
               CASE WHEN now.{key} IS NULL THEN 'delete' WHEN logged.known THEN 'update' ELSE 'insert' END,
               CASE WHEN logged.known THEN {image_sql(tracked, "logged")} END,
               CASE WHEN logged.known THEN {bases.base_sql(connection, tracked.name)} ELSE 0 END,
               logged.changed OR now.{key} IS NULL
        FROM {quoted(tracked.log)} AS logged
        LEFT JOIN {quoted(tracked.table)} AS now ON now.{key} = logged.key
        ORDER BY logged.rowid
        ON CONFLICT (object, key) DO UPDATE SET
            revision = revision + excluded.revision,
            operation = CASE WHEN excluded.operation = 'delete' THEN 'delete'
                             WHEN image IS NULL THEN 'insert' ELSE 'update' END
        """,
        {"object": tracked.name, "cursor": cursors.position_of(connection, tracked.name)},
    )
    # Without a revision only an image was kept, for a write that did not follow.
    connection.execute("DELETE FROM statesync_change WHERE position > ? AND revision = 0", (before,))
    changes.drop_empty(connection, tracked.name)
