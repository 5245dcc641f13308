"""Reading texts that are no UTF-8: SQLite keeps any bytes as a text, and Python refuses to read them.

It refuses the whole SELECT. So what was refused is read once more, with ``UnreadableText`` in the place of
such a text: the record that has it can be told of, and all others are read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from statesync.classes import frozen

_Read = TypeVar("_Read")

_REFUSAL = "Could not decode to UTF-8"


@frozen
class UnreadableText:
    """A text of the database that is no UTF-8, as its bytes. Bound to a statement, it is a blob."""

    raw: bytes

    def __str__(self) -> str:
        return self.raw.decode("utf-8", "backslashreplace")

    def __conform__(self, protocol: object) -> bytes | None:
        """Let ``sqlite3`` bind the bytes."""
        return self.raw if protocol is sqlite3.PrepareProtocol else None


StoredKey = str | bytes | UnreadableText
"""A key as a program may have stored it. One that is no ``str`` cannot travel."""


def read(connection: sqlite3.Connection, reader: Callable[[], _Read]) -> _Read:
    """Return what ``reader`` reads; it is called again where it met a text that is no UTF-8."""
    try:
        return reader()
    except sqlite3.OperationalError as error:
        if _REFUSAL not in str(error):
            raise
    with _leniently(connection):
        return reader()


@contextmanager
def _leniently(connection: sqlite3.Connection) -> Iterator[None]:
    before = connection.text_factory
    connection.text_factory = _text_of
    try:
        yield
    finally:
        connection.text_factory = before


def _text_of(raw: bytes) -> str | UnreadableText:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return UnreadableText(raw)


def is_in_byte_order(connection: sqlite3.Connection) -> bool:
    """Tell whether SQLite sorts the texts of this file as a hub does: it does not where they are UTF-16."""
    encoding = connection.execute("PRAGMA main.encoding").fetchone()
    return encoding is not None and encoding[0] == "UTF-8"


def key_for_people(key: StoredKey) -> str:
    """Return a key as it can be shown."""
    return f"x'{key.hex()}'" if isinstance(key, bytes) else str(key)
