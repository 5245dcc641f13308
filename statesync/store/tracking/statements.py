"""The statements that read and write an object's records; they depend on its columns."""

from __future__ import annotations

from collections.abc import Container
from functools import cached_property

from statesync.store.tracking.description import Column, Description
from statesync.store.tracking.quoting import in_main, is_key, is_same_key, literal, quoted

_AS_TEXT = "CAST(? AS TEXT)"


class Statements:
    """The SQL of one object's own table. It finds records by their keys to the byte."""

    def __init__(self, of: Description) -> None:
        self._of = of

    def upsert(
        self,
        columns: tuple[str, ...],
        spared: Container[str] = (),
        as_text: Container[str] = (),
        computed: tuple[str, ...] = (),
    ) -> str:
        """Insert or update (key, *columns), leaving other columns of a known record as they are.

        A new record gets the defaults of the other columns, but for the ``computed`` ones, whose values come
        behind those of ``columns``. ``spared`` columns of a known record are not
        set; where one of them would change, the whole record is left as it is. So is a record with another
        key that the table takes for the same. No row is replaced that has a unique value of the record's,
        whatever the table says of such conflicts. ``as_text`` are names whose values are bytes of texts.
        """
        given = (self._of.key, *columns, *computed)
        unset = [
            c for c in self._of.columns if c.name not in given and (c.default is not None or c.is_required)
        ]
        names = ", ".join(quoted(name) for name in (*given, *(c.name for c in unset)))
        marks = [_AS_TEXT if name in as_text else "?" for name in given]
        values = ", ".join([*marks, *map(self._unless_given, unset)])
        updates = ", ".join(
            f"{quoted(name)} = excluded.{quoted(name)}" for name in columns if name not in spared
        )
        key, table = quoted(self._of.key), in_main(self._of.table)
        same = is_same_key(key, marks[0].replace("?", "?1"))
        where = " AND ".join((same, *(_is_unchanged(quoted(name)) for name in columns if name in spared)))
        action = f"UPDATE SET {updates} WHERE {where}" if updates else "NOTHING"
        return f"INSERT OR ABORT INTO {table} ({names}) VALUES ({values}) ON CONFLICT ({key}) DO {action}"

    def update(self, columns: tuple[str, ...]) -> str:
        """Update (key, *columns) of a known record, leaving other columns as they are."""
        key = quoted(self._of.key)
        updates = ", ".join(f"{quoted(name)} = ?{place}" for place, name in enumerate(columns, start=2))
        return f"UPDATE OR ABORT {in_main(self._of.table)} SET {updates} WHERE {is_key(key, '?1')}"

    def _unless_given(self, column: Column) -> str:
        """Return what a record gets in a column that its writer did not know.

        What must not be empty is taken from the known record: SQLite looks at it before it finds that one.
        """
        if column.default is not None:
            return literal(column.default)
        key, table = quoted(self._of.key), in_main(self._of.table)
        return f"(SELECT known.{quoted(column.name)} FROM {table} AS known WHERE known.{key} = ?1)"

    @cached_property
    def delete(self) -> str:
        """Delete one record by its key."""
        return f"DELETE FROM {in_main(self._of.table)} WHERE {is_key(quoted(self._of.key), '?1')}"

    @cached_property
    def delete_unreadable(self) -> str:
        """Delete one record by the bytes of its key, a text."""
        return (
            f"DELETE FROM {in_main(self._of.table)} WHERE {is_key(quoted(self._of.key), 'CAST(?1 AS TEXT)')}"
        )

    @cached_property
    def select(self) -> str:
        """Select (key, *columns) of the records whose keys are in a JSON list."""
        names = ", ".join(f"now.{quoted(name)}" for name in (self._of.key, *self._of.column_names))
        return f"SELECT {names} {self._wanted} AND {is_same_key(self._key, 'wanted.value')}"

    @cached_property
    def present(self) -> str:
        """Select those of the keys in a JSON list whose records are there."""
        return f"SELECT wanted.value {self._wanted} AND {is_same_key(self._key, 'wanted.value')}"

    @cached_property
    def present_as_number(self) -> str:
        """Select one key, if there is any, that is a number, and whose text is in a JSON list.

        To SQLite all numbers are less than any text; in a column of texts there are none.
        """
        return (
            f"SELECT {self._key} FROM {in_main(self._of.table)} AS now WHERE {self._key} < '' "
            f"AND CAST({self._key} AS TEXT) IN (SELECT value FROM json_each(?)) LIMIT 1"
        )

    @cached_property
    def twins(self) -> str:
        """Select (key, twin) for keys in a JSON list: another key, which the table takes for the same."""
        same = is_same_key(self._key, "wanted.value")
        return f"SELECT wanted.value, {self._key} {self._wanted} AND NOT {same}"

    @property
    def select_all(self) -> str:
        """Select (key, *columns) of all records."""
        names = ", ".join(quoted(name) for name in (self._of.key, *self._of.column_names))
        return f"SELECT {names} FROM {in_main(self._of.table)}"

    @property
    def _key(self) -> str:
        return f"now.{quoted(self._of.key)}"

    @property
    def _wanted(self) -> str:
        return (
            f"FROM json_each(?) AS wanted CROSS JOIN {in_main(self._of.table)} AS now "
            f"ON {self._key} = wanted.value"
        )


def _is_unchanged(column: str) -> str:
    """Compare to the byte, whatever the column's collation says: 1 is not 1.0, and a is not A."""
    new = f"excluded.{column}"
    return f"{column} COLLATE BINARY IS {new} AND typeof({column}) = typeof({new})"
