"""Deleting the rows of a table that a read from the start did not show. A rule of the table may hold some."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from statesync.classes import frozen
from statesync.store.download.apart import Apart
from statesync.store.download.fitting import REFUSALS, PageDoesNotFit, reason_of
from statesync.store.file.reading import read
from statesync.store.quarantine import Misfit, Reason
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, quoted
from statesync.store.tracking.records import passed_over


@frozen
class Unshown:
    """The rows of one object for which the condition ``which`` holds; ``known`` are the values it names."""

    connection: sqlite3.Connection
    tracked: TrackedObject
    which: str
    known: Mapping[str, object]

    def is_any(self) -> bool:
        """Tell whether there is such a row."""
        return self.connection.execute(f"SELECT 1 {self._rows} LIMIT 1", self.known).fetchone() is not None

    def delete(self, version: int, deadly: Mapping[str, Reason] | None) -> list[Misfit]:
        """Delete the rows; return those that stay, in ``version``, as nobody knows when each was deleted.

        ``deadly`` says that they are deleted one by one, but for these. Without it a row that stays raises
        ``PageDoesNotFit``. In a transaction, with tracking off.
        """
        if deadly is not None:
            return self._delete_apart(version, deadly)
        try:
            self.connection.execute(f"DELETE {self._rows}", self.known)
        except REFUSALS as error:
            if reason_of(error) is None:
                raise
            raise PageDoesNotFit from error
        if self.is_any():
            raise PageDoesNotFit from passed_over(self.tracked)
        return []

    def _delete_apart(self, version: int, deadly: Mapping[str, Reason]) -> list[Misfit]:
        rows = read(self.connection, self._keys)
        apart = Apart(self.connection, self.tracked, set(), deadly)
        apart.delete(key for (key,) in rows)
        return [Misfit(str(key), version, None, reason) for key, reason in apart.misfits.items()]

    def _keys(self) -> list[tuple[Any]]:
        return self.connection.execute(
            f"SELECT {quoted(self.tracked.key)} {self._rows}", self.known
        ).fetchall()

    @property
    def _rows(self) -> str:
        return f"FROM {in_main(self.tracked.table)} WHERE {self.which}"
