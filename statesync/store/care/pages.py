"""The pages of a database file, read without SQLite: what stands on them, and whether that can be right.

SQLite gives up a table where one page of it is damaged. The format of the file is fixed and public
(https://www.sqlite.org/fileformat2.html). So the pages that are not damaged can be found without it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Self

from statesync.classes import frozen

INDEX_INNER, TABLE_INNER, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
_INNER = (INDEX_INNER, TABLE_INNER)
_TABLE = (TABLE_INNER, TABLE_LEAF)
_SERIAL_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""How many bytes a value has whose kind is below 10; 10 and 11 do not occur."""


class Misfit(Exception):
    """What stands on a page cannot have been written there by SQLite."""


@frozen
class Cell:
    """One entry of a page: a row, or where a page below is found.

    ``raw`` are its bytes without the number of the page below. ``serials`` say of what kind and length each
    value of a row is, None where that stands on another page. ``overflow`` is the first of the ``further``
    pages that it goes on to.
    """

    raw: bytes
    child: int
    rowid: int
    serials: tuple[int, ...] | None
    overflow: int
    further: int

    @property
    def columns(self) -> int | None:
        """How many values a row has, None where that stands on another page."""
        return None if self.serials is None else len(self.serials)


@frozen
class Page:
    """One page of a tree. ``right`` is the last page below it, 0 on a leaf; ``unfit`` counts lost cells."""

    number: int
    kind: int
    cells: tuple[Cell, ...]
    right: int
    unfit: int

    @property
    def is_leaf(self) -> bool:
        """Whether no page is below it."""
        return self.kind not in _INNER

    @property
    def is_table(self) -> bool:
        """Whether its rows are found by their rowids."""
        return self.kind in _TABLE


class PageFile:
    """The pages of the file at ``path``, which nobody else has open. They are counted from 1."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("r+b")
        header = self._file.read(100)
        size = int.from_bytes(header[16:18], "big")
        self.size: int = 65536 if size == 1 else size
        self.usable: int = self.size - header[20]
        self.count: int = path.stat().st_size // self.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, number: int) -> bytes:
        """Return the bytes of a page."""
        self._file.seek((number - 1) * self.size)
        return self._file.read(self.size)

    def write(self, number: int, content: bytes) -> None:
        """Replace the bytes of a page."""
        self._file.seek((number - 1) * self.size)
        self._file.write(content.ljust(self.size, b"\0"))

    def append(self, content: bytes) -> int:
        """Write a page behind the last one and return its number."""
        self.count += 1
        self.write(self.count, content)
        return self.count

    def header_number(self, offset: int) -> int:
        """Return a number of four bytes from the file's header."""
        self._file.seek(offset)
        return int.from_bytes(self._file.read(4), "big")

    def set_header_number(self, offset: int, value: int) -> None:
        """Set a number of four bytes in the file's header."""
        self._file.seek(offset)
        self._file.write(value.to_bytes(4, "big"))

    def page(self, number: int) -> Page:
        """Read a page of a tree. Raises ``Misfit`` for one that is none."""
        if not 1 <= number <= self.count:
            raise Misfit(f"there is no page {number}")
        return parsed(number, self.read(number), self.usable)


def parsed(number: int, content: bytes, usable: int) -> Page:
    """Read a page of a tree from its bytes. Raises ``Misfit`` for one that is none."""
    start = 100 if number == 1 else 0
    kind, _, count = struct.unpack_from(">BHH", content, start)
    if kind not in (*_INNER, INDEX_LEAF, TABLE_LEAF):
        raise Misfit(f"page {number} is no page of a tree")
    begin = start + (12 if kind in _INNER else 8)
    if begin + 2 * count > usable or (not count and kind in _INNER and number > 1):
        raise Misfit(f"page {number} has {count} cells")
    places = struct.unpack_from(f">{count}H", content, begin)
    cells = [_cell_or_none(content, place, kind, usable) for place in places]
    torn = _torn(places, cells)
    fit = tuple(
        cell for cell, place in zip(cells, places, strict=True) if cell is not None and place not in torn
    )
    if len(fit) < count and (kind in _INNER or not fit):
        raise Misfit(f"page {number} has cells that are none")
    right = struct.unpack_from(">I", content, start + 8)[0] if kind in _INNER else 0
    return Page(number, kind, fit, right, count - len(fit))


