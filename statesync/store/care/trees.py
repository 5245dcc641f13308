"""Which pages of a damaged file belong to which table, and which of them cannot be right.

A page is out of its place if its kind, its rowids or the number of its values do not fit there, if another
tree has it too, or if it is the twin of a page that fits better elsewhere: a disk that writes to the wrong
place leaves such a page. Leaves whose way down is damaged belong to the tree that has lost its way.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from hashlib import blake2b
from itertools import pairwise

from attrs import Factory, define, frozen

from statesync.store.care.pages import TABLE_LEAF, Cell, Misfit, Page, PageFile

_DEEPEST = 30
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1
_FREE_TRUNK = 32


@frozen
class Root:
    """Where a tree begins. ``columns`` is how many values its rows have at most, None for an index."""

    number: int
    is_table: bool
    columns: int | None


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
    _adopt(file, trees.values(), orphans)
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
        """Return the pages of rows that nobody has; none where pages may be free ones that are not known."""
        if not self._free_list_is_sound:
            return []
        owned = self.seen | self._refused
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
        counts = self._columns_below(page, _DEEPEST)
        if any(count > root.columns for count in counts):
            raise Misfit(f"page {page.number} has rows of another table")
        if page.number in self._twins and counts and max(counts) < root.columns:
            raise Misfit(f"page {page.number} has rows of another table")

    def _columns_below(self, page: Page, depth: int) -> list[int]:
        while page.is_table and not page.is_leaf and depth:
            page, depth = self._file.page(page.cells[0].child), depth - 1
        return [cell.columns for cell in page.cells if cell.columns is not None]

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
        trunk = self._file.header_number(_FREE_TRUNK)
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
            trunk = int.from_bytes(content[:4], "big")
        return True


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


def _adopt(file: PageFile, trees: Iterable[Tree], orphans: Iterable[int]) -> None:
    """Give leaves without an owner to the table that has lost pages and whose rows look like theirs."""
    tables = [tree for tree in trees if tree.root.is_table]
    broken = [tree for tree in tables if tree.lost_pages]
    candidates = broken or [tree for tree in tables if not tree.leaves]  # its root may be an empty page
    for number in orphans:
        page = file.page(number)
        columns = max((cell.columns for cell in page.cells if cell.columns is not None), default=0)
        fitting = [tree for tree in candidates if tree.root.columns == columns]
        if not fitting and broken:  # rows from before a column was added have fewer values
            fitting = [tree for tree in broken if (tree.root.columns or 0) > columns]
        if len(fitting) == 1:
            fitting[0].leaves.append(Leaf(number, page.cells[0].rowid, page.cells[-1].rowid, page.cells))
            fitting[0].lost_pages = fitting[0].lost_pages or 1
    for tree in candidates:
        tree.leaves = _in_order(tree.leaves)


def _in_order(leaves: list[Leaf]) -> list[Leaf]:
    """Return leaves by their rowids, without those that another one before them has already."""
    kept: list[Leaf] = []
    for leaf in sorted(leaves, key=lambda leaf: leaf.first):
        if not kept or kept[-1].last < leaf.first:
            kept.append(leaf)
    return kept
