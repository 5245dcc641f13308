"""Names, values and keys as parts of an SQL statement."""

from __future__ import annotations


def quoted(name: str) -> str:
    """Return ``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def in_main(table: str) -> str:
    """Return a table of the store's own file as an SQL identifier.

    A bare name may mean a temporary table or view, or, where the table is gone, one of an attached database.
    Trigger bodies take bare names only, and mean their own file by them.
    """
    return f"main.{quoted(table)}"


def literal(value: object) -> str:
    """Return a number, a text or bytes as an SQL literal."""
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    return repr(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"


def is_key(column: str, key: str) -> str:
    """Return the condition that a table's key column has the very ``key``, an expression.

    The first half finds the row by the column's own index, and so by its collation and type. The second
    holds the two against each other to the byte: a column may take Red for red, and '007' for 7.
    """
    return f"{column} = {key} AND {is_same_key(column, key)}"


def is_same_key(column: str, key: str) -> str:
    """Return the condition that two keys which the column takes for equal are so to the byte."""
    return f"(CAST({column} AS TEXT) = {key} COLLATE BINARY OR typeof({column}) = 'blob')"
