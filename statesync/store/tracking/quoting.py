"""Names and values as parts of an SQL statement."""

from __future__ import annotations


def quoted(name: str) -> str:
    """Return ``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """Return a number or a text as an SQL literal."""
    return repr(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"
