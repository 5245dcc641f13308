"""The log of an object: the table that its triggers append to, a row or two for each write."""

from __future__ import annotations

from statesync.store.tracking.description import Description
from statesync.store.tracking.quoting import quoted

BEGUN, KEPT, WRITTEN, GONE = -1, 0, 1, 2
"""What a row of the log tells (its ``changed``): a write of the record has begun, and may follow; the record
stood in the way of a write that may follow; it was written; it is proven to be gone: it was deleted,
replaced, or got another key. What is greater than ``KEPT`` was done."""


def log_name(of: Description) -> str:
    """Return the name of the object's log."""
    return f"statesync_log_{of.name}"


def log_columns(of: Description) -> tuple[str, ...]:
    """Return where the log keeps the columns of the record before the write, as SQL identifiers."""
    return tuple(quoted(f"was_{name}") for name in of.column_names)


def log_sql(of: Description) -> str:
    """Return the log's SQL: the columns have no type, so that they hold every value as it was.

    ``known`` says whether there was a record before the write; ``changed`` is what the row tells.
    """
    columns = ", ".join(("key TEXT NOT NULL", "changed INTEGER", "known INTEGER", *log_columns(of)))
    return f"CREATE TABLE {quoted(log_name(of))} ({columns})"
