"""Whether any hub may have the record of a change: only what certainly never left the device is forgotten.

``shared`` of a change says what its image and base do not. It is set where a record may leave the device or
is heard of, and never taken back while the change waits:

* its batch came to be in doubt, whatever became of that later, or the journal has lost it;
* it is offered again, since the hub, or nobody knows which one, had it before;
* its change before is lost with a damaged page;
* the file was copied, and the other one has synced;
* it met a conflict.

A record that a page has brought beside the change is kept as ``theirs``, and one that does not fit its table
waits in quarantine: each says by itself that the hub has the record.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from statesync.store import quarantine
from statesync.store.cursors.knowledge import DELETES_KNOWN
from statesync.store.outbox import under_way
from statesync.store.outbox.settled import WAITING
from statesync.store.outbox.under_way import BATCH, OF_BATCH
from statesync.store.tracking.objects import TrackedObject

TOLD, SENT, OFFERED = 1, 2, 3
"""What ``shared`` says: a hub has told what it makes of the record, or may have taken it without a word; or a
restored hub has lost what this device has seen there, which is offered again."""

IS_MERE_OFFER = f"shared = {OFFERED} AND revision = 1 AND theirs IS NULL"
"""Says of a change that nobody made it here: it offers again what a restored hub has lost, and no more."""

NEVER_LEFT = (
    f"image IS NULL AND base = 0 AND theirs IS NULL AND {BATCH} IS NULL AND shared = 0 "
    f"AND key NOT IN ({quarantine.KEYS})"
)
"""Says of a change of ``:object`` that no hub can have its record, as a part of a statement."""


def are_mere_offers(connection: sqlite3.Connection, wire_id: str) -> bool:
    """Tell whether nobody made any change of a batch here."""
    made = f"SELECT 1 FROM {WAITING} WHERE {OF_BATCH} AND NOT ({IS_MERE_OFFER})"
    offered = f"SELECT 1 FROM {WAITING} WHERE {OF_BATCH}"
    rows = connection.execute(f"SELECT EXISTS ({offered}) AND NOT EXISTS ({made})", {"batch": wire_id})
    return bool(rows.fetchone()[0])


def note_batch(connection: sqlite3.Connection, wire_id: str) -> None:
    """Note that a hub may have taken the records of a batch, whatever becomes of it."""
    under_way.spread(connection)
    note_those(connection, "batch = ?", wire_id)


def note_all(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Note that a hub may have taken whatever waits of these objects."""
    for name in names:
        note_those(connection, "object = ?", name)


def note_those(connection: sqlite3.Connection, which: str, known: str) -> None:
    """Note that a hub may have taken the records of the changes that ``which`` picks, by ``known``.

    Of a record that was new others may have read it, and deleted it, from then on.
    """
    connection.execute(
        f"UPDATE statesync_change AS change SET shared = max(shared, {SENT}), since = CASE WHEN base = 0 "
        f"THEN max(since, 1, coalesce(({DELETES_KNOWN}), 0)) ELSE since END WHERE {which}",
        (known,),
    )


def note_told(connection: sqlite3.Connection, name: str, keys: Sequence[str]) -> None:
    """Note of the changes of these records that a hub has told that it has them."""
    if keys:
        connection.execute(
            f"UPDATE statesync_change SET shared = max(shared, {TOLD}) "
            "WHERE object = ? AND key IN (SELECT value FROM json_each(?))",
            (name, json.dumps(list(keys))),
        )


def drop_empty(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Forget changes that came to nothing: made and deleted here, and certainly never on any hub."""
    connection.execute(
        f"DELETE FROM statesync_change WHERE object = :object AND operation = 'delete' AND {NEVER_LEFT}",
        {"object": tracked.name},
    )
