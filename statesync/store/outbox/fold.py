"""Folding: the log of writes becomes one net change a record."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from statesync.store import cursors
from statesync.store.outbox import changes, queue, spared
from statesync.store.tracking.images import image_sql
from statesync.store.tracking.log import GONE, KEPT
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted


def fold(connection: sqlite3.Connection, objects: Objects) -> None:
    """Fold what was logged into net changes; does nothing, cheaply, if nothing was. In a transaction.

    insert + update is an insert, insert + delete is nothing, delete + insert is an update. A delete is what
    the log proves to be one: a change whose record is merely not found stays what it is, and no upload takes
    it. One that is under way to the hub stays even if insert + delete would make it nothing: the hub may
    have it.
    """
    for tracked in logged(connection, objects):
        _fold_object(connection, tracked)
        connection.execute(f"DELETE FROM {in_main(tracked.log)}")


def fold_without_table(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Fold what was logged of an object whose table is gone, and with it what its records are now."""
    if logged(connection, {tracked.name: tracked}):
        log = f"FROM {in_main(tracked.log)} AS logged"
        _fold_log(connection, tracked, log, f"(logged.changed = {GONE})")
        connection.execute(f"DELETE FROM {in_main(tracked.log)}")


def logged(connection: sqlite3.Connection, objects: Objects) -> list[TrackedObject]:
    """Return those of ``objects`` that anything was logged of."""
    has_rows = _have_rows(connection, [tracked.log for tracked in objects.values()])
    return [tracked for tracked, is_logged in zip(objects.values(), has_rows, strict=True) if is_logged]


def _have_rows(connection: sqlite3.Connection, tables: Sequence[str]) -> tuple[int, ...]:
    """Tell of each table whether anything is in it, by one statement."""
    if not tables:
        return ()
    found: tuple[int, ...] = connection.execute(
        f"SELECT {', '.join(f'EXISTS (SELECT 1 FROM {in_main(table)})' for table in tables)}"
    ).fetchone()
    return found


def _fold_object(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    before = queue.last_position(connection)
    untold = spared.untold_keys(connection, tracked)
    if untold is not None:
        connection.execute(f"DELETE FROM {in_main(tracked.log)} WHERE key IN ({untold})")
    _fold_log(connection, tracked, log_beside_records(tracked), is_gone(tracked))
    spared.note_spared(connection, tracked, before)


def _fold_log(connection: sqlite3.Connection, tracked: TrackedObject, log: str, gone: str) -> None:
    """Make net changes of a ``log``; ``gone`` tells whether it proves that a record is there no more."""
    before = queue.last_position(connection)
    # In the order of the writes: the first of a record brings its image and base, each adds a revision.
    connection.execute(
        f"""
        INSERT INTO statesync_change (object, key, operation, image, base, revision)
        SELECT :object, logged.key,
               CASE WHEN {gone} THEN 'delete' WHEN logged.known THEN 'update' ELSE 'insert' END,
               CASE WHEN logged.known THEN {image_sql(tracked, "logged")} END,
               CASE WHEN logged.known THEN max(1, :cursor) ELSE 0 END,
               logged.changed <> {KEPT} OR {gone}
        {log}
        ORDER BY logged.rowid
        ON CONFLICT (object, key) DO UPDATE SET
            revision = revision + excluded.revision,
            operation = CASE WHEN excluded.operation = 'delete' THEN 'delete'
                             WHEN image IS NULL THEN 'insert' ELSE 'update' END
        """,
        {"object": tracked.name, "cursor": cursors.seen_until(connection, tracked.name)},
    )
    # Without a revision only an image was kept, for a write that did not follow.
    connection.execute("DELETE FROM statesync_change WHERE position > ? AND revision = 0", (before,))
    changes.drop_empty(connection, tracked.name)


def log_beside_records(tracked: TrackedObject) -> str:
    """Return the FROM of an object's log, as ``logged``, beside the records as they are ``now``."""
    key = f"now.{quoted(tracked.key)}"
    return (
        f"FROM {in_main(tracked.log)} AS logged "
        f"LEFT JOIN {in_main(tracked.table)} AS now ON {is_key(key, 'logged.key')}"
    )


def is_gone(tracked: TrackedObject) -> str:
    """Return the condition that the log proves that a ``logged`` record is there no more.

    That it is not found proves nothing: it may have been deleted untracked, or lost with a damaged page. One
    that stood in the way was replaced where a record is in its place whose key the table takes for the same.
    """
    key, table = quoted(tracked.key), in_main(tracked.table)
    twin = f"SELECT 1 FROM {table} AS twin WHERE twin.{key} = logged.key AND typeof(twin.{key}) = 'text'"
    return (
        f"(now.{key} IS NULL AND CASE logged.changed WHEN {GONE} THEN 1 "
        f"WHEN {KEPT} THEN EXISTS ({twin}) ELSE 0 END)"
    )
