"""How far each object's feed and scan are applied. Owns the two tables.

``statesync_cursor`` has a row for every object that belongs to a space. ``statesync_seen`` has the keys that
a read from the start in the order of versions has met so far: such a read may span sessions.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from statesync.filters import NO_FILTER, Filter, Filters
from statesync.store import bases, quarantine
from statesync.store.cursors import rereads
from statesync.store.cursors.cursor import COLUMNS, Cursor, begun_after
from statesync.wire import Page, Scanned


class Kept(NamedTuple):
    """A cursor as it stands in the file, where another program may have written any position."""

    name: str
    position: Any
    space: str
    since: Any
    after: Any
    until: Any
    floors: Any

    @property
    def has_sound_scan(self) -> bool:
        """Whether a hub may have told how far a scan has come, and earlier ones had."""
        if not isinstance(self.since, int) or self.since < 0 or not isinstance(self.floors, str):
            return False
        is_scan = (
            isinstance(self.after, str) and isinstance(self.until, str) and self.after <= self.until != ""
        )
        is_none = self.after == self.until == ""
        of_cursor = self.position in (0, self.since)
        return (is_scan and of_cursor if self.since else is_none) and _are_sound(self.floors)


def _are_sound(floors: str) -> bool:
    """Tell whether floors are such as ``Cursor.floors_after`` makes them: higher ones were read less far."""
    try:
        found = json.loads(floors)
    except ValueError:
        return False
    is_list = isinstance(found, list) and all(
        isinstance(each, list) and [type(part) for part in each] == [str, int] for each in found
    )
    return is_list and all(one[0] > other[0] for one, other in pairwise(found))


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
    """Forget an object's cursor, and what is known of its records."""
    connection.execute("DELETE FROM statesync_cursor WHERE object = ?", (name,))
    rereads.forget_seen(connection, name)
    quarantine.forget(connection, name)
    bases.forget(connection, name)


# -- how far a feed is applied ---------------------------------------------------------------------


def cursors(connection: sqlite3.Connection, objects: Iterable[str]) -> dict[str, Cursor]:
    """Return the cursors of these objects."""
    wanted = set(objects)
    rows = connection.execute(f"SELECT {COLUMNS} FROM statesync_cursor")
    return {row[0]: Cursor(*row) for row in rows if row[0] in wanted}


def position_of(connection: sqlite3.Connection, name: str) -> int:
    """Return up to which version an object's feed is applied; 0 if it belongs to no space."""
    row = connection.execute("SELECT cursor FROM statesync_cursor WHERE object = ?", (name,)).fetchone()
    return 0 if row is None else row[0]


def kept(connection: sqlite3.Connection) -> list[Kept]:
    """Return every cursor as it stands in the file, unchecked."""
    rows = connection.execute(
        "SELECT object, cursor, space, since, after, until, floors FROM statesync_cursor"
    ).fetchall()
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


def follow_scan(
    connection: sqlite3.Connection, cursor: Cursor, scanned: Scanned, to_come: int | None
) -> None:
    """Save how far a page leads a scan, and how many records are ``to_come``; in its transaction.

    One of the whole object that is done is followed by the feed from where it began; one of a range leaves
    the cursor where it was. A page of a scan without an end leads nowhere before it is done.
    """
    name = cursor.object
    if not scanned.done and scanned.until:
        connection.execute(
            "UPDATE statesync_cursor SET since = ?, after = ?, until = ?, to_come = ? WHERE object = ?",
            (scanned.since, scanned.last, scanned.until, to_come, name),
        )
    elif scanned.done:
        connection.execute(
            "UPDATE statesync_cursor SET cursor = ?, begun = 0, since = 0, after = '', until = '', "
            "to_come = NULL WHERE object = ?",
            (scanned.since, name),
        )
        if not cursor.is_part:
            rereads.end_reread(connection, name)


def ends_of_scans(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the end of each scan of a whole object that is under way, by its object."""
    rows = connection.execute("SELECT object, until FROM statesync_cursor WHERE since > 0 AND cursor = 0")
    return dict(rows.fetchall())


# -- filters ---------------------------------------------------------------------------------------


def stored_filters(connection: sqlite3.Connection, objects: Iterable[str]) -> Filters:
    """Return the filters with which these objects are being read."""
    rows = connection.execute("SELECT object, filter FROM statesync_cursor WHERE filter IS NOT NULL")
    wanted = set(objects)
    return {name: Filter.from_text(text) for name, text in rows if name in wanted}


def filtered_otherwise(found: Mapping[str, Cursor], filters: Filters) -> list[str]:
    """Return the objects that are not read with the filter that is wanted now."""
    wanted = {name: filters.get(name, NO_FILTER).as_text() for name in found}
    return [name for name, text in wanted.items() if found[name].filter != text]


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
