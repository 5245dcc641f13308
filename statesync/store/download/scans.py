"""Storing a page of scans: the ranges of keys that it has looked at, besides the records in it.

What the hub does not show in a range is not there. See ``docs/scan.md``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any

import msgspec

from statesync.classes import frozen
from statesync.store import bases, quarantine
from statesync.store.cursors.cursor import EPOCH, OWN, UNLOGGED, Cursor
from statesync.store.download import lost
from statesync.store.download.unshown import Unshown
from statesync.store.file.reading import read
from statesync.store.indexes import building
from statesync.store.local_only import LOCAL_KEYS
from statesync.store.outbox import changes, shared
from statesync.store.outbox.lookup import PENDING_KEYS
from statesync.store.quarantine import Misfit, Reason
from statesync.store.rereading import by_floors
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.store.tracking.quoting import in_main, quoted
from statesync.wire import MAX_KEY_LENGTH, Page, Scanned

MOST_ROWS = 5000
"""Rows of one range, besides the records of its page, that one transaction answers for."""


@frozen(slots=False, eq=False)
class Range:
    """The keys of one object that a page has looked at: behind ``after``, up to ``upto``, or to the end."""

    tracked: TrackedObject
    cursor: Cursor
    scanned: Scanned
    upto: str | None
    _page: Page
    to_come: int | None = None
    """About how many records the scan has yet to bring behind it, where the hub has counted them."""

    @property
    def key(self) -> str:
        """The object's key, as SQL names it."""
        return quoted(self.tracked.key)

    @property
    def shown(self) -> list[str]:
        """The keys of the page's entries and stubs."""
        name = self.tracked.name
        return [*(entry.key for entry in self._page.changes if entry.object == name), *self.scanned.stubs]

    @cached_property
    def bounds(self) -> Mapping[str, object]:
        """The values that the conditions name, but for the keys that are shown."""
        return {
            "object": self.tracked.name,
            "after": self.cursor.after,
            "upto": self.upto,
            "since": self.scanned.since,
        }

    @cached_property
    def known(self) -> Mapping[str, object]:
        """All values that they name. A page has many keys, so these are written down once, if at all."""
        return {**self.bounds, "shown": json.dumps(self.shown)}

    @property
    def begins_with_many(self) -> bool:
        """Whether a read of the whole object begins, and so many records come that its indexes may wait."""
        is_first = self.cursor.is_unread and not self.scanned.done
        return is_first and (self.scanned.count or 0) >= building.WORTH_IT

    def holds(self, key: str) -> str:
        """Return the condition that a key is in the range."""
        above = f"{key} COLLATE BINARY > :after"
        return above if self.upto is None else f"{above} AND {key} COLLATE BINARY <= :upto"

    def lacks(self, key: str) -> str:
        """Return the condition that a key is in the range, and that the page does not show it."""
        return f"{self.holds(key)} AND {key} COLLATE BINARY NOT IN (SELECT value FROM json_each(:shown))"

    @property
    def unshown(self) -> str:
        """The condition on rows that the hub did not have when the scan began.

        But not on those that wait, that are local only, or that this device has written since itself. A row
        that its table takes for a pending one's is spared: it may be the very one, written otherwise.
        """
        key = self.key
        return (
            f"{self.lacks(key)} AND {key} NOT IN ({PENDING_KEYS}) "
            f"AND {key} COLLATE BINARY NOT IN ({LOCAL_KEYS}) "
            f"AND {key} COLLATE BINARY NOT IN ({bases.NEWER})"
        )


def range_of(
    tracked: TrackedObject,
    cursor: Cursor,
    page: Page,
    upto: Mapping[str, str],
    to_come: int | None = None,
) -> Range:
    """Return what a page has looked at of one object; ``upto`` bounds it where it was cut."""
    scanned = page.scans[tracked.name]
    if tracked.name in upto:
        end: str | None = upto[tracked.name]
    elif scanned.done:
        end = scanned.until if cursor.is_part else None
    else:
        end = scanned.last
    return Range(tracked, cursor, scanned, end, page, to_come)


# -- pages that answer for too many rows -----------------------------------------------------------------


def cut(
    connection: sqlite3.Connection, page: Page, objects: Objects, found: Mapping[str, Cursor]
) -> tuple[Page, dict[str, str]]:
    """Return the part of a page that one transaction stores, and where ranges end that were cut.

    What is left of the page is asked for again. Only reads.
    """
    for place, name in enumerate(page.scans):
        looked_at = range_of(objects[name], found[name], page, {})
        end = None if found[name].rereading == OWN else _end_of(connection, looked_at)
        if end is not None:
            return _shortened(page, list(page.scans)[: place + 1], name, found, end), {name: end}
    return page, {}


def _end_of(connection: sqlite3.Connection, looked_at: Range) -> str | None:
    """Return the key at which a range has as many rows as one transaction may answer for, or None.

    Behind the end of a scan no position can stand. There those rows alone count that do not stay as they are:
    what counted once more would be cut off there for ever.
    """
    if _row_at(connection, looked_at, MOST_ROWS) is None:
        return None
    row = _row_at(connection, looked_at, len(looked_at.shown) + MOST_ROWS)
    if row is not None and not str(row[0]) < looked_at.scanned.until:
        tried = f"{looked_at.key} COLLATE BINARY NOT IN ({quarantine.KEYS})"
        row = _row_at(connection, looked_at, MOST_ROWS, f"{looked_at.unshown} AND {tried}")
    return None if row is None or not _can_be_position(row[0]) else str(row[0])


