"""Folding: the log of writes becomes one net change a record."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from statesync.store import local_only
from statesync.store.cursors import knowledge
from statesync.store.outbox import queue, settled, shared, spared
from statesync.store.outbox.keep_local import keep_local
from statesync.store.outbox.lookup import PENDING_KEYS
from statesync.store.outbox.proof import is_gone, written
from statesync.store.tracking import triggers
from statesync.store.tracking.log import GONE, KEPT
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import in_main


def fold(connection: sqlite3.Connection, objects: Objects) -> bool:
    """Fold what was logged into net changes; tell, cheaply, if nothing was. In a transaction.

    Afterwards nothing stands in the outbox but what waits.

    insert + update is an insert, insert + delete is nothing, delete + insert is an update. A delete is what
    the log proves to be one: a change whose record is merely not found stays what it is, and no upload takes
    it. One of which any hub may know stays even if insert + delete would make it nothing. What was logged in
    ``untracked()`` becomes local only instead.
    """
    settled.sweep(connection)
    return fold_amid_upload(connection, objects)


def fold_amid_upload(connection: sqlite3.Connection, objects: Objects) -> bool:
    """Fold what was logged; where nothing was, what an upload has settled stays where it is."""
    found = logged(connection, objects)
    if not found:
        return False
    settled.sweep(connection)
    settle = keep_local if triggers.are_local(connection) else _fold_object
    for tracked in found:
        spared.drop_untold(connection, tracked)
        settle(connection, tracked)
        connection.execute(f"DELETE FROM {in_main(tracked.log)}")
    return True


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


def fold_without_table(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Fold what was logged of an object whose table is gone, and with it what its records are now."""
    if logged(connection, {tracked.name: tracked}):
        gone, exempt = f"(logged.changed = {GONE})", local_only.has_any(connection, tracked.name)
        _fold_log(connection, tracked, gone, exempt=exempt)
        connection.execute(f"DELETE FROM {in_main(tracked.log)}")


def _fold_object(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    before = queue.last_position(connection)
    exempt = local_only.has_any(connection, tracked.name)
    _fold_log(connection, tracked, is_gone(tracked), exempt=exempt)
    if exempt:
        _take_over(connection, tracked, before)
    spared.note_spared(connection, tracked, before)


def _fold_log(connection: sqlite3.Connection, tracked: TrackedObject, gone: str, *, exempt: bool) -> None:
    """Make net changes of a log; ``gone`` tells whether it proves that a record is there no more.

    ``exempt`` says that some records are local only.
    """
    before = queue.last_position(connection)
    was, base = local_only.origin(tracked, exempt=exempt), knowledge.base_sql(connection, tracked.name)
    # In the order of the writes: the first of a record brings its image and base, each adds a revision.
    connection.execute(
        f"""
        INSERT INTO {settled.into(connection)} (object, key, operation, image, base, since, revision)
        SELECT :object, logged.key,
               CASE WHEN {gone} THEN 'delete' WHEN {was.known} THEN 'update' ELSE 'insert' END,
               {was.image},
               CASE WHEN {was.known} THEN {base.version} ELSE 0 END,
               CASE WHEN {was.known} THEN {base.since} ELSE 0 END,
               logged.changed > {KEPT} OR {gone}
        FROM {in_main(tracked.log)} AS logged {was.join}
        ORDER BY logged.rowid
        ON CONFLICT (object, key) DO UPDATE SET
            revision = revision + excluded.revision,
            operation = CASE WHEN excluded.revision = 0 THEN operation
                             WHEN excluded.operation = 'delete' THEN 'delete'
                             WHEN image IS NULL THEN 'insert' ELSE 'update' END
        """,
        {"object": tracked.name},
    )
    # Without a revision the record was only looked at, for a write that did not follow.
    connection.execute("DELETE FROM statesync_change WHERE position > ? AND revision = 0", (before,))
    shared.drop_empty(connection, tracked)


def _take_over(connection: sqlite3.Connection, tracked: TrackedObject, before: int) -> None:
    """Let the changes that were folded after the position ``before`` stand for what was local only.

    A change that waited already was written over by what was local only, and takes that along.
    """
    known: dict[str, object] = {"object": tracked.name, "before": before}
    older = f"key IN ({PENDING_KEYS} AND position <= :before)"
    recently = f"key IN (SELECT key FROM ({written(tracked)}))"
    local_only.end_those(connection, f"here IS NULL AND {older} AND {recently}", known)
    local_only.note_here(connection, tracked, f"{PENDING_KEYS} AND position > :before", before)
    local_only.tidy(connection, tracked, PENDING_KEYS)
