"""How values and parts are defined: as attrs classes that share their comparison, their hash and their text.

attrs writes the source of each of these methods for each class and compiles it, which is more than half of
what a class costs at import. What follows from the names of the fields alone need not be written;
``__init__`` and everything else is attrs' own. A class that is hashed without end, such as those of
``statesync.verify``, is defined with attrs itself, which can keep the hash (``cache_hash``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:  # they know what attrs' own make of a class
    from attrs import define, frozen

__all__ = ["define", "frozen"]


def _defined(by: Callable[..., Any], cls: type | None = None, **options: Any) -> Any:
    """Decorate a class as ``by`` does, but for the methods that are shared."""
    if cls is None:
        return partial(_defined, by, **options)
    written = vars(cls)
    made = by(cls, **options | {"eq": False, "repr": False})
    if options.get("eq", True) and "__eq__" not in written:
        made.__eq__, hashed = _comparison(made)
        made.__hash__ = hashed if by is attrs.frozen else None
    if options.get("repr", True) and "__repr__" not in written:
        made.__repr__ = _text
    return made


def _comparison(cls: type) -> tuple[Callable[[Any, object], object], Callable[[Any], int]]:
    """Return how instances of ``cls``, and of no other class, are equal, and the hash that follows."""
    values = _values(cls)

    def equal(self: Any, other: object) -> object:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    def hashed(self: Any) -> int:
        return hash(values(self))

    return equal, hashed


def _values(cls: type) -> Callable[[Any], object]:
    names = [each.name for each in attrs.fields(cls) if each.eq]
    return attrgetter(*names) if names else _no_values


def _no_values(_: Any) -> tuple[()]:
    return ()


@recursive_repr()
def _text(self: Any) -> str:
    shown = [
        f"{each.name}={(repr if each.repr is True else each.repr)(getattr(self, each.name, attrs.NOTHING))}"
        for each in attrs.fields(self.__class__)
        if each.repr
    ]
    return f"{self.__class__.__qualname__.rsplit('>.', 1)[-1]}({', '.join(shown)})"


if not TYPE_CHECKING:
    define = partial(_defined, attrs.define)
    frozen = partial(_defined, attrs.frozen)
