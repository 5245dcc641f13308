"""Records that came down and do not fit their tables. Owns ``statesync_quarantine``.

Such a record waits here, in the version that the hub has, while the table keeps the row that it had, or
none. So the row is an older one than its object's cursor says: its base stays below the version that waits,
and the hub sees the conflict if it is edited.

A record leaves when a newer version of it comes, when it fits, when the hub has said what became of an edit
of it, or with its object.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from attrs import astuple

from statesync.classes import frozen
from statesync.conflicts import Record
from statesync.store import bases, local_only
from statesync.values import Quarantined, RecordError

TABLE = "statesync_quarantine"

KEYS = "SELECT key FROM statesync_quarantine WHERE object = :object"
"""The keys of an object's records that wait here, as a part of a statement."""

MOST_ERRORS = 1000
"""Records that a session's result lists."""

_FOUND = "object, key, version, data, code, message, in_the_way, session, since, tries"


@frozen
class Reason:
    """Why a record does not fit: a ``code``, what the database said, and the key of the record in the way."""

    code: str
    message: str
    in_the_way: str | None = None


@frozen
class Misfit:
    """One record that does not fit. ``data`` is its JSON text as it travelled; None is a delete."""

    key: str
    version: int
    data: bytes | None
    reason: Reason


# -- looking ---------------------------------------------------------------------------------------


ANY = "EXISTS (SELECT 1 FROM statesync_quarantine)"
"""Whether any record waits here, as a part of a statement."""