def _row_at(
    connection: sqlite3.Connection, looked_at: Range, place: int, which: str | None = None
) -> tuple[Any] | None:
    """Return the key of the row of a range that has so many before it; ``which`` picks those that count."""
    key = looked_at.key
    where, known = (which, looked_at.known) if which else (looked_at.holds(key), looked_at.bounds)
    found: tuple[Any] | None = read(
        connection,
        lambda: connection.execute(
            f"SELECT {key} FROM {in_main(looked_at.tracked.table)} WHERE {where} "
            f"ORDER BY {key} COLLATE BINARY LIMIT 1 OFFSET :rows",
            {**known, "rows": place},
        ).fetchone(),
    )
    return found


def _can_be_position(key: object) -> bool:
    """Tell whether a hub would take a key: the table may have rows that never were on any."""
    return type(key) is str and 0 < len(key) <= MAX_KEY_LENGTH and "\0" not in key


def _shortened(page: Page, names: Sequence[str], name: str, found: Mapping[str, Cursor], end: str) -> Page:
    """Return the page up to the key ``end`` of its object ``name``, the last of ``names``."""
    scanned = page.scans[name]
    stubs = list(takewhile(lambda key: key <= end, scanned.stubs))
    last = min(end, scanned.until)
    scans = {each: page.scans[each] for each in names}
    scans[name] = msgspec.structs.replace(scanned, last=last, done=False, stubs=stubs)
    return msgspec.structs.replace(
        page,
        changes=[e for e in page.changes if e.object in scans and (e.object != name or e.key <= end)],
        cursors={
            each: at if each in scans and each != name else found[each].position
            for each, at in page.cursors.items()
        },
        more=True,
        scans=scans,
    )


# -- what a page does not show ---------------------------------------------------------------------------


@frozen
class Replaced:
    """What became of a range: rows that cannot be deleted, and how many records left quarantine."""

    misfits: tuple[Misfit, ...] = ()
    released: int = 0


def replace(
    connection: sqlite3.Connection,
    looked_at: Range,
    session: str,
    deadly: Mapping[str, Reason] | None,
) -> Replaced:
    """Answer for the records of a range that its page does not show, in its table and in quarantine.

    They were deleted there, so they are here. A restored hub may have lost them: they are offered again. It
    does not tell of tombstones, which may have been made since its backup took its place, so the base is
    unknown. Of an object that came anew to a space they stay.

    ``deadly`` says that rows are deleted one by one, but for these. Without it a row that cannot be deleted
    raises ``PageDoesNotFit``. The caller has folded, and switched tracking off.
    """
    tracked, cursor = looked_at.tracked, looked_at.cursor
    if not _has_anything(connection, looked_at):
        return Replaced()
    shared.note_told(connection, tracked.name, looked_at.scanned.stubs)
    changes.lose_remote_images(connection, looked_at.lacks("key"), looked_at.known)
    misfits = list[Misfit]()
    unshown = Unshown(connection, tracked, looked_at.unshown, looked_at.known)
    is_any = cursor.rereading != OWN and unshown.is_any()  # mostly there is none
    if is_any and cursor.rereading in (EPOCH, UNLOGGED):
        _offer_again(connection, looked_at)
    elif is_any:
        misfits = unshown.delete(looked_at.scanned.since, deadly)
    if cursor.rereading == EPOCH:
        lost.log_unseen(connection, tracked, looked_at.lacks("key"), looked_at.known, session)
    released = quarantine.release_those(connection, tracked.name, looked_at.lacks("key"), looked_at.known)
    return Replaced(tuple(misfits), released)


def _has_anything(connection: sqlite3.Connection, looked_at: Range) -> bool:
    """Tell whether a range has a row, or its object a change or a record that waits.

    Mostly a first read finds nothing, and this is all that it asks.
    """
    tracked = looked_at.tracked
    rows = f"SELECT 1 FROM {in_main(tracked.table)} WHERE {looked_at.holds(looked_at.key)}"
    found = connection.execute(
        f"SELECT EXISTS ({rows}) OR EXISTS ({PENDING_KEYS}) OR EXISTS ({quarantine.KEYS})", looked_at.bounds
    )
    return bool(found.fetchone()[0])


def _offer_again(connection: sqlite3.Connection, looked_at: Range) -> None:
    cursor, unshown = looked_at.cursor, looked_at.unshown
    for where, known, until in by_floors(looked_at.tracked, cursor, unshown, looked_at.known):
        changes.offer_again(connection, looked_at.tracked, where, known, since=until)


def pass_over(connection: sqlite3.Connection, looked_at: Range) -> None:
    """Forget which versions in a range are exceptions, but newer ones, and those of old rows.

    The latter say nothing of what waits in their place.
    """
    which = f"{looked_at.holds('key')} AND version <= :since AND key NOT IN ({quarantine.KEYS})"
    bases.forget_those(connection, which, looked_at.bounds)
