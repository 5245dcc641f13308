"""What is local only: written in ``untracked()``, or there before tracking. Owns ``statesync_local``.

The table has the exceptions, not a row a record. ``image`` is the record as the hub has it, None if no hub
has it. ``version`` says up to where the hub's versions are known: whatever it sends up to there, or with the
values of ``image``, is no news. Whatever else it sends ends the exception.

A tracked write of such a record makes a change of it. The exception stays beside the change until the hub has
taken that: ``here`` is what the record was before the change, and a rollback leads back to it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from statesync.conflicts import Record
from statesync.store.tracking.images import image_of, image_sql, record_of_image
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted

TABLE = "statesync_local"

LOCAL_KEYS = "SELECT key FROM statesync_local WHERE object = :object"
"""The keys of an object's records that are local only, as a part of a statement."""

WRITTEN_OVER_HELD = (
    "SELECT 1 FROM statesync_local AS local "
    "WHERE local.object = held.object AND local.key = held.key AND local.version >= held.version"
)
"""Whether the local write was made while ``held``, a record in quarantine, waited: a part of a statement."""

NOTHING_HERE = "null"
"""``here`` of a record that was not on the device."""


class Exempt(NamedTuple):
    """One record that is local only."""

    version: int
    image: str | None
    here: str | None

    def knows(self, version: int, remote: Record | None) -> bool:
        """Tell whether the hub's record, None if it is deleted, is one that the local write was made over."""
        return version <= self.version or self._is(remote)

    @property
    def record_here(self) -> Record | None:
        """The record as it was before the tracked write; None is no record."""
        return None if self.here == NOTHING_HERE else record_of_image(self.here)

    def _is(self, remote: Record | None) -> bool:
        """Compare what the hub had with what it has, in the columns that were known then."""
        before = record_of_image(self.image)
        if before is None or remote is None:
            return before is remote
        return all(before[column] == remote[column] for column in before.keys() & remote.keys())


class Origin(NamedTuple):
    """Where a record stood before what was logged of it: parts of a statement about ``logged`` rows."""

    join: str
    known: str
    image: str


def origin(tracked: TrackedObject, *, exempt: bool) -> Origin:
    """Return what the hub is believed to have had; ``exempt`` says that some records are local only."""
    logged = f"CASE WHEN logged.known THEN {image_sql(tracked, 'logged')} END"
    if not exempt:
        return Origin("", "logged.known", logged)
    return Origin(
        "LEFT JOIN statesync_local AS exempt ON exempt.object = :object AND exempt.key = logged.key",
        "CASE WHEN exempt.key IS NULL THEN logged.known ELSE exempt.image IS NOT NULL END",
        f"CASE WHEN exempt.key IS NULL THEN {logged} ELSE exempt.image END",
    )


# -- looking ---------------------------------------------------------------------------------------


def is_in_use(connection: sqlite3.Connection) -> bool:
    """Tell whether any record of any object is local only."""
    return connection.execute("SELECT 1 FROM statesync_local LIMIT 1").fetchone() is not None


