"""The statements that read and write an object's records; they depend on its columns."""

from __future__ import annotations

from collections.abc import Container
from functools import cached_property

from statesync.store.tracking.description import Description
from statesync.store.tracking.quoting import literal, quoted


class Statements:
    """The SQL of one object's own table."""

    def __init__(self, of: Description) -> None:
        self._of = of

    def upsert(
        self, columns: tuple[str, ...], spared: Container[str] = (), computed: tuple[str, ...] = ()
    ) -> str:
        """Insert or update (key, *columns), leaving other columns of a known record as they are.

        A new record gets the defaults of the other columns, but for the ``computed`` ones, whose values come
        behind those of ``columns``. ``spared`` columns of a known record are not
        set; where one of them would change, the whole record is left as it is.
        """
        given = (*columns, *computed)
        unset = [c for c in self._of.columns if c.name not in given and c.default is not None]
        names = ", ".join(quoted(name) for name in (self._of.key, *given, *(c.name for c in unset)))
        marks = ", ".join(["?"] * (len(given) + 1) + [literal(c.default) for c in unset])
        updates = ", ".join(
            f"{quoted(name)} = excluded.{quoted(name)}" for name in columns if name not in spared
        )
        unchanged = " AND ".join(_is_unchanged(quoted(name)) for name in columns if name in spared)
        where = f" WHERE {unchanged}" if unchanged else ""
        action = f"UPDATE SET {updates}{where}" if updates else "NOTHING"
        key, table = quoted(self._of.key), quoted(self._of.table)
        return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({key}) DO {action}"

    @cached_property
    def delete(self) -> str:
        """Delete one record by its key."""
        return f"DELETE FROM {quoted(self._of.table)} WHERE {quoted(self._of.key)} = ?"

    @cached_property
    def select(self) -> str:
        """Select (key, *columns) of the records whose keys are in a JSON list."""
        return f"{self.select_all} WHERE {quoted(self._of.key)} IN (SELECT value FROM json_each(?))"

    @property
    def select_all(self) -> str:
        """Select (key, *columns) of all records."""
        names = ", ".join(quoted(name) for name in (self._of.key, *self._of.column_names))
        return f"SELECT {names} FROM {quoted(self._of.table)}"


def _is_unchanged(column: str) -> str:
    """Compare to the byte, whatever the column's collation says: 1 is not 1.0, and a is not A."""
    new = f"excluded.{column}"
    return f"{column} COLLATE BINARY IS {new} AND typeof({column}) = typeof({new})"
