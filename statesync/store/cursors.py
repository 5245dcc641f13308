"""How far each object's feed is applied, and why one is being read from the start. Owns the two tables.

``statesync_cursor`` has a row for every object that belongs to a space. ``statesync_seen`` has the keys that
a read from the start has met so far: such a read may span sessions.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from attrs import frozen

from statesync.filters import NO_FILTER, Filter, Filters
from statesync.store import bases, quarantine
from statesync.store.bases import Base
from statesync.wire import Feed, Page

TABLE, SEEN_TABLE = "statesync_cursor", "statesync_seen"

EPOCH, MISSED_DELETES, EVERYTHING, OWN = "epoch", "horizon", "everything", "own"
UNLOGGED = "unlogged"
"""Why an object is read from the start: the hub lost records, the device missed deletes, it has none, it
may have forgotten some that it wrote itself, or writes here may be missing from its log."""

UNKNOWN = -1
"""Where a read from the start has begun at that: the device had read the object, and nobody knows how far.

It is no version: the very first record that a hub is given has 1."""

SEEN_KEYS = "SELECT key FROM statesync_seen WHERE object = :object"
"""The keys that a read from the start has met, as a part of a statement."""


_DELETES_KNOWN = "CASE WHEN rereading IS NULL THEN cursor ELSE missed_from END FROM statesync_cursor"

DELETES_KNOWN = f"SELECT {_DELETES_KNOWN} WHERE statesync_cursor.object = change.object"
"""Up to which version all deletes of the object of a ``change`` are known, as a part of a statement."""


@frozen
class Cursor:
    """How far one object's feed is applied; ``rereading`` is why it is being read from the start again.

    ``reread_from`` is how far anything of it was read before that, and ``missed_from`` how far all deletes
    are known of a record that the read has not met. ``begun`` is where the hub's head was when a read from
    the start, the first one too, began that is not at its end; else 0.

    A page is stored only where the cursor is the one that it was asked from, in all that it says.
    """

    object: str
    position: int
    rereading: str | None
    reread_from: int
    missed_from: int
    begun: int
    space: str
    filter: str | None

    @property
    def is_compared(self) -> bool:
        """Whether records that the hub did not show are offered again, or deleted, when all has been read."""
        return self.rereading not in (None, OWN)

    @property
    def seen_until(self) -> int:
        """Up to which version the device has certainly seen what it has, where it reads from the start."""
        return 0 if self.reread_from == UNKNOWN else self.reread_from


class Kept(NamedTuple):
    """A cursor as it stands in the file, where another program may have written any position."""

    name: str
    position: Any
    space: str


# -- which object belongs to which space -----------------------------------------------------------


def spaces(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the space that each object belongs to."""
    return dict(connection.execute("SELECT object, space FROM statesync_cursor").fetchall())


def move_to_space(connection: sqlite3.Connection, name: str, space: str, rereading: str | None) -> None:
    """Let an object belong to ``space`` from now on; a reason why it is read from the start stays."""
    connection.execute(
        "INSERT INTO statesync_cursor (object, space, rereading) VALUES (?, ?, ?) "
        "ON CONFLICT (object) DO UPDATE SET "
        "space = excluded.space, rereading = coalesce(rereading, excluded.rereading)",
        (name, space, rereading),
    )


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Forget an object's cursor, and what a read from the start has met."""
    connection.execute("DELETE FROM statesync_cursor WHERE object = ?", (name,))
    _forget_seen(connection, name)
    quarantine.forget(connection, name)
    bases.forget(connection, name)


# -- how far a feed is applied ---------------------------------------------------------------------


def cursors(connection: sqlite3.Connection, objects: Iterable[str]) -> dict[str, Cursor]:
    """Return the cursors of these objects."""
    wanted = set(objects)
    rows = connection.execute(
        "SELECT object, cursor, rereading, reread_from, missed_from, begun, space, filter "
        "FROM statesync_cursor"
    )
    return {row[0]: Cursor(*row) for row in rows if row[0] in wanted}


def position_of(connection: sqlite3.Connection, name: str) -> int:
    """Return up to which version an object's feed is applied; 0 if it belongs to no space."""
    row = connection.execute("SELECT cursor FROM statesync_cursor WHERE object = ?", (name,)).fetchone()
    return 0 if row is None else row[0]


