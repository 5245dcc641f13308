"""Conflict policies: pure functions that decide what is kept when both sides changed a record.

A policy gets one value, a ``Conflict``, and answers with what to keep: a record, None for a delete, or
``LATER`` if somebody has to look at it. Whatever it does not keep goes to the conflict log.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import cached_property
from inspect import signature
from typing import Any, Final

from attrs import field

from statesync.classes import frozen

Record = dict[str, Any]


class Later(Enum):
    """The type of ``LATER``."""

    LATER = "later"


LATER: Final = Later.LATER
"""What a policy answers that does not decide: the change waits for ``store.resolve``, and is not sent."""


@frozen(kw_only=True, slots=False)
class Conflict:
    """One record that was changed here and at the hub: what it was, and what both have made of it.

    ``base``, ``local`` and ``remote`` are records: dicts from column to the value that SQLite stores (text
    for dates, 0 or 1 for booleans), or None where the record does not exist on that side. A None in
    ``local`` or ``remote`` is a delete, a None in ``base`` says that both sides made the record anew.

    ``before``, ``mine`` and ``theirs`` are the same three as instances of the program's model, with its
    values: a date is a date, a JSON field a dict. They are copies, which a policy may change and return.
    They are None where the record is, and where the store knows no model (as on the command line).
    """

    object: str
    key: str
    base: Record | None
    local: Record | None
    remote: Record | None
    _instance: Callable[[Record], Any] = field(default=lambda _: None, repr=False, eq=False)

    @cached_property
    def before(self) -> Any:
        """The record before the local change, as an instance of its model."""
        return self._made(self.base)

    @cached_property
    def mine(self) -> Any:
        """The record on this device, as an instance of its model."""
        return self._made(self.local)

    @cached_property
    def theirs(self) -> Any:
        """The record at the hub, as an instance of its model."""
        return self._made(self.remote)

    def _made(self, record: Record | None) -> Any:
        return None if record is None else self._instance(record)


Policy = Callable[[Conflict], object]
"""What decides a conflict: it answers with a record or an instance of the model, None, or ``LATER``.

A record may leave fields out: they are the hub's, and the device's where the hub has none.
"""


def merge_fields(conflict: Conflict) -> Record | None:
    """Three-way by field: who changed a field wins it, the hub where both did, or where one side deleted.

    A delete against an unchanged record is a delete, whichever side it comes from.
    """
    base, local, remote = conflict.base, conflict.local, conflict.remote
    if local is None or remote is None:
        if remote is None or remote != base:
            return remote
        return local
    known = base or {}
    ours = {
        column: value
        for column, value in local.items()
        if column not in remote or (column in known and remote[column] == known[column])
    }
    return remote | ours


def server_wins(conflict: Conflict) -> Record | None:
    """Keep what the hub has."""
    return conflict.remote


def client_wins(conflict: Conflict) -> Record | None:
    """Keep what the device has."""
    return conflict.local


def decide_later(conflict: Conflict) -> Later:  # noqa: ARG001
    """Let every conflict wait for ``store.resolve``."""
    return LATER


POLICIES: dict[str, Policy] = {
    "merge_fields": merge_fields,
    "server_wins": server_wins,
    "client_wins": client_wins,
    "later": decide_later,
}
"""The ready policies by the names that options and the command line accept."""


def policy_of(given: Callable[..., object]) -> Policy:
    """Return a callable as a policy; one of ``(base, local, remote)`` gets the three records apart.

    Raises ``ValueError`` for a callable that takes neither one value nor three.
    """
    if any(given is ready for ready in POLICIES.values()):
        return given
    try:
        takes = signature(given)
    except ValueError:  # some that are written in C do not tell: they are taken at their word
        return given
    if _can_take(takes.bind, 1):
        return given
    if not _can_take(takes.bind, 3):
        raise ValueError(f"{given!r} takes neither a Conflict nor (base, local, remote)")
    return lambda conflict: given(*map(_copied, (conflict.base, conflict.local, conflict.remote)))


def _can_take(bind: Callable[..., object], count: int) -> bool:
    try:
        bind(*[None] * count)
    except TypeError:
        return False
    return True


def _copied(record: Record | None) -> Record | None:
    return None if record is None else dict(record)
