"""What becomes of pending changes where a damaged page took them, or the records that they are about."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from statesync.store.outbox.changes import Rebase, offer_edit
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import quoted

TABLE = "statesync_change"

_UNKNOWN_RECORD = "{}"
"""The image of a record of which only this is known: it was there."""


def forget_lost_records(
    connection: sqlite3.Connection, tracked: TrackedObject, keys: Sequence[str] | None
) -> None:
    """Forget the changes of records that are lost, since the missing record would make them deletes.

    Without ``keys`` nobody knows which records are lost. Then a change whose record is missing stays only if
    it was a delete before the last writes.
    """
    log, key = quoted(tracked.log), quoted(tracked.key)
    if keys is not None:
        lost = "IN (SELECT value FROM json_each(:keys))"
        still_deleted = ""
    else:
        lost = f"NOT IN (SELECT {key} FROM {quoted(tracked.table)})"
        still_deleted = f"AND (operation <> 'delete' OR key IN (SELECT key FROM {log})) "
    values = {"keys": json.dumps(list(keys or [])), "object": tracked.name}
    connection.execute(
        f"DELETE FROM statesync_change WHERE object = :object {still_deleted}AND key {lost}", values
    )
    connection.execute(f"DELETE FROM {log} WHERE key {lost}", values)


def offer_lost_change(connection: sqlite3.Connection, objects: Objects, name: str, key: str) -> None:
    """Offer a record again whose change is lost, as nobody knows what it was before.

    Where the record is missing, the change was its delete, unless its table has lost records too.
    """
    tracked = objects.get(name)
    if tracked is None:
        return
    found = connection.execute(
        f"SELECT 1 FROM {quoted(tracked.table)} WHERE {quoted(tracked.key)} = ?", (key,)
    ).fetchone()
    edit = Rebase("insert", None, 0) if found else Rebase("delete", _UNKNOWN_RECORD, 1)
    offer_edit(connection, name, key, edit)