def base_sql(connection: sqlite3.Connection, name: str) -> Base:
    """Return the base of a change of a known record: up to which version the device has seen it.

    A record that a read from the start has not met so far may have been deleted meanwhile: nothing is known
    of it but what was known before. Where that read is for what was missed, it is as it had been read then.
    After a new epoch, and where writes are not logged, nobody knows whether it is as the hub has it.
    """
    row = connection.execute(
        "SELECT cursor, rereading, reread_from, missed_from FROM statesync_cursor WHERE object = ?", (name,)
    ).fetchone()
    cursor, rereading, reread_from, missed_from = row or (0, None, 0, 0)
    as_read = Base(_as_read(cursor), "0")
    if rereading == MISSED_DELETES:
        as_read = Base(_if_met(_as_read(max(cursor, reread_from)), _as_read(missed_from)), "0")
    elif rereading in (EPOCH, UNLOGGED):
        unsure = _as_read(min(cursor, missed_from))
        as_read = Base(_if_met(_as_read(cursor), unsure), _if_met("0", str(missed_from)))
    return bases.with_exceptions(connection, name, as_read)


def _as_read(version: int) -> str:
    return str(max(1, version))


def _if_met(met: str, otherwise: str) -> str:
    return f"CASE WHEN logged.key IN ({SEEN_KEYS}) THEN {met} ELSE {otherwise} END"