def total(connection: sqlite3.Connection) -> int:
    """Return how many records wait here."""
    return int(connection.execute("SELECT count(*) FROM statesync_quarantine").fetchone()[0])


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many records of each object wait here."""
    return dict(
        connection.execute("SELECT object, count(*) FROM statesync_quarantine GROUP BY object").fetchall()
    )


def among(connection: sqlite3.Connection, name: str, keys: Iterable[str]) -> set[str]:
    """Return those of these records of an object that wait here."""
    rows = connection.execute(
        "SELECT key FROM statesync_quarantine WHERE object = ? AND key IN (SELECT value FROM json_each(?))",
        (name, json.dumps(list(keys))),
    )
    return {key for (key,) in rows}


def count_of(connection: sqlite3.Connection, names: Iterable[str]) -> int:
    """Return how many records of these objects wait here."""
    sql = "SELECT count(*) FROM statesync_quarantine WHERE object IN (SELECT value FROM json_each(?))"
    return int(connection.execute(sql, (json.dumps(list(names)),)).fetchone()[0])


def count_to_retry(connection: sqlite3.Connection, name: str, but: Iterable[str], pending: str) -> int:
    """Return how many records of an object there are to try again, but ``but``; ``pending`` as below."""
    sql = f"SELECT count(*) FROM statesync_quarantine AS held WHERE {_to_try(pending)}"
    known = {"object": name, "but": json.dumps(list(but))}
    return int(connection.execute(sql, known).fetchone()[0])


def to_retry(
    connection: sqlite3.Connection, name: str, but: Iterable[str], pending: str, most: int, *, blocked: bool
) -> list[Misfit]:
    """Return up to ``most`` records of an object to try again: those that were tried least, oldest first.

    ``blocked`` are those behind another one that waits here. ``but`` are keys to leave out, and so are those
    that ``pending`` picks, whose changes wait: these records wait for what the hub says of the change. Those
    that were written over by what is local only wait for a newer version, or for a change.
    """
    rows = connection.execute(
        f"SELECT {_MISFIT} FROM statesync_quarantine AS held WHERE {_to_try(pending)} "
        "AND :blocked = (in_the_way IS NOT NULL AND EXISTS (SELECT 1 FROM statesync_quarantine AS other "
        "WHERE other.object = held.object AND other.key = held.in_the_way)) "
        "ORDER BY tries, rowid LIMIT :most",
        {"object": name, "but": json.dumps(list(but)), "most": most, "blocked": blocked},
    )
    return [_misfit(*row) for row in rows]


def behind(
    connection: sqlite3.Connection, name: str, keys: Iterable[str], pending: str, most: int
) -> list[Misfit]:
    """Return up to ``most`` records of an object that one of ``keys`` stood in the way of."""
    rows = connection.execute(
        f"SELECT {_MISFIT} FROM statesync_quarantine AS held WHERE {_to_try(pending)} "
        "AND in_the_way IN (SELECT value FROM json_each(:keys)) LIMIT :most",
        {"object": name, "but": "[]", "keys": json.dumps(list(keys)), "most": most},
    )
    return [_misfit(*row) for row in rows]


def _to_try(pending: str) -> str:
    return (
        "held.object = :object AND held.key NOT IN (SELECT value FROM json_each(:but)) "
        f"AND held.key NOT IN ({pending}) AND NOT EXISTS ({local_only.WRITTEN_OVER_HELD})"
    )


def written_over(connection: sqlite3.Connection, name: str, keys: Iterable[str]) -> dict[str, int]:
    """Return the versions of those of these records that wait and that a local-only write went over."""
    rows = connection.execute(
        "SELECT key, version FROM statesync_quarantine AS held WHERE object = ? "
        f"AND key IN (SELECT value FROM json_each(?)) AND EXISTS ({local_only.WRITTEN_OVER_HELD})",
        (name, json.dumps(list(keys))),
    )
    return dict(rows.fetchall())


_MISFIT = "key, version, data, code, message, in_the_way"


def _misfit(
    key: str, version: int, data: bytes | None, code: str, message: str, in_the_way: str | None
) -> Misfit:
    return Misfit(key, version, data, Reason(code, message, in_the_way))


def texts(connection: sqlite3.Connection, name: str, keys: Iterable[str]) -> dict[str, bytes]:
    """Return the texts of those of these records that wait here, but of deletes."""
    rows = connection.execute(
        "SELECT key, data FROM statesync_quarantine "
        "WHERE object = ? AND data IS NOT NULL AND key IN (SELECT value FROM json_each(?))",
        (name, json.dumps(list(keys))),
    )
    return dict(rows.fetchall())


def texts_of_those(
    connection: sqlite3.Connection, which: str, known: Mapping[str, object]
) -> dict[str, bytes]:
    """Return the texts of those records of ``:object`` that ``which`` picks by ``key``, but of deletes."""
    rows = connection.execute(
        f"SELECT key, data FROM statesync_quarantine WHERE object = :object AND data IS NOT NULL AND {which}",
        known,
    )
    return dict(rows.fetchall())


def records(
    connection: sqlite3.Connection, name: str, low: str, until: str | None
) -> dict[str, bytes | None]:
    """Return the texts of the records that wait, with keys from ``low`` to before ``until``."""
    rows = connection.execute(
        "SELECT key, data FROM statesync_quarantine "
        "WHERE object = :object AND key >= :low AND (:until IS NULL OR key < :until)",
        {"object": name, "low": low, "until": until},
    )
    return dict(rows.fetchall())


def as_travelled(text: bytes) -> Record:
    """Return a record's members as their writer sent them.

    Half a character, which JSON can name and no text can hold, becomes a question mark.
    """
    written = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace")
    record: Record = json.loads(written)
    return record


def entries(connection: sqlite3.Connection, names: Iterable[str]) -> list[Quarantined]:
    """Return all that waits of these objects, oldest first."""
    rows = connection.execute(
        f"SELECT {_FOUND} FROM statesync_quarantine WHERE object IN (SELECT value FROM json_each(?)) "
        "ORDER BY rowid",
        (json.dumps(list(names)),),
    )
    return [_entry(*row) for row in rows]


def _entry(
    name: str,
    key: str,
    version: int,
    data: bytes | None,
    code: str,
    message: str,
    in_the_way: str | None,
    session: str,
    since: float,
    tries: int,
) -> Quarantined:
    record: Record | None = None if data is None else as_travelled(data)
    began = datetime.fromtimestamp(since, UTC)
    return Quarantined(name, key, version, record, code, message, in_the_way, session, began, tries)


def errors(connection: sqlite3.Connection, names: Iterable[str]) -> list[RecordError]:
    """Return the first ``MOST_ERRORS`` records that wait of these objects, with what is wrong."""
    rows = connection.execute(
        "SELECT object, key, code, message, in_the_way FROM statesync_quarantine "
        "WHERE object IN (SELECT value FROM json_each(?)) ORDER BY rowid LIMIT ?",
        (json.dumps(list(names)), MOST_ERRORS),
    )
    return [
        RecordError(name, key, code, message if other is None else f"{message}; {other!r} is in the way")
        for name, key, code, message, other in rows
    ]


# -- holding ---------------------------------------------------------------------------------------


def hold(connection: sqlite3.Connection, name: str, misfits: Sequence[Misfit], session: str) -> None:
    """Let records wait; one that waits already is replaced, in the version that it has now.

    The rows that they leave as they were stay edits of what was there before.
    """
    now = time.time()
    connection.executemany(
        f"INSERT INTO statesync_quarantine ({_FOUND}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1) "
        "ON CONFLICT (object, key) DO UPDATE SET version = excluded.version, data = excluded.data, "
        "code = excluded.code, message = excluded.message, in_the_way = excluded.in_the_way, "
        "session = CASE WHEN version = excluded.version THEN session ELSE excluded.session END, "
        "since = CASE WHEN version = excluded.version THEN since ELSE excluded.since END, "
        "tries = CASE WHEN version = excluded.version THEN tries + 1 ELSE 1 END",
        [(name, each.key, each.version, each.data, *astuple(each.reason), session, now) for each in misfits],
    )


def keep_bases(connection: sqlite3.Connection, name: str, misfits: Iterable[Misfit]) -> None:
    """Let edits of the rows that stayed be edits of an older version than the one that waits.

    Which one that was is not known, and does not matter: between the two the hub has none of the record. To
    be called once the cursor has passed the page, which forgets what it passes.
    """
    for misfit in misfits:
        bases.remember(connection, name, misfit.key, max(1, misfit.version - 1))


def older_rows(connection: sqlite3.Connection, names: Iterable[str]) -> list[tuple[str, str, int]]:
    """Return (object, key, version) of the rows that stayed where another version waits.

    A read from the start comes past these versions before it comes to the ones that wait. That says nothing
    of the rows: what forgets the versions that it passes has to remember these.
    """
    found = ((name, bases.exceptions(connection, name)) for name in names)
    return [
        (name, key, known[key])
        for name, known in found
        if known
        for key in among(connection, name, map(str, known))
    ]


def keep_its_bases_alone(connection: sqlite3.Connection, name: str) -> None:
    """Say that all records of an object are as its cursor says, but those that wait here."""
    exceptions = bases.exceptions(connection, name)
    if exceptions:
        waiting = among(connection, name, map(str, exceptions))
        for key in exceptions.keys() - waiting:
            bases.forget_record(connection, name, str(key))


def try_first(connection: sqlite3.Connection, name: str) -> None:
    """Let the records of an object be tried before others: what they are tried against has changed."""
    connection.execute("UPDATE statesync_quarantine SET tries = 0 WHERE object = ?", (name,))


# -- releasing -------------------------------------------------------------------------------------


def release(connection: sqlite3.Connection, name: str, keys: Iterable[str]) -> int:
    """Let records go that need not wait any more; return how many had waited.

    Their rows are what their cursor says.
    """
    released = 0
    for key in keys:
        at = (name, key)
        gone = connection.execute("DELETE FROM statesync_quarantine WHERE object = ? AND key = ?", at)
        if gone.rowcount:
            bases.forget_record(connection, name, key)
            released += 1
    return released


def release_those(connection: sqlite3.Connection, name: str, which: str, known: Mapping[str, object]) -> int:
    """Let those records of an object go that ``which`` picks by ``key``: the hub has none of them.

    Returns how many there were.
    """
    rows = connection.execute(
        f"SELECT key FROM statesync_quarantine WHERE object = :object AND {which}", known
    )
    return release(connection, name, [key for (key,) in rows.fetchall()])


def forget(connection: sqlite3.Connection, name: str) -> None:
    """Forget all that waits of an object."""
    connection.execute("DELETE FROM statesync_quarantine WHERE object = ?", (name,))
