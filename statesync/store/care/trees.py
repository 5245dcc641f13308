"""Which pages of a damaged file belong to which table, and which of them cannot be right.

A page is out of its place if its kind, its rowids or the number of its values do not fit there, if another
tree has it too, or if it is the twin of a page that fits better elsewhere: a disk that writes to the wrong
place leaves such a page. Leaves whose way down is damaged belong to the tree that has lost its way, and so do
leaves that stand in the place of another page.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise

from attrs import Factory

from statesync.classes import define, frozen
from statesync.store.care.pages import TABLE_LEAF, Cell, Misfit, Page, PageFile
from statesync.store.care.shapes import Shape, fits

_DEEPEST = 30
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1
_FREE_TRUNK, _FREE_COUNT = 32, 36


@frozen
class Root:
    """Where a tree begins. ``columns`` is how many values its rows have at most, None for an index.

    ``shape`` says of what kind each of those values can be; it is empty where nobody knows.
    """

    number: int
    is_table: bool
    columns: int | None
    shape: Shape = ()

    def takes(self, cells: Iterable[Cell]) -> bool:
        """Tell whether any of some rows, if there are rows, is of the kinds that this table has."""
        rows = [cell.serials for cell in cells if cell.serials is not None]
        return not rows or any(fits(row, self.shape) for row in rows)


@frozen
class Leaf:
    """A page of rows, with its lowest and highest rowid; ``kept`` are its cells if some of them are lost."""

    number: int
    first: int
    last: int
    kept: tuple[Cell, ...] | None = None


@define
class Tree:
    """What was found of a tree: the leaves of a table in their order, or the cells of one without rowids."""

    root: Root
    leaves: list[Leaf] = Factory(list)
    cells: list[Cell] = Factory(list)
    lost_pages: int = 0
    lost_cells: int = 0

    @property
    def has_one_page(self) -> bool:
        """Whether its root is all of it: a page of another tree, or an empty one, may stand there."""
        return [leaf.number for leaf in self.leaves] in ([], [self.root.number])

    @property
    def is_sound(self) -> bool:
        """Whether nothing of it is damaged."""
        return not self.lost_pages and not self.lost_cells


def survey(file: PageFile, roots: Sequence[Root]) -> dict[int, Tree]:
    """Find the trees that begin at ``roots``, by the numbers of those."""
    twins = _twins(file)
    walk = _Walk(file, twins, set())
    trees = walk.all(roots)
    orphans = walk.orphans()
    impostors = _impostors(walk, twins, orphans, {root.number for root in roots})
    if impostors:
        walk = _Walk(file, twins, impostors)
        trees = walk.all(roots)
        orphans = walk.orphans()
    _adopt(file, trees, orphans)
    return trees


def _impostors(
    walk: _Walk, twins: dict[int, set[int]], orphans: Iterable[int], roots: Container[int]
) -> set[int]:
    """Return the pages that are copies of others and took the place of what is lost.

    The twin that nobody refers to has lost its place to the other. A root has no bounds that it could miss:
    so where one has a twin that fits between its neighbours, the root is the copy.
    """
    found = {twin for orphan in orphans for twin in twins.get(orphan, ()) if twin in walk.seen}
    placed = {number for number in twins if number in walk.seen and number not in roots}
    return found | {twin for number in placed for twin in twins[number] if twin in roots}


def _twins(file: PageFile) -> dict[int, set[int]]:
    """Return the pages of which there are several alike, each with the others."""
    alike: dict[bytes, set[int]] = {}
    for number in range(1, file.count + 1):
        alike.setdefault(blake2b(file.read(number), digest_size=16).digest(), set()).add(number)
    groups = (group for group in alike.values() if len(group) > 1)
    return {number: group - {number} for group in groups for number in group if _has_cells(file, number)}


def _has_cells(file: PageFile, number: int) -> bool:
    try:
        return bool(file.page(number).cells)
    except Misfit:
        return False


class _Walk:
    """Goes down the trees of a file once; ``seen`` are the pages that have an owner.

    What an index has goes to it last: it is made anew, and must take nothing from a table.
    """

    def __init__(self, file: PageFile, twins: dict[int, set[int]], impostors: set[int]) -> None:
        self._file = file
        self._twins = twins
        self._impostors = impostors
        self.seen: set[int] = set()
        self._refused: set[int] = set()
        self._free_list_is_sound = self._pass_free_pages()

    def all(self, roots: Iterable[Root]) -> dict[int, Tree]:
        return {root.number: self._tree(root) for root in sorted(roots, key=lambda r: r.columns is None)}

    def orphans(self) -> list[int]:
        """Return the pages of rows that nobody has; none where pages may be free ones that are not known.

        A page that was refused where it stands has its place elsewhere, unless it is a copy.
        """
        if not self._free_list_is_sound:
            return []
        owned = self.seen | self._impostors | (self._refused & self._twins.keys())
        rest = (number for number in range(2, self._file.count + 1) if number not in owned)
        return [number for number in rest if _is_table_leaf(self._file, number)]

    def _tree(self, root: Root) -> Tree:
        tree = Tree(root)
        self._visit(tree, root.number, (_LOWEST, _HIGHEST), _DEEPEST)
        return tree

    def _visit(self, tree: Tree, number: int, within: tuple[int, int], depth: int) -> None:
        try:
            page = self._checked(tree, number, within, depth)
        except Misfit:
            tree.lost_pages += 1
            self._refused.add(number)
            return
        self.seen.add(number)
        if page.is_leaf:
            self._take_leaf(tree, page)
            return
        low, high = within
        for cell in page.cells:
            self._visit(tree, cell.child, (low, cell.rowid if tree.root.is_table else high), depth - 1)
            low = cell.rowid
            if not tree.root.is_table:
                self._take_cells(tree, [cell])
        self._visit(tree, page.right, (low, high), depth - 1)

    def _checked(self, tree: Tree, number: int, within: tuple[int, int], depth: int) -> Page:
        """Return the page if it can be what stands there. Raises ``Misfit``."""
        if number in self.seen or number in self._impostors or not depth:
            raise Misfit(f"page {number} belongs elsewhere")
        page = self._file.page(number)
        if page.is_table != tree.root.is_table:
            raise Misfit(f"page {number} is of another kind")
        if not page.cells and number != tree.root.number:
            raise Misfit(f"page {number} is empty")
        if page.is_table and not _rise([cell.rowid for cell in page.cells], within):
            raise Misfit(f"page {number} has rowids of other pages")
        self._check_columns(tree.root, page)
        return page

    def _check_columns(self, root: Root, page: Page) -> None:
        if root.columns is None or (page.is_table and not page.is_leaf and page.number not in self._twins):
            return
        rows = self._rows_below(page, _DEEPEST)
        counts = [cell.columns for cell in rows if cell.columns is not None]
        if any(count > root.columns for count in counts):
            raise Misfit(f"page {page.number} has rows of another table")
        is_short = bool(counts) and max(counts) < root.columns and page.number in self._twins
        if is_short or not root.takes(rows):
            raise Misfit(f"page {page.number} has rows of another table")

    def _rows_below(self, page: Page, depth: int) -> tuple[Cell, ...]:
        while page.is_table and not page.is_leaf and depth:
            page, depth = self._file.page(page.cells[0].child), depth - 1
        return page.cells

    def _take_leaf(self, tree: Tree, page: Page) -> None:
        tree.lost_cells += page.unfit
        if not tree.root.is_table:
            self._take_cells(tree, page.cells)
            return
        kept = tuple(cell for cell in page.cells if self._has_its_pages(cell))
        lost = len(page.cells) - len(kept)
        tree.lost_cells += lost
        if kept:
            rewritten = kept if lost or page.unfit else None
            tree.leaves.append(Leaf(page.number, kept[0].rowid, kept[-1].rowid, rewritten))

    def _take_cells(self, tree: Tree, cells: Sequence[Cell]) -> None:
        whole = [cell for cell in cells if self._has_its_pages(cell)]
        tree.lost_cells += len(cells) - len(whole)
        if tree.root.columns is not None:  # an index is made anew, and nothing of it is kept
            tree.cells += whole

    def _has_its_pages(self, cell: Cell) -> bool:
        """Tell whether a row that is longer than its page goes on to as many pages as it needs."""
        number, pages = cell.overflow, []
        for _ in range(cell.further):
            if not 1 <= number <= self._file.count or number in self.seen:
                return False
            pages.append(number)
            number = int.from_bytes(self._file.read(number)[:4], "big")
        self.seen.update(pages)
        return number == 0

    def _pass_free_pages(self) -> bool:
        """Take the free pages out of what may belong to a table; tell whether their list is sound."""
        trunk, found = self._file.header_number(_FREE_TRUNK), 0
        while trunk:
            if not 1 < trunk <= self._file.count or trunk in self.seen:
                return False
            content = self._file.read(trunk)
            count = int.from_bytes(content[4:8], "big")
            if 8 + 4 * count > self._file.usable:
                return False
            free = {int.from_bytes(content[at : at + 4], "big") for at in range(8, 8 + 4 * count, 4)}
            if not all(1 < number <= self._file.count for number in free):
                return False
            self.seen |= free | {trunk}
            found += count + 1
            trunk = int.from_bytes(content[:4], "big")
        return found == self._file.header_number(_FREE_COUNT)


def _rise(rowids: Sequence[int], within: tuple[int, int]) -> bool:
    low, high = within
    if not rowids:
        return True
    is_inside = (low < rowids[0] or low == _LOWEST) and rowids[-1] <= high
    return is_inside and all(one < other for one, other in pairwise(rowids))


def _is_table_leaf(file: PageFile, number: int) -> bool:
    try:
        page = file.page(number)
    except Misfit:
        return False
    return page.kind == TABLE_LEAF and bool(page.cells)


def _adopt(file: PageFile, trees: Mapping[int, Tree], orphans: Iterable[int]) -> None:
    """Give leaves without an owner to the table that has lost pages and whose rows look like theirs."""
    tables = [tree for tree in trees.values() if tree.root.is_table]
    broken = [tree for tree in tables if tree.lost_pages]
    small = [tree for tree in tables if not tree.lost_pages and tree.has_one_page]  # its root may be lost
    for number in orphans:
        page = file.page(number)
        columns = max((cell.columns for cell in page.cells if cell.columns is not None), default=0)
        alike = [tree for tree in broken if tree.root.takes(page.cells)]
        fitting = [tree for tree in alike if tree.root.columns == columns]
        if not fitting:  # rows from before a column was added have fewer values
            fitting = [tree for tree in alike if (tree.root.columns or 0) > columns]
        if not fitting:
            fitting = [t for t in small if t.root.columns == columns and t.root.takes(page.cells)]
        if len(fitting) == 1:
            apart = file.append(file.read(number)) if number in trees else number  # a root is written anew
            leaf = Leaf(apart, page.cells[0].rowid, page.cells[-1].rowid, page.cells)
            _insert(fitting[0].leaves, leaf)
            fitting[0].lost_pages = fitting[0].lost_pages or 1


def _insert(leaves: list[Leaf], leaf: Leaf) -> None:
    """Put a leaf among others by its rowids, unless one of them has such rows already."""
    place = bisect_left(leaves, leaf.first, key=lambda other: other.first)
    is_after = place == 0 or leaves[place - 1].last < leaf.first
    is_before = place == len(leaves) or leaf.last < leaves[place].first
    if is_after and is_before:
        leaves.insert(place, leaf)