def deletes_known(connection: sqlite3.Connection, name: str) -> int:
    """Return up to which version all deletes of an object are known here, whatever it is read again for."""
    row = connection.execute(f"SELECT {_DELETES_KNOWN} WHERE object = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def kept(connection: sqlite3.Connection) -> list[Kept]:
    """Return every cursor as it stands in the file, unchecked."""
    rows = connection.execute("SELECT object, cursor, space FROM statesync_cursor").fetchall()
    return list(map(Kept._make, rows))


def move(connection: sqlite3.Connection, found: Iterable[Cursor], page: Page) -> None:
    """Save how far a page leads the feeds; in the transaction that applies it."""
    connection.executemany(
        "UPDATE statesync_cursor SET cursor = ?, begun = ? WHERE object = ?",
        [
            (page.cursors[each.object], begun_after(page, each.position, each.begun), each.object)
            for each in found
        ],
    )


def begun_after(page: Page, position: int, begun: int) -> int:
    """Return where the read from the start began that goes on after a page, asked for from ``position``."""
    if not page.more:
        return 0
    return begun if position else page.head


# -- filters ---------------------------------------------------------------------------------------


def stored_filters(connection: sqlite3.Connection, objects: Iterable[str]) -> Filters:
    """Return the filters with which these objects are being read."""
    rows = connection.execute("SELECT object, filter FROM statesync_cursor WHERE filter IS NOT NULL")
    wanted = set(objects)
    return {name: Filter.from_text(text) for name, text in rows if name in wanted}


def keep_filters(connection: sqlite3.Connection, objects: Iterable[str], filters: Filters) -> list[str]:
    """Keep the filters with which these objects are read from now on; return whose filter was another one."""
    before = dict(connection.execute("SELECT object, filter FROM statesync_cursor").fetchall())
    wanted = {name: filters.get(name, NO_FILTER).as_text() for name in objects if name in before}
    changed = [name for name, text in wanted.items() if before[name] != text]
    if changed:
        connection.executemany(
            "UPDATE statesync_cursor SET filter = ? WHERE object = ?",
            [(wanted[name], name) for name in changed],
        )
    return changed


def feeds(found: Mapping[str, Cursor]) -> dict[str, Feed]:
    """Return what a pull asks for: each object's cursor, filter, and whether its own writes are needed."""
    return {
        name: Feed(
            cursor.position,
            own=cursor.rereading is not None,
            filter=Filter.from_text(cursor.filter).on_the_wire(),
            begun=cursor.begun,
        )
        for name, cursor in found.items()
    }


# -- reading from the start ------------------------------------------------------------------------


def start_over(connection: sqlite3.Connection, name: str, why: str) -> None:
    """Set an object's cursor to the start of its feed.

    A read after a new epoch that has not ended stays one: it alone offers again what the hub has lost. One
    for writes that are not logged does that too, and stays one as well. What a read that has not ended has
    come past says nothing of deletes of records that it had not met.
    """
    _forget_seen(connection, name)
    if why in (EPOCH, EVERYTHING):
        bases.forget(connection, name)
    if why == EVERYTHING:
        quarantine.forget(connection, name)
    connection.execute(
        "UPDATE statesync_cursor SET cursor = 0, begun = 0, "
        "reread_from = CASE WHEN cursor = 0 THEN reread_from ELSE max(cursor, reread_from) END, "
        "missed_from = CASE WHEN rereading IS NULL OR rereading = :all THEN cursor ELSE missed_from END, "
        "rereading = CASE WHEN :why = :all THEN :why WHEN rereading = :unlogged THEN rereading "
        "WHEN rereading = :epoch AND :why <> :unlogged THEN rereading ELSE :why END "
        "WHERE object = :name",
        {"why": why, "name": name, "epoch": EPOCH, "all": EVERYTHING, "unlogged": UNLOGGED},
    )


def forget_above(connection: sqlite3.Connection, name: str, version: int) -> None:
    """Say that nobody knows how far an object was read before, if that was further than ``version``.

    It is read from the start, and those records are there in no version that means anything.
    """
    connection.execute(
        "UPDATE statesync_cursor SET "
        "reread_from = CASE WHEN reread_from > :version THEN :unknown ELSE reread_from END, "
        "missed_from = CASE WHEN missed_from > :version THEN 0 ELSE missed_from END WHERE object = :name",
        {"name": name, "version": version, "unknown": UNKNOWN},
    )


def restart_rereads(connection: sqlite3.Connection) -> None:
    """Begin anew to read the objects that are being read from the start: what they have met is unknown."""
    rows = connection.execute("SELECT object, rereading FROM statesync_cursor WHERE rereading IS NOT NULL")
    for name, why in rows.fetchall():
        start_over(connection, name, why)


def add_unread(connection: sqlite3.Connection, name: str, columns: Iterable[str]) -> frozenset[str]:
    """Note that an object has new columns, if anything of it was read before they came.

    The hub may have values for them. Until these are read, what the device has there is its own. Returns all
    such columns of the object.
    """
    row = connection.execute(
        "SELECT unread FROM statesync_cursor WHERE object = ? AND (cursor > 0 OR rereading IS NOT NULL)",
        (name,),
    ).fetchone()
    if row is None:
        return frozenset()
    unread = frozenset(columns).union(json.loads(row[0] or "[]"))
    connection.execute(
        "UPDATE statesync_cursor SET unread = ? WHERE object = ?", (json.dumps(sorted(unread)), name)
    )
    return unread


def unread(connection: sqlite3.Connection, name: str) -> frozenset[str]:
    """Return the columns of an object whose values the hub has not shown yet."""
    row = connection.execute("SELECT unread FROM statesync_cursor WHERE object = ?", (name,)).fetchone()
    return frozenset(json.loads(row[0])) if row is not None and row[0] is not None else frozenset()


def distrust(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Set cursors to zero that no hub has given, and forget how far they had come."""
    for name in names:
        bases.forget(connection, name)
        connection.execute(
            "UPDATE statesync_cursor SET cursor = 0, begun = 0, reread_from = 0, missed_from = 0 "
            "WHERE object = ?",
            (name,),
        )


def note_seen(connection: sqlite3.Connection, name: str, keys: Iterable[str]) -> None:
    """Remember the keys that a read from the start has met."""
    connection.executemany(
        "INSERT OR IGNORE INTO statesync_seen VALUES (?, ?)", ((name, key) for key in keys)
    )


def end_reread(connection: sqlite3.Connection, name: str) -> None:
    """Say that a read from the start has come to its end."""
    _forget_seen(connection, name)
    connection.execute(
        "UPDATE statesync_cursor SET rereading = NULL, reread_from = 0, missed_from = 0, unread = NULL "
        "WHERE object = ?",
        (name,),
    )


def _forget_seen(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("DELETE FROM statesync_seen WHERE object = ?", (name,))
