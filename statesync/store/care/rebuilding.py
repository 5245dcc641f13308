"""Making a damaged tree whole again, from the leaves that are left of it. Writes to the file's pages."""

from __future__ import annotations

import struct

from statesync.store.care.pages import (
    INDEX_INNER,
    INDEX_LEAF,
    TABLE_INNER,
    TABLE_LEAF,
    PageFile,
    laid_out,
    space_of,
    varint,
)
from statesync.store.care.trees import Leaf, Tree

_FREE_LIST = (32, 36)
_LARGEST_ROOT = 52
_PAGE_COUNT = 28


def rebuild(file: PageFile, tree: Tree) -> None:
    """Write a tree of what is left, with its root where it was."""
    if tree.root.is_table:
        _rebuild_table(file, tree.root.number, tree.leaves)
    else:
        _rebuild_without_rowid(file, tree.root.number, [cell.raw for cell in tree.cells])


def empty(file: PageFile, root: int) -> None:
    """Let an index have no entries, so that it can be made anew; its pages are given up."""
    file.write(root, laid_out(INDEX_LEAF, [], file.usable))


def forget_free_pages(file: PageFile) -> None:
    """Let the file have no free pages and no map of its pages: both may be damaged, and a copy needs none."""
    for offset in (*_FREE_LIST, _LARGEST_ROOT):
        file.set_header_number(offset, 0)


def note_page_count(file: PageFile) -> None:
    """Write down how many pages there are."""
    file.set_header_number(_PAGE_COUNT, file.count)


# -- tables ----------------------------------------------------------------------------------------


def _rebuild_table(file: PageFile, root: int, leaves: list[Leaf]) -> None:
    for leaf in leaves:
        if leaf.kept is not None:
            file.write(leaf.number, laid_out(TABLE_LEAF, [cell.raw for cell in leaf.kept], file.usable))
    if not leaves:
        file.write(root, laid_out(TABLE_LEAF, [], file.usable))
        return
    level = [(_apart(file, root, leaf.number), leaf.last) for leaf in leaves]
    if len(level) == 1:
        file.write(root, file.read(level[0][0]))
        return
    most = (file.usable - 12) // 15
    while len(level) > most + 1:
        level = [_append_inner(file, part) for part in _parts(level, most + 1)]
    file.write(root, _inner(level, file.usable))


def _apart(file: PageFile, root: int, number: int) -> int:
    """Return where a leaf stands; one that stands where the root must be is written to another page."""
    return file.append(file.read(number)) if number == root else number


def _append_inner(file: PageFile, below: list[tuple[int, int]]) -> tuple[int, int]:
    return file.append(_inner(below, file.usable)), below[-1][1]


def _inner(below: list[tuple[int, int]], usable: int) -> bytes:
    cells = [struct.pack(">I", number) + varint(last) for number, last in below[:-1]]
    return laid_out(TABLE_INNER, cells, usable, below[-1][0])


def _parts(level: list[tuple[int, int]], most: int) -> list[list[tuple[int, int]]]:
    """Part a level among pages; SQLite takes no inner page with one page below it."""
    parts = [level[start : start + most] for start in range(0, len(level), most)]
    if len(parts[-1]) == 1:
        parts[-1].insert(0, parts[-2].pop())
    return parts


# -- tables without rowids -------------------------------------------------------------------------


def _rebuild_without_rowid(file: PageFile, root: int, cells: list[bytes]) -> None:
    """Pack the rows anew, in their order: a tree of this kind has rows on its inner pages too."""
    pages, between = _packed(cells, file.usable - 8)
    kind = INDEX_LEAF
    children = [0] * len(pages)
    while len(pages) > 1:
        numbers = [
            file.append(_page(kind, page, file.usable, below))
            for page, below in zip(pages, _children(pages, children, kind), strict=True)
        ]
        pages, between, children = *_packed(between, file.usable - 12, 4), numbers
        kind = INDEX_INNER
    below = _children(pages, children, kind)[0]
    file.write(root, _page(kind, pages[0], file.usable, below))


def _packed(cells: list[bytes], room: int, more: int = 0) -> tuple[list[list[bytes]], list[bytes]]:
    """Part rows among pages, with one row between each two of them that goes to the page above."""
    pages: list[list[bytes]] = [[]]
    between: list[bytes] = []
    left = room
    for place, cell in enumerate(cells):
        needed = space_of(cell) + more
        if needed <= left or not pages[-1]:
            pages[-1].append(cell)
            left -= needed
        elif place < len(cells) - 1:
            between.append(cell)
            pages.append([])
            left = room
        else:  # the last one: the page before gives up its last row, so that none is empty
            between.append(pages[-1].pop())
            pages.append([cell])
    return pages, between


def _children(pages: list[list[bytes]], numbers: list[int], kind: int) -> list[list[int]]:
    """Return the pages below each page: one more than it has rows."""
    if kind == INDEX_LEAF:
        return [[] for _ in pages]
    found, at = [], 0
    for page in pages:
        found.append(numbers[at : at + len(page) + 1])
        at += len(page) + 1
    return found


def _page(kind: int, cells: list[bytes], usable: int, below: list[int]) -> bytes:
    if kind == INDEX_LEAF:
        return laid_out(kind, cells, usable)
    with_child = [struct.pack(">I", number) + cell for number, cell in zip(below, cells, strict=False)]
    return laid_out(kind, with_child, usable, below[-1])