def has_any(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether any record of an object is local only."""
    found = connection.execute("SELECT 1 FROM statesync_local WHERE object = ? LIMIT 1", (name,))
    return found.fetchone() is not None


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many records of each object are local only."""
    return dict(connection.execute("SELECT object, count(*) FROM statesync_local GROUP BY object").fetchall())


def among(connection: sqlite3.Connection, name: str, keys: Iterable[str]) -> dict[str, Exempt]:
    """Return those of these records that are local only."""
    if not has_any(connection, name):
        return {}
    rows = connection.execute(
        "SELECT key, version, image, here FROM statesync_local "
        "WHERE object = ? AND key IN (SELECT value FROM json_each(?))",
        (name, json.dumps(list(keys))),
    )
    return {key: Exempt(*rest) for key, *rest in rows}


def records(
    connection: sqlite3.Connection, name: str, low: str, until: str | None
) -> dict[str, Record | None]:
    """Return what the hub has instead, for the keys from ``low`` to before ``until``."""
    rows = connection.execute(
        "SELECT key, image FROM statesync_local "
        "WHERE object = :object AND key >= :low AND (:until IS NULL OR key < :until)",
        {"object": name, "low": low, "until": until},
    )
    return {key: record_of_image(image) for key, image in rows}


# -- keeping ---------------------------------------------------------------------------------------


def keep_all(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Let every record of a table that no hub has seen be local only."""
    key = quoted(tracked.key)
    connection.execute(
        f"INSERT OR IGNORE INTO statesync_local (object, key, version) "
        f"SELECT ?, {key}, 0 FROM {in_main(tracked.table)} WHERE {key} IS NOT NULL ORDER BY {key}",
        (tracked.name,),
    )


def keep_those(connection: sqlite3.Connection, rows: str, known: Mapping[str, object]) -> None:
    """Let records be local only, ``rows`` being (object, key, version, image); what is known of one stays."""
    connection.execute(
        f"INSERT INTO statesync_local (object, key, version, image) {rows} ON CONFLICT DO NOTHING", known
    )


def note_at_hub(
    connection: sqlite3.Connection, name: str, key: str, version: int, record: Record | None
) -> None:
    """Write down that the hub has ``record`` now, of a record that goes on being local only."""
    connection.execute(
        "UPDATE statesync_local SET version = max(version, ?), image = ? WHERE object = ? AND key = ?",
        (version, image_of(record), name, key),
    )


def note_here(connection: sqlite3.Connection, tracked: TrackedObject, which: str, before: int) -> None:
    """Keep what records were before the tracked writes in the log that made a change of them.

    ``which`` picks the keys with a change after the position ``before``.
    """
    connection.execute(
        "UPDATE statesync_local SET here = first.image FROM ("
        "SELECT logged.key AS key, min(logged.rowid), "
        f"CASE WHEN logged.known THEN {image_sql(tracked, 'logged')} ELSE '{NOTHING_HERE}' END AS image "
        f"FROM {in_main(tracked.log)} AS logged GROUP BY logged.key) AS first "
        "WHERE object = :object AND statesync_local.key = first.key "
        f"AND statesync_local.key IN ({which})",
        {"object": tracked.name, "before": before},
    )


def forget_versions(connection: sqlite3.Connection, name: str) -> None:
    """Say that nothing is known of the hub's versions any more."""
    connection.execute("UPDATE statesync_local SET version = 0 WHERE object = ?", (name,))


def forget_versions_above(connection: sqlite3.Connection, name: str, version: int) -> None:
    """Say that the hub's versions are known up to nowhere where they are said to be above ``version``."""
    connection.execute(
        "UPDATE statesync_local SET version = 0 WHERE object = ? AND version > ?", (name, version)
    )


def forget_what_was_hidden(connection: sqlite3.Connection, name: str) -> None:
    """Say that the hub may have records that the device was not shown: its filter has hidden them."""
    connection.execute("UPDATE statesync_local SET version = 0 WHERE object = ? AND image IS NULL", (name,))


# -- ending ----------------------------------------------------------------------------------------


def end(connection: sqlite3.Connection, name: str, keys: Iterable[str]) -> None:
    """Let records be ordinary ones again."""
    ended = [(name, key) for key in keys]
    if ended:
        connection.executemany("DELETE FROM statesync_local WHERE object = ? AND key = ?", ended)


def end_those(connection: sqlite3.Connection, which: str, known: Mapping[str, object]) -> None:
    """Let those records of ``:object`` be ordinary ones again that ``which`` picks."""
    connection.execute(f"DELETE FROM statesync_local WHERE object = :object AND {which}", known)


def end_missing(connection: sqlite3.Connection, tracked: TrackedObject, keys: Iterable[str] | None) -> None:
    """Let records be ordinary ones again that a damaged page took: ``keys``, or all that are missing."""
    is_here = is_key(f"now.{quoted(tracked.key)}", "statesync_local.key")
    lost = "" if keys is None else "AND key IN (SELECT value FROM json_each(:keys)) "
    connection.execute(
        f"DELETE FROM statesync_local WHERE object = :object {lost}"
        f"AND NOT EXISTS (SELECT 1 FROM {in_main(tracked.table)} AS now WHERE {is_here})",
        {"object": tracked.name, "keys": json.dumps(list(keys or []))},
    )


def forget_object(connection: sqlite3.Connection, name: str) -> None:
    """Forget what is local only of an object."""
    connection.execute("DELETE FROM statesync_local WHERE object = ?", (name,))


def tidy(connection: sqlite3.Connection, tracked: TrackedObject, pending: str) -> None:
    """Forget exceptions of which nothing is left: no record here, none at the hub, and no change.

    ``pending`` picks the keys with a change. Looks at the records in the log alone.
    """
    is_here = is_key(f"now.{quoted(tracked.key)}", "statesync_local.key")
    connection.execute(
        "DELETE FROM statesync_local WHERE object = :object AND image IS NULL "
        f"AND key IN (SELECT key FROM {in_main(tracked.log)}) AND key NOT IN ({pending}) "
        f"AND NOT EXISTS (SELECT 1 FROM {in_main(tracked.table)} AS now WHERE {is_here})",
        {"object": tracked.name},
    )
