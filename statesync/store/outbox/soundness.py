"""Whether the outbox agrees with the records and the journal, and setting it right where it does not.

So does what became of changes, or of the records that they are about, which a damaged page took. Whoever
writes here has folded before.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from statesync.store.cursors import knowledge
from statesync.store.local_only import LOCAL_KEYS
from statesync.store.outbox import shared, under_way
from statesync.store.outbox.changes import Rebase, offer_edit
from statesync.store.outbox.settled import WAITING
from statesync.store.outbox.under_way import BATCH
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted

TABLE = "statesync_change"

_UNKNOWN_RECORD = "{}"
"""The image of a record of which only this is known: it was there."""

_STRAY = f"{BATCH} IS NOT NULL AND {BATCH} NOT IN (SELECT value FROM json_each(?1))"
_CONTRADICTS = f"change.operation = 'delete' AND now.{{key}} IS NOT NULL AND change.key NOT IN ({LOCAL_KEYS})"
"""A delete may wait beside a record that is local only."""
_IS_MISSING = "change.operation <> 'delete' AND now.{key} IS NULL"


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many changes are kept of each object, tracked or not."""
    return dict(connection.execute(f"SELECT object, count(*) FROM {WAITING} GROUP BY object").fetchall())


def count_stray(connection: sqlite3.Connection, awaited: Iterable[str]) -> int:
    """Return how many changes wait for a batch other than those ``awaited``, given by their wire ids."""
    row = connection.execute(
        f"SELECT count(*) FROM {WAITING} WHERE {_STRAY}", (json.dumps(list(awaited)),)
    ).fetchone()
    return int(row[0])


def release_stray(connection: sqlite3.Connection, awaited: Iterable[str]) -> None:
    """Set changes free that wait for a batch other than those ``awaited``: nobody knows what became of it."""
    under_way.spread(connection)
    known = json.dumps(list(awaited))
    shared.note_those(connection, _STRAY, known)
    connection.execute(f"UPDATE statesync_change SET batch = NULL, sent = NULL WHERE {_STRAY}", (known,))


def count_contradictions(connection: sqlite3.Connection, tracked: TrackedObject) -> int:
    """Return how many deletes of an object wait whose record is there."""
    return _count(connection, tracked, _CONTRADICTS)


def count_missing(connection: sqlite3.Connection, tracked: TrackedObject) -> int:
    """Return how many other changes of an object wait whose record cannot be found."""
    return _count(connection, tracked, _IS_MISSING)


def mend_contradictions(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Make inserts and updates of the deletes whose record is there. In a transaction that has folded.

    A change whose record cannot be found stays what it is: that it was deleted is not known.
    """
    connection.execute(
        "UPDATE statesync_change SET revision = revision + 1, "
        "operation = CASE WHEN image IS NULL THEN 'insert' ELSE 'update' END "
        f"WHERE position IN (SELECT change.position {_changes(tracked, _CONTRADICTS)})",
        {"object": tracked.name},
    )


# -- what a damaged page took ----------------------------------------------------------------------


def forget_edits(connection: sqlite3.Connection, tracked: TrackedObject, keys: Sequence[str] | None) -> None:
    """Forget the inserts and updates of records that are lost: there is nothing left to send.

    Of a record that is missing, the hub's is read again. Without ``keys`` nobody knows which records are
    lost: then it is every one that is missing and was not deleted here.
    """
    is_here = is_key(f"now.{quoted(tracked.key)}", "statesync_change.key")
    lost = "" if keys is None else "AND key IN (SELECT value FROM json_each(:keys)) "
    connection.execute(
        f"DELETE FROM statesync_change WHERE object = :object AND operation <> 'delete' {lost}"
        f"AND NOT EXISTS (SELECT 1 FROM {in_main(tracked.table)} AS now WHERE {is_here})",
        {"object": tracked.name, "keys": json.dumps(list(keys or []))},
    )


def offer_lost_change(
    connection: sqlite3.Connection, tracked: TrackedObject, key: str, *, may_be_lost: bool
) -> None:
    """Offer a record again whose change is lost, as nobody knows what it was before.

    Where the record is missing, the change was its delete, unless the record may be lost too: then the hub's
    comes again.
    """
    is_here = is_key(f"now.{quoted(tracked.key)}", ":key")
    found = connection.execute(f"SELECT 1 FROM {in_main(tracked.table)} AS now WHERE {is_here}", {"key": key})
    if found.fetchone():
        since = knowledge.deletes_known(connection, tracked.name, key)
        offer_edit(connection, tracked.name, key, Rebase("insert", None, 0), since=since)
    elif not may_be_lost:
        offer_edit(connection, tracked.name, key, Rebase("delete", _UNKNOWN_RECORD, 1))


def decide_anew(connection: sqlite3.Connection) -> None:
    """Let the policy be asked again about what waited for a decision: the log of it is lost."""
    connection.execute("UPDATE statesync_change SET contested = NULL WHERE contested IS NOT NULL")


# -- how many --------------------------------------------------------------------------------------


def _count(connection: sqlite3.Connection, tracked: TrackedObject, which: str) -> int:
    row = connection.execute(
        f"SELECT count(*) {_changes(tracked, which)}", {"object": tracked.name}
    ).fetchone()
    return int(row[0])


def _changes(tracked: TrackedObject, which: str) -> str:
    """Return the FROM and WHERE of those changes of an object of which nothing was logged later."""
    key = quoted(tracked.key)
    return (
        f"FROM {WAITING} AS change "
        f"LEFT JOIN {in_main(tracked.table)} AS now ON {is_key(f'now.{key}', 'change.key')} "
        f"WHERE change.object = :object AND {which.format(key=key)} "
        f"AND NOT EXISTS (SELECT 1 FROM {in_main(tracked.log)} AS later WHERE later.key = change.key)"
    )
