"""Storing the records of a page each by itself, where one of them does not fit its table.

What does not fit is told of, and everything else is stored. Values that must be unique may have moved
between the records of the page; room for them is made in ``room``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from attrs import field

from statesync.classes import define
from statesync.store import local_only
from statesync.store.download import room, upserts
from statesync.store.download.fitting import NOT_UNIQUE, attempt, keys_in_the_way
from statesync.store.download.upserts import Row
from statesync.store.quarantine import Reason
from statesync.store.tracking import records
from statesync.store.tracking.objects import TrackedObject


@define
class Apart:
    """One object's part of a page while it is stored record by record, in a transaction.

    ``local`` are the records that are local only until theirs is stored, ``deadly`` those that may not even
    be tried. ``misfits`` is what did not fit so far.
    """

    connection: sqlite3.Connection
    tracked: TrackedObject
    local: set[str]
    deadly: Mapping[str, Reason]
    misfits: dict[str, Reason] = field(factory=dict)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete these records, but those that a rule of the table holds fast."""
        for key in keys:
            self._attempt(key, partial(records.delete, self.connection, self.tracked, key))

    def write(self, rows: Iterable[Row]) -> None:
        """Write these rows of (key, *columns), but those that do not fit."""
        crowded = []
        for row in rows:
            reason = self._attempt(
                str(row[0]), partial(upserts.write_plainly, self.connection, self.tracked, row)
            )
            if reason is not None and reason.code == NOT_UNIQUE and row[0] not in self.deadly:
                crowded.append(row)
        if crowded:
            self._make_room(crowded)

    def _make_room(self, crowded: list[Row]) -> None:
        """Write the rows whose unique values belong to others, as far as these move to other values too."""
        left = room.write_together(self.connection, self.tracked, crowded, self.try_out)
        for row in crowded:
            key = str(row[0])
            if key in left:
                others = sorted(keys_in_the_way(self.connection, self.tracked, row))
                in_the_way = others[0] if others else None
                self.misfits[key] = Reason(NOT_UNIQUE, self.misfits[key].message, in_the_way)
            else:
                del self.misfits[key]

    def _attempt(self, key: str, write: Callable[[], None]) -> Reason | None:
        """Try to write one record under a savepoint; return why it does not fit."""
        reason = self.deadly.get(key) or self.try_out(key, write)
        if reason is not None:
            self.misfits[key] = reason
        return reason

    def try_out(self, key: str, write: Callable[[], None]) -> Reason | None:
        """Write one record, or nothing of it, and then return why."""
        return attempt(self.connection, self.tracked.name, key, partial(self._written, key, write))

    def _written(self, key: str, write: Callable[[], None]) -> None:
        write()
        if key in self.local:
            local_only.end(self.connection, self.tracked.name, [key])