def _torn(places: Sequence[int], cells: Sequence[Cell | None]) -> set[int]:
    """Return where those cells stand that end where unreadable ones begin: their ends may be damaged too."""
    in_order = sorted(zip(places, cells, strict=True), key=lambda placed: placed[0])
    return {place for (place, _), (_, following) in pairwise(in_order) if following is None}


def _cell_or_none(content: bytes, place: int, kind: int, usable: int) -> Cell | None:
    try:
        return _cell(content, place, kind, usable)
    except (Misfit, IndexError, struct.error):
        return None


def _cell(content: bytes, place: int, kind: int, usable: int) -> Cell:
    child, at = 0, place
    if kind in _INNER:
        (child,) = struct.unpack_from(">I", content, place)
        at += 4
    begin = at
    if kind == TABLE_INNER:
        rowid, at = _varint(content, at)
        return Cell(content[begin:at], child, _signed(rowid), (), 0, 0)
    length, at = _varint(content, at)
    rowid = 0
    if kind == TABLE_LEAF:
        rowid, at = _varint(content, at)
    local = _local_length(length, usable, is_table=kind == TABLE_LEAF)
    end = at + local
    overflow, further = 0, 0
    if local < length:
        (overflow,) = struct.unpack_from(">I", content, end)
        end += 4
        further = -(-(length - local) // (usable - 4))
    if end > usable:
        raise Misfit("a cell goes past its page")
    return Cell(
        content[begin:end], child, _signed(rowid), _serials(content, at, length, local), overflow, further
    )


def _local_length(length: int, usable: int, *, is_table: bool) -> int:
    """Return how many bytes of a row stand on its page; the rest is on further pages."""
    most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
    if length <= most:
        return length
    least = (usable - 12) * 32 // 255 - 23
    wanted = least + (length - least) % (usable - 4)
    return wanted if wanted <= most else least


def _serials(content: bytes, at: int, length: int, local: int) -> tuple[int, ...] | None:
    """Return the kinds of a row's values. Raises ``Misfit`` where their lengths do not make up the row's."""
    header, place = _varint(content, at)
    if header > local:
        if header > length:
            raise Misfit("a row's header is longer than the row")
        return None
    serials: list[int] = []
    while place < at + header:
        serial, place = _varint(content, place)
        serials.append(serial)
    if place != at + header or header + sum(map(_value_length, serials)) != length:
        raise Misfit("the lengths of a row's values do not add up")
    return tuple(serials)


def _value_length(serial: int) -> int:
    if serial >= 12:
        return (serial - 12) // 2
    if serial >= 10:
        raise Misfit("a value is of no kind")
    return _SERIAL_SIZES[serial]


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(at, at + 8):
        byte = content[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value << 8 | content[at + 8], at + 9


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def varint(value: int) -> bytes:
    """Return a number in the form of its length that the file's format has for it."""
    value &= (1 << 64) - 1
    if value >= 1 << 56:
        head, last = value >> 8, value & 0xFF
        return bytes(0x80 | head >> shift & 0x7F for shift in range(49, -1, -7)) + bytes([last])
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(0x80 | value & 0x7F)
    return bytes(reversed(parts))


def laid_out(kind: int, cells: list[bytes], usable: int, right: int = 0) -> bytes:
    """Return a whole page that has these cells, as many as fit by ``space_of``."""
    places: list[int] = []
    at = usable
    for cell in cells:
        at -= max(len(cell), 4)
        places.append(at)
    head = struct.pack(">BHHHB", kind, 0, len(cells), at & 0xFFFF, 0)
    if kind in _INNER:
        head += struct.pack(">I", right)
    page = bytearray((head + struct.pack(f">{len(places)}H", *places)).ljust(usable, b"\0"))
    for place, cell in zip(places, cells, strict=True):
        page[place : place + len(cell)] = cell
    return bytes(page)


def space_of(cell: bytes) -> int:
    """Return how many bytes of a page a cell takes."""
    return max(len(cell), 4) + 2
