"""The first hundred bytes of a file, without which SQLite opens nothing: they are written anew from the rest.

A file that was cut off is made as long as its list of tables needs; what was cut off is a damaged page then.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from statesync.store.care.pages import Cell, Misfit, parsed

_LENGTH = 100
_MAGIC = b"SQLite format 3\0"
_FRACTIONS = bytes([0, 64, 32, 32])
_SIZES = [1 << power for power in range(9, 17)]
_KINDS = (b"table", b"index", b"trigger", b"view")
_SCHEMA_COLUMNS = 5
_FORMAT, _ENCODING = 44, 56


@contextmanager
def mended_header(path: Path) -> Iterator[None]:
    """Let SQLite be able to open a damaged file; an error inside the block brings the old header back.

    Changes nothing where SQLite can open it, and where its first page has no list of tables.
    """
    header = None if _can_be_opened(path) else _header_for(path)
    if header is None:
        yield
        return
    before, length = _first_bytes(path, _LENGTH), path.stat().st_size
    try:
        _write(path, header, length)
        _lengthen(path, promised=int.from_bytes(before[28:32], "big"))
        yield
    except BaseException:  # whatever ends the repair, a Ctrl-C too: the file gets its own header back
        if _first_bytes(path, _LENGTH)[:28] == header[:28]:
            _write(path, before, length)
        raise


def is_database(path: Path) -> bool:
    """Tell whether a file is, or was before its header was damaged, a SQLite database; an empty one is."""
    begin = _first_bytes(path, len(_MAGIC))
    return begin in (b"", _MAGIC) or _header_for(path) is not None


def _can_be_opened(path: Path) -> bool:
    """Tell whether SQLite reads the list of tables, and sees all pages that there are."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
            (count,) = connection.execute("PRAGMA page_count").fetchone()
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return bool(size * count >= path.stat().st_size)


def _header_for(path: Path) -> bytes | None:
    """Return the header that a file should have; None if its first page is none of a database."""
    content = _first_bytes(path, max(_SIZES))
    declared = int.from_bytes(content[16:18], "big")
    for size in (65536 if declared == 1 else declared, *_SIZES):
        if size in _SIZES and len(content) >= size and _lists_tables(content[:size]):
            return _header(content[:_LENGTH], size, path.stat().st_size)
    return None


def _lists_tables(content: bytes) -> bool:
    try:
        page = parsed(1, content, len(content))
    except (Misfit, struct.error):
        return False
    if not page.is_table or page.unfit or not page.cells:
        return False
    return all(map(_is_entry, page.cells)) if page.is_leaf else page.right > 1


def _is_entry(cell: Cell) -> bool:
    return cell.columns == _SCHEMA_COLUMNS and any(kind in cell.raw[:40] for kind in _KINDS)


def _header(old: bytes, page_size: int, length: int) -> bytes:
    new = bytearray(old)
    new[:16] = _MAGIC
    new[16:18] = (1 if page_size == 65536 else page_size).to_bytes(2, "big")
    new[18:20] = bytes([2, 2])  # a store has a log
    new[20:24] = _FRACTIONS
    new[28:32] = (length // page_size).to_bytes(4, "big")
    if int.from_bytes(old[_FORMAT : _FORMAT + 4], "big") not in range(1, 5):
        new[_FORMAT : _FORMAT + 4] = bytes([0, 0, 0, 4])
    if int.from_bytes(old[_ENCODING : _ENCODING + 4], "big") not in range(1, 4):
        new[_ENCODING : _ENCODING + 4] = bytes([0, 0, 0, 1])
    new[92:96] = new[24:28]  # so SQLite goes by the count of pages
    return bytes(new)


def _lengthen(path: Path, promised: int) -> None:
    """Let a file that was cut off have a page for every table's root, if it once had so many."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")  # else SQLite refuses tables without a page
        (root,) = connection.execute("SELECT max(rootpage) FROM sqlite_schema").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    count = path.stat().st_size // size  # of a page that was cut, nobody knows which rows are whole
    needed = max(count, root if root <= promised else 0)
    header = _first_bytes(path, _LENGTH)
    os.truncate(path, count * size)
    _write(path, header[:28] + needed.to_bytes(4, "big") + header[32:], needed * size)


def _first_bytes(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)


def _write(path: Path, header: bytes, length: int) -> None:
    with path.open("r+b") as file:
        file.truncate(length)
        file.write(header)
        file.flush()
        os.fsync(file.fileno())
