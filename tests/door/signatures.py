"""Reads what public names promise: every name of ours in their annotations, and every error they name.

``Reader.read_door`` takes a package with an ``__all__``. From each name in it, it follows the annotations of
every public function, method, field and alias, on and on, and notes each name of ours on the way. Two things
end a way: a class that is made by us has no public constructor, and one that programs only hand on is not
looked into. Both say so in their docstrings.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import FunctionType, ModuleType
from typing import Annotated, Any, TypeVar, get_args, get_origin

from attrs import define, field, frozen

MADE_BY_US = "Made by ``"
HANDED_ON = "Programs only hand it on"
ERRORS = re.compile(r"``([A-Z]\w+)``")


@frozen
class Found:
    """A name of ours, what it stands for, the module that names it, and where it was read first."""

    name: str
    value: object
    module: str
    place: str


@define
class Reader:
    """What can be reached from the doors that were read. ``package`` is the name of what is ours."""

    package: str
    found: dict[tuple[str, int], Found] = field(factory=dict, init=False)
    read: set[str] = field(factory=set, init=False)
    """The full names of the classes and functions whose annotations were read."""
    _seen: list[object] = field(factory=list, init=False)

    def read_door(self, door: ModuleType) -> None:
        """Read every name in the package's ``__all__``."""
        for name in door.__all__:
            self._read(getattr(door, name), f"{door.__name__}.{name}", door.__name__)

    def _read(self, value: object, place: str, module: str) -> None:
        if any(value is seen for seen in self._seen):
            return
        self._seen.append(value)
        if isinstance(value, type) and not get_args(value):
            self._read_class(value)
        elif isinstance(value, FunctionType):
            self._read_function(inspect.unwrap(value))
        elif get_origin(value) is None and not isinstance(value, TypeVar):
            self._note_type(type(value), place, module)  # a constant
        else:
            self._read_alias(value, place, module)

    # -- classes and functions -----------------------------------------------------------------------

    def _read_class(self, kind: type) -> None:
        if not self._is_ours(kind):
            return
        self.read.add(full_name(kind))
        self._read_docstring(kind)
        if HANDED_ON in (kind.__doc__ or ""):
            return
        for base in filter(self._is_ours, kind.__mro__):
            self._read_annotations(vars(base).get("__annotations__", {}), base.__module__, full_name(base))
            for member in public_members(base):
                self._read_function(member)
        constructor = getattr(kind, "__init__", None)
        if isinstance(constructor, FunctionType) and self._is_ours(constructor):
            self._read_constructor(kind, constructor)

    def _read_constructor(self, kind: type, init: FunctionType) -> None:
        if MADE_BY_US not in (kind.__doc__ or ""):
            self._read_function(init)
        for name, annotation in attributes_set_in(init):
            if is_public(name):
                self._read_expression(annotation, init.__module__, f"{full_name(kind)}.{name}")

    def _read_function(self, function: FunctionType) -> None:
        if self._is_ours(function):
            self.read.add(full_name(function))
            self._read_docstring(function)
            self._read_annotations(function.__annotations__, function.__module__, full_name(function))

    def _read_docstring(self, thing: type | FunctionType) -> None:
        for name in ERRORS.findall(thing.__doc__ or ""):
            for module in [module for key, module in sys.modules.items() if self._has(key)]:
                value = vars(module).get(name)
                if isinstance(value, type) and issubclass(value, Exception) and self._is_ours(value):
                    self._note(name, value, f"the docstring of {full_name(thing)}", value.__module__)

    def _read_annotations(self, annotations: dict[str, Any], module: str, place: str) -> None:
        for name, annotation in annotations.items():
            if not is_public(name):
                continue
            if isinstance(annotation, str):
                self._read_expression(ast.parse(annotation, mode="eval"), module, f"{place}, {name}")
            else:
                self._read_alias(annotation, f"{place}, {name}", module)

    # -- annotations ---------------------------------------------------------------------------------

    def _read_expression(self, expression: ast.AST, module: str, place: str) -> None:
        """Note the names in the text of an annotation, those of aliases too."""
        names = names_of(module)
        for node in ast.walk(expression):
            if isinstance(node, ast.Name) and node.id in names:
                value = names[node.id]
                if self._is_ours(value) or node.id in names_made_in(module, self.package):
                    self._note(node.id, value, place, module)
            elif isinstance(node, ast.Attribute):
                value = eval(ast.unparse(node), dict(names))
                if self._is_ours(value):
                    self._note(node.attr, value, place, module)

    def _read_alias(self, value: object, place: str, module: str) -> None:
        """Follow what an alias such as ``Phase | BatchPhase`` stands for."""
        if isinstance(value, TypeVar):
            self._read_alias([value.__bound__, *value.__constraints__], place, module)
        elif isinstance(value, type) and not get_args(value):
            self._note_type(value, place, module)
        else:
            for part in value if isinstance(value, list | tuple) else get_args(value):
                self._read_alias(part, place, module)

    def _note_type(self, kind: type, place: str, module: str) -> None:
        if self._is_ours(kind):
            self._note(kind.__name__, kind, place, module)

    def _note(self, name: str, value: object, place: str, module: str) -> None:
        if isinstance(value, ModuleType) or get_origin(value) is Annotated:
            return  # a number with bounds is a number
        if not isinstance(value, TypeVar):
            self.found.setdefault((name, id(value)), Found(name, value, module, place))
        self._read(value, place, module)

    def _is_ours(self, thing: object) -> bool:
        return self._has(str(getattr(thing, "__module__", "")))

    def _has(self, module: str) -> bool:
        return module == self.package or module.startswith(f"{self.package}.")


def is_public(name: str) -> bool:
    return not name.startswith("_")


def full_name(thing: type | FunctionType) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def public_members(kind: type) -> Iterator[FunctionType]:
    """Return the functions behind the public methods and properties that ``kind`` defines itself."""
    for name, member in vars(kind).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if is_public(name) and isinstance(function, FunctionType):
            yield inspect.unwrap(function)


def attributes_set_in(init: FunctionType) -> Iterator[tuple[str, ast.expr]]:
    """Return the attributes that ``__init__`` sets with an annotation."""
    for node in ast.walk(ast.parse(dedent(inspect.getsource(init)))):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            yield node.target.attr, node.annotation


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8"))


@cache
def names_of(module: str) -> dict[str, Any]:
    """Return what annotations in a module may name: its globals, and what is imported for checkers only."""
    names = dict(vars(sys.modules[module]))
    for condition in tree_of(module).body:
        if isinstance(condition, ast.If) and "TYPE_CHECKING" in ast.unparse(condition.test):
            for node in condition.body:
                if isinstance(node, ast.ImportFrom) and node.module:
                    home = import_module(node.module)
                    names |= {alias.asname or alias.name: getattr(home, alias.name) for alias in node.names}
    return names


@cache
def names_made_in(module: str, package: str) -> frozenset[str]:
    """Return the names in a module that are not another package's: assigned there, or imported from ours."""
    made: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            made |= {alias.asname or alias.name for alias in node.names}
    for node in tree_of(module).body:
        if isinstance(node, ast.Assign):
            made |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(made)
