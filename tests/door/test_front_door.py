"""Everything that a public function takes, returns or raises can be imported from its front door."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_origin, get_type_hints

import pytest
from rig.child import on_a_device
from rig.search import some

import statesync

from .signatures import Found, Reader

DOORS = [
    "statesync",
    "statesync.diagram",
    "statesync.hub",
    "statesync.telemetry",
    "statesync.testing",
    "statesync.verify",
    "statesync.verify.system",
]

READ_AT_LEAST = {
    "statesync": (150, 70),
    "statesync.diagram": (50, 20),
    "statesync.hub": (60, 25),
    "statesync.telemetry": (1, 0),
    "statesync.testing": (200, 70),
    "statesync.verify": (40, 20),
    "statesync.verify.system": (8, 3),
}
"""Functions and classes that are read from each door, and names of ours that they name."""


def read(door: str) -> Reader:
    reader = Reader("statesync")
    reader.read_door(import_module(door))
    return reader


def home_of(found: Found) -> str:
    """Return the door below which something is defined; an alias knows only who names it."""
    module = getattr(found.value, "__module__", "") if get_origin(found.value) is None else ""
    module = module if module.startswith("statesync") else found.module
    return max((door for door in DOORS if f"{module}.".startswith(f"{door}.")), key=len)


def offers(door: ModuleType, found: Found) -> bool:
    return found.name in door.__all__ and getattr(door, found.name) is found.value


def missing(door: str) -> dict[str, str]:
    """Return the names that neither ``door`` nor ``statesync`` offers, nor the door of their own package."""
    return {
        found.name: found.place
        for found in read(door).found.values()
        if not any(offers(import_module(each), found) for each in {door, "statesync", home_of(found)})
    }


@pytest.mark.parametrize("door", DOORS)
def test_what_public_functions_take_return_and_raise_can_be_imported(door: str) -> None:
    assert missing(door) == {}


@pytest.mark.parametrize("door", DOORS)
def test_all_that_is_named_is_there(door: str) -> None:
    package = import_module(door)
    assert len(set(package.__all__)) == len(package.__all__)
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def public_functions(door: str) -> list[Callable[..., object]]:
    package = import_module(door)
    offered = [getattr(package, name) for name in package.__all__]
    of_classes = [
        function
        for each in filter(inspect.isclass, offered)
        for name, function in inspect.getmembers(each, inspect.isfunction)
        if not name.startswith("_")
    ]
    return [
        one for one in (*filter(inspect.isfunction, offered), *of_classes) if "statesync" in one.__module__
    ]


@pytest.mark.parametrize("door", DOORS)
def test_annotations_of_public_functions_can_be_resolved_while_a_program_runs(door: str) -> None:
    """As libraries do that check calls by them: a name that is imported for a type checker alone is none."""
    functions = public_functions(door)
    assert functions
    for function in functions:
        get_type_hints(function)


def test_what_is_imported_when_it_is_asked_for_is_listed_from_the_beginning() -> None:
    """By ``dir``, which completes names; and ``import *`` brings it."""
    code = (
        "import sys, statesync; listed = set(dir(statesync)); "
        "assert 'statesync.net.remote' not in sys.modules; "
        "from statesync import *; assert {'AutoSync', 'HttpRemote'} <= set(statesync.__all__) <= listed; "
        "assert HttpRemote is statesync.HttpRemote and AutoSync.__name__ == 'AutoSync'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=on_a_device())


def test_a_name_that_is_no_name_of_a_door_is_an_attribute_error() -> None:
    for door in ("statesync", "statesync.hub", "statesync.testing"):
        with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
            _ = import_module(door).Nonsense


# -- the reading is no empty one ---------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
def test_each_door_leads_to_much(door: str) -> None:
    reader = read(door)
    functions, names = READ_AT_LEAST[door]
    assert len(reader.read) >= functions
    assert len(reader.found) >= names


@pytest.mark.parametrize(
    ("name", "how"),
    some(
        [
            ("JournalEntry", "a method returns it in a list"),
            ("ConflictEntry", "a method of a base class returns it"),
            ("Reason", "a parameter with a default"),
            ("Problem", "a parameter of an error's constructor"),
            ("BatchStats", "a field of a field"),
            ("Difference", "a field of a field of what a method returns"),
            ("Verdict", "an alias in a field"),
            ("Rejected", "a part of an alias"),
            ("OnSuccess", "an alias of a callable"),
            ("Policy", "an alias in a field with a converter"),
            ("Guard", "a field of a constant"),
            ("StoreFull", "a docstring says that it is raised"),
            ("Model", "an attribute that a constructor sets"),
        ],
        3,
    ),
)
def test_a_name_that_is_left_out_is_missed(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statesync, "__all__", [other for other in statesync.__all__ if other != name])
    assert set(missing("statesync")) == {name}, how


DOOR = '''
"""A door that lets through less than its functions name."""
from .inside import CONSTANT, Public, call
__all__ = ["CONSTANT", "Public", "call"]
'''

INSIDE = '''
from __future__ import annotations
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, TypeVar
from attrs import field, frozen
from . import elsewhere
if TYPE_CHECKING:
    from sabotage.elsewhere import ForCheckers

class Returned: ...
class Bound: ...
class Part: ...
class Other: ...
class Field: ...
class Attribute: ...
class Property: ...
class Static: ...
class Inherited: ...
class OfAConstant: ...
class Unnamed: ...
class Raised(Exception): ...
class OfMethod(Exception): ...
class Hidden: ...
class Behind: ...

Alias = Callable[[Part], Other | None]
Bounded = Annotated[int, "at least 0"]
_T = TypeVar("_T", bound=Bound)

class HandedOn:
    """Programs only hand it on."""
    def method(self) -> Behind: ...

class Made:
    """Made by ``call``."""
    def __init__(self, hidden: Hidden) -> None: ...

class Base:
    def inherited(self) -> Inherited: ...

@frozen
class Value:
    field: Field
    _private: Hidden = field(init=False)

class Public(Base):
    def __init__(self, value: Value) -> None:
        self.attribute: Attribute = Attribute()
        self._private: Hidden = Hidden()
    @property
    def property(self) -> Property:
        """Raises ``OfMethod``."""
    @staticmethod
    def static(bounded: Bounded) -> list[Static]: ...
    def _private(self, hidden: Hidden) -> None: ...

def call(alias: Alias, named: elsewhere.Dotted, it: _T, late: ForCheckers, on: HandedOn) -> Iterator[Made]:
    """Return it. Raises ``Raised``, and never ``Unnamed`` or ``KeyError``."""

CONSTANT = OfAConstant()
'''

ELSEWHERE = """
class Dotted: ...
class ForCheckers: ...
"""


def test_every_way_to_name_something_is_followed_and_what_is_private_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "sabotage"
    package.mkdir()
    for name, text in {"__init__": DOOR, "inside": INSIDE, "elsewhere": ELSEWHERE}.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    reader = Reader("sabotage")
    reader.read_door(import_module("sabotage"))
    by_annotation = (
        "Value Field Attribute Property Static Inherited Alias Part Other Dotted Bound ForCheckers"
    )
    by_name = "HandedOn Made OfAConstant Raised OfMethod"
    assert {name for name, _ in reader.found} == set(f"{by_annotation} {by_name}".split())
