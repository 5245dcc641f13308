"""The outbox: net changes that the hub has not accepted yet.

Writes are logged by triggers; ``fold`` turns the log into one net change a record. Whoever reads the
outbox, or moves a cursor, folds first. So a change's base version is the object's cursor at the time of
the write: what this device had seen of the hub when the record was first changed. Base 0 is kept for
records that, as far as this device knows, no hub has ever seen; 1 is a known record of unknown version.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from statesync.store.tracking.objects import TrackedObject, quoted
from statesync.values import PendingChange

Objects = dict[str, TrackedObject]


def fold(connection: sqlite3.Connection, objects: Objects) -> None:
    """Fold what was logged into net changes; does nothing, cheaply, if nothing was. In a transaction.

    insert + update is an insert, insert + delete is nothing, delete + insert is an update. A change that
    is under way to the hub stays even if insert + delete would make it nothing: the hub may have it.
    """
    for tracked in _logged(connection, objects):
        _fold_object(connection, tracked)
        connection.execute(f"DELETE FROM {quoted(tracked.log)}")


def _logged(connection: sqlite3.Connection, objects: Objects) -> list[TrackedObject]:
    """Return those of ``objects`` that anything was logged of."""
    filled = _filled(connection, [quoted(tracked.log) for tracked in objects.values()])
    return [tracked for tracked, is_logged in zip(objects.values(), filled, strict=True) if is_logged]


def _filled(connection: sqlite3.Connection, tables: Sequence[str]) -> tuple[int, ...]:
    """Tell of each table whether anything is in it, by one statement."""
    if not tables:
        return ()
    found: tuple[int, ...] = connection.execute(
        f"SELECT {', '.join(f'EXISTS (SELECT 1 FROM {table})' for table in tables)}"
    ).fetchone()
    return found


def _fold_object(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    before, key = horizon(connection), quoted(tracked.key)
    # In the order of the writes: the first of a record brings its image and base, each adds a revision.
    connection.execute(
        f"""
        INSERT INTO statesync_change (object, key, operation, image, base, revision)
        SELECT :object, logged.key,
               CASE WHEN now.{key} IS NULL THEN 'delete' WHEN logged.known THEN 'update' ELSE 'insert' END,
               CASE WHEN logged.known THEN {tracked.image_sql("logged")} END,
               CASE WHEN logged.known THEN max(1, coalesce(
                   (SELECT cursor FROM statesync_cursor WHERE object = :object), 1)) ELSE 0 END,
               logged.changed OR now.{key} IS NULL
        FROM {quoted(tracked.log)} AS logged
        LEFT JOIN {quoted(tracked.table)} AS now ON now.{key} = logged.key
        ORDER BY logged.rowid
        ON CONFLICT (object, key) DO UPDATE SET
            revision = revision + excluded.revision,
            operation = CASE WHEN excluded.operation = 'delete' THEN 'delete'
                             WHEN image IS NULL THEN 'insert' ELSE 'update' END
        """,
        {"object": tracked.name},
    )
    # Without a revision only an image was kept, for a write that did not follow.
    connection.execute("DELETE FROM statesync_change WHERE position > ? AND revision = 0", (before,))
    drop_empty(connection, tracked.name)


def drop_empty(connection: sqlite3.Connection, name: str) -> None:
    """Forget changes that came to nothing: made and deleted here, and never sent."""
    connection.execute(
        "DELETE FROM statesync_change "
        "WHERE object = ? AND operation = 'delete' AND image IS NULL AND batch IS NULL",
        (name,),
    )


# -- what waits ------------------------------------------------------------------------------------


def horizon(connection: sqlite3.Connection) -> int:
    """Return the position up to which a session that starts now uploads."""
    row = connection.execute("SELECT max(position) FROM statesync_change").fetchone()
    return int(row[0] or 0)


def is_in_use(connection: sqlite3.Connection, objects: Objects) -> bool:
    """Tell whether anything waits, or was logged of ``objects``; folds nothing, needs no transaction."""
    tables = ["statesync_change", *(quoted(tracked.log) for tracked in objects.values())]
    return any(_filled(connection, tables))


def has_waiting(connection: sqlite3.Connection, *, after: int, up_to: int) -> bool:
    """Tell whether any change stands between two positions; folds nothing, needs no transaction."""
    found = connection.execute(
        "SELECT 1 FROM statesync_change WHERE position > ? AND position <= ? LIMIT 1", (after, up_to)
    )
    return found.fetchone() is not None


def has_more(connection: sqlite3.Connection, names: Iterable[str], *, after: int, up_to: int) -> bool:
    """Tell whether a change of these objects waits between two positions."""
    found = connection.execute(
        "SELECT 1 FROM statesync_change WHERE position > ? AND position <= ? AND deferred = 0 "
        "AND +object IN (SELECT value FROM json_each(?)) LIMIT 1",
        (after, up_to, json.dumps(list(names))),
    ).fetchone()
    return found is not None


def count_waiting(connection: sqlite3.Connection, names: Iterable[str]) -> int:
    """Return how many changes of these objects the next session would send."""
    row = connection.execute(
        "SELECT count(*) FROM statesync_change "
        "WHERE deferred = 0 AND +object IN (SELECT value FROM json_each(?))",
        (json.dumps(list(names)),),
    ).fetchone()
    return int(row[0])


def count_pending(connection: sqlite3.Connection, name: str) -> int:
    """Return how many changes of one object wait, deferred ones included."""
    row = connection.execute("SELECT count(*) FROM statesync_change WHERE object = ?", (name,)).fetchone()
    return int(row[0])


def pending(connection: sqlite3.Connection, names: Iterable[str]) -> list[PendingChange]:
    """Return the net changes of these objects in the order in which they were first made."""
    rows = connection.execute(
        "SELECT object, key, operation, base, revision, deferred, error FROM statesync_change "
        "WHERE object IN (SELECT value FROM json_each(?)) ORDER BY position",
        (json.dumps(list(names)),),
    )
    return [
        PendingChange(name, key, operation, base, revision, bool(deferred), error)
        for name, key, operation, base, revision, deferred, error in rows
    ]


def set_deferred(connection: sqlite3.Connection, name: str, keys: Sequence[str], *, deferred: bool) -> int:
    """Hold changes back from uploads, or let them go; return how many there were."""
    return connection.execute(
        "UPDATE statesync_change SET deferred = ? "
        "WHERE object = ? AND key IN (SELECT value FROM json_each(?))",
        (int(deferred), name, json.dumps(list(keys))),
    ).rowcount


def offer_all(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Put every record of an object into the outbox, as new: for a hub that has none of them."""
    connection.execute("DELETE FROM statesync_change WHERE object = ?", (tracked.name,))
    connection.execute(
        "INSERT INTO statesync_change (object, key, operation, base, revision) "
        f"SELECT ?, {quoted(tracked.key)}, 'insert', 0, 1 FROM {quoted(tracked.table)} "
        f"ORDER BY {quoted(tracked.key)}",
        (tracked.name,),
    )


# -- what becomes of a change in a session ---------------------------------------------------------


def mark_failed(connection: sqlite3.Connection, name: str, key: str, error: str, session: str) -> None:
    """Keep a change in the outbox with its error; the next session tries it again."""
    connection.execute(
        "UPDATE statesync_change SET error = ?, failed_in = ?, batch = NULL, sent = NULL "
        "WHERE object = ? AND key = ?",
        (error, session, name, key),
    )


def mark_sent(connection: sqlite3.Connection, wire_id: str, revisions: Sequence[tuple[int, int]]) -> None:
    """Note which revision of each change goes up with the batch ``wire_id``."""
    positions: dict[int, list[int]] = {}
    for position, revision in revisions:
        positions.setdefault(revision, []).append(position)
    connection.executemany(  # most records were changed once: this is one statement a batch, not a record
        "UPDATE statesync_change SET batch = ?, sent = ? WHERE position IN (SELECT value FROM json_each(?))",
        [(wire_id, revision, json.dumps(some)) for revision, some in positions.items()],
    )
