"""The drawing of the imports: which the table of the rooms allows, and which the source has.

A row of the table names modules (`store/outbox`) or whole folders (`store/file/`); where several fit, the
longest name counts. Rows stand from the bottom up: a module imports from its own row and from rows before it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from attrs import field, frozen

MOST = 14
"""As many modules may stand in one folder."""


@frozen
class Row:
    """One row of the table."""

    rooms: tuple[str, ...]
    unknown: str

    @property
    def is_pure(self) -> bool:
        """Whether the table says that these rooms do no I/O."""
        return "I/O" in self.unknown


def rows_of(document: str) -> tuple[Row, ...]:
    """Read the first table of a document whose head begins with ``room``."""
    table = re.search(r"^\| room \|.*\n\| --- .*\n((?:\|.*\n)+)", document, re.M)
    assert table is not None, "the document has no table of rooms"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]
    return tuple(Row(tuple(re.findall(r"`([^`]+)`", first)), unknown) for first, _, unknown in cells)


def covers(room: str, module: str) -> bool:
    """Whether a module is the room or stands in it."""
    return room == module or (room.endswith("/") and module.startswith(room))


@frozen
class House:
    """A package's modules, by their paths below it without the ending, and the table that orders them."""

    root: Path
    rows: tuple[Row, ...]
    modules: dict[str, Path] = field(init=False)

    @modules.default
    def _modules(self) -> dict[str, Path]:
        found = {
            path.relative_to(self.root).with_suffix("").as_posix(): path for path in modules_in(self.root)
        }
        return dict(sorted(found.items()))

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Which modules of the package each module imports, wherever in it the import stands."""
        return {module: set(self._own(imported_by(path))) - {module} for module, path in self.modules.items()}

    def _own(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            first, *rest = name.split(".")
            if first != self.root.name:
                continue
            while rest and not self._module(rest):
                rest.pop()
            yield self._module(rest)

    def _module(self, parts: list[str]) -> str:
        whole, package = "/".join(parts), "/".join([*parts, "__init__"])
        return next((name for name in (whole, package) if name in self.modules), "")

    def row_of(self, module: str) -> int | None:
        """Return the number of a module's row, from the bottom; None if no row names it."""
        fitting = [
            (len(room), number)
            for number, row in enumerate(self.rows)
            for room in row.rooms
            if covers(room, module)
        ]
        return max(fitting)[1] if fitting else None

    def is_pure(self, module: str) -> bool:
        number = self.row_of(module)
        return number is not None and self.rows[number].is_pure

    def without_a_row(self) -> list[str]:
        """Return the modules that no row names."""
        return [module for module in self.modules if self.row_of(module) is None]

    def rooms_without_a_module(self) -> list[str]:
        """Return what rows name and is not there, or is named twice."""
        named = Counter(room for row in self.rows for room in row.rooms)
        return [
            room
            for room, times in named.items()
            if times > 1 or not any(covers(room, module) for module in self.modules)
        ]

    def arrows_back(self) -> list[str]:
        """Return the imports of a module from a row that comes after its own."""
        rows = {module: self.row_of(module) for module in self.modules}
        return [
            f"{module} imports {imported}, which stands after it"
            for module, found in self.imports.items()
            for imported in sorted(found)
            if (rows[imported] or 0) > (rows[module] or 0)
        ]

    def circle(self) -> list[str]:
        """Return modules that import each other in a circle; nothing if there is none."""
        try:
            TopologicalSorter(self.imports).prepare()
        except CycleError as error:
            found: list[str] = error.args[1]
            return found
        return []


def modules_in(folder: Path) -> list[Path]:
    """Return the Python files of a folder and of those in it, without an ``__init__`` that says nothing."""
    return [path for path in folder.rglob("*.py") if path.stem != "__init__" or statements_of(path)]


def statements_of(path: Path) -> list[ast.stmt]:
    """Return the statements of a module after its docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return tree.body[1:] if ast.get_docstring(tree) is not None else tree.body


@cache
def imported_by(path: Path) -> list[str]:
    """Return what a module imports by full dotted names, also in functions and for type checkers alone."""
    return [*_imported_by(path)]


def _imported_by(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def crowded(root: Path) -> list[str]:
    """Return the folders of a tree that hold more modules than a reader can take in."""
    held = Counter(path.parent for path in modules_in(root))
    return [f"{folder}: {count}" for folder, count in sorted(held.items()) if count > MOST]
