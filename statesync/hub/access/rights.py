"""Who may do what: rights in one space, for each of its objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from statesync.classes import frozen
from statesync.hub.errors import forbidden
from statesync.hub.texts.quoting import quoted


class Right(StrEnum):
    """What may be done with records: pull them, or push them."""

    READ = "read"
    WRITE = "write"


EVERY_OBJECT = "*"


@frozen
class Rights:
    """The rights of one token in one space: an object's own, or else those for every object (``*``)."""

    grants: Mapping[str, frozenset[Right]]
    holder: str = ""
    """Who has the rights, for rate limits: the same text for the same token."""

    def require(self, right: Right, objects: Iterable[str]) -> None:
        """Raise the 403 unless ``right`` holds for every one of ``objects``."""
        for name in self.lacking(right, objects):
            raise forbidden(f"the token does not allow to {right} {quoted(name)}")

    def lacking(self, right: Right, objects: Iterable[str]) -> list[str]:
        """Return those of ``objects`` for which ``right`` does not hold."""
        everywhere = self.grants.get(EVERY_OBJECT, frozenset())
        return [name for name in objects if right not in self.grants.get(name, everywhere)]

    def require_somewhere(self, right: Right) -> None:
        """Raise the 403 if ``right`` holds for no object at all, before any object is known."""
        if not self.has_somewhere(right):
            raise forbidden(f"the token does not allow to {right} in this space")

    def require_to_ask(self, right: Right) -> None:
        """Raise the 403 if no request that needs ``right`` may have an answer, before it is read.

        A push of who may only read may: it may ask what became of its last batch, see ``Hub.take_push``.
        """
        if right is Right.READ or not self.has_somewhere(Right.READ):
            self.require_somewhere(right)

    def has_somewhere(self, right: Right) -> bool:
        """Tell whether ``right`` holds for any object."""
        return any(right in granted for granted in self.grants.values())


ALL_RIGHTS = Rights({EVERY_OBJECT: frozenset(Right)})
