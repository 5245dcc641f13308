"""A tracked object: its description, and what is made of it once and used for every record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from attrs import field

from statesync.classes import define
from statesync.errors import UnknownObject
from statesync.store.tracking.description import Description
from statesync.store.tracking.log import log_name
from statesync.store.tracking.statements import Statements
from statesync.store.tracking.wire_form import WireForm


@define(eq=True, slots=False)
class TrackedObject(Description):
    """One object that a store tracks. Two are equal if their descriptions are.

    ``computed`` makes values for columns that a new record's writer did not know; only a program with the
    model has it. Programs only hand it on: from a device of the test kit to its hub.
    """

    computed: dict[str, Callable[[], Any]] = field(factory=dict, eq=False, kw_only=True, repr=False)

    @cached_property
    def sql(self) -> Statements:
        """The statements that read and write its records."""
        return Statements(self)

    @cached_property
    def wire(self) -> WireForm:
        """Its records as they travel."""
        return WireForm(self)

    @cached_property
    def log(self) -> str:
        """The name of the table that its triggers append to."""
        return log_name(self)


Objects = dict[str, TrackedObject]
"""Tracked objects by their names."""


def chosen(objects: Objects, names: Iterable[str]) -> Objects:
    """Return those with these names. Raises ``UnknownObject`` for one that another program has dropped."""
    wanted = list(names)
    for name in wanted:
        if name not in objects:
            raise UnknownObject(f"{name} is not tracked any more: another program dropped it; call setup()")
    return {name: objects[name] for name in wanted}
