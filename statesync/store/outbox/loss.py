"""What becomes of pending changes where a damaged page took them, or the records that they are about.

Every function writes, in a transaction that has folded.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from statesync.store.cursors import knowledge
from statesync.store.outbox.changes import Rebase, offer_edit
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted

TABLE = "statesync_change"

_UNKNOWN_RECORD = "{}"
"""The image of a record of which only this is known: it was there."""


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
