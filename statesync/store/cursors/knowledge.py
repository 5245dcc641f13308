"""What the device knows of a record by how far its object is read: the base of a change, and deletes."""

from __future__ import annotations

import sqlite3

from statesync.store import bases
from statesync.store.bases import Base
from statesync.store.cursors.cursor import EPOCH, MISSED_DELETES, SEEN_KEYS, UNLOGGED


def _read_before(key: str) -> str:
    """Return up to which version a key was read before the read that has not met it, as an expression."""
    floor = (
        "SELECT max(json_extract(value, '$[1]')) FROM json_each(floors) "
        f"WHERE {key} <= json_extract(value, '$[0]')"
    )
    return f"max(missed_from, coalesce(({floor}), 0))"


def _deletes_known(key: str) -> str:
    return (
        "CASE WHEN cursor > 0 AND since > 0 OR rereading IS NULL AND since = 0 THEN cursor "
        f"WHEN since > 0 AND {key} <= after THEN since ELSE {_read_before(key)} END FROM statesync_cursor"
    )


DELETES_KNOWN = f"SELECT {_deletes_known('change.key')} WHERE statesync_cursor.object = change.object"
"""Up to which version all deletes of the record of a ``change`` are known, as a part of a statement."""


def base_sql(connection: sqlite3.Connection, name: str) -> Base:
    """Return the base of a change of a known record: up to which version the device has seen it.

    What a scan has come past is as the hub had it when the scan began. A record that a read from the start
    has not met so far may have been deleted meanwhile: nothing is known of it but what was known before.
    Where that read is for what was missed, it is as it had been read then. After a new epoch, and where
    writes are not logged, nobody knows whether it is as the hub has it.
    """
    row = connection.execute(
        "SELECT cursor, rereading, reread_from, missed_from, since, floors <> '[]' FROM statesync_cursor "
        "WHERE object = ?",
        (name,),
    ).fetchone()
    cursor, rereading, reread_from, missed_from, since, has_floors = row or (0, None, 0, 0, 0, 0)
    before = _own(_read_before("logged.key")) if has_floors else str(missed_from)
    as_read = Base(_as_read(cursor), "0")
    if rereading == MISSED_DELETES:
        as_read = Base(_if_met(_as_read(max(cursor, reread_from)), f"max(1, {before})"), "0")
    elif rereading in (EPOCH, UNLOGGED):
        unsure = f"max(1, min({cursor}, {before}))"
        as_read = Base(_if_met(_as_read(cursor), unsure), _if_met("0", before))
    if since and not cursor:
        is_passed = f"logged.key <= {_own('after')}"
        version = f"CASE WHEN {is_passed} THEN {_as_read(since)} ELSE {as_read.version} END"
        as_read = Base(version, f"CASE WHEN {is_passed} THEN 0 ELSE {as_read.since} END")
    return bases.with_exceptions(connection, name, as_read)


def _own(expression: str) -> str:
    """Return a value of the cursor of ``:object``, as an expression."""
    return f"(SELECT {expression} FROM statesync_cursor WHERE object = :object)"


def _as_read(version: int) -> str:
    return str(max(1, version))


def _if_met(met: str, otherwise: str) -> str:
    return f"CASE WHEN logged.key IN ({SEEN_KEYS}) THEN {met} ELSE {otherwise} END"


def deletes_known(connection: sqlite3.Connection, name: str, key: str) -> int:
    """Return up to which version all deletes of a record are known here, whatever it is read again for."""
    row = connection.execute(
        f"SELECT {_deletes_known(':key')} WHERE object = :object", {"object": name, "key": key}
    ).fetchone()
    return 0 if row is None else int(row[0])


def read_until(connection: sqlite3.Connection, name: str, key: str) -> int:
    """Return up to which version all that the hub has of a record is read."""
    row = connection.execute(
        "SELECT CASE WHEN since > 0 AND ? <= after THEN since ELSE cursor END FROM statesync_cursor "
        "WHERE object = ?",
        (key, name),
    ).fetchone()
    return 0 if row is None else int(row[0])
