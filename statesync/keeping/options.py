"""How a keeper lives: its interval, its gap, what wakes it, and what has to hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import Factory, field

from statesync.checks import is_yes_or_no, seconds_of
from statesync.classes import frozen
from statesync.errors import BadOptions
from statesync.lifecycle import KEEPER

LONGEST_INTERVAL = 31 * 86_400.0
"""Seconds between two sessions at most: what was lost meanwhile is found then."""


def _as_names(value: Iterable[str]) -> tuple[str, ...]:
    """Return the names of conditions, each of which is going to stand in a chart beside the keeper's own."""
    names = tuple(value)
    taken = {guard.name for edge in KEEPER.edges for guard in edge.guards}
    for name in names:
        if not (isinstance(name, str) and name.isidentifier()) or name in taken:
            raise BadOptions(
                f"a condition needs a name that is a word and none of the chart's own "
                f"({', '.join(sorted(taken))}), not {name!r}"
            )
    return names


def _usual(seconds: float) -> Any:
    """Return the default of an option that must not be longer than the interval."""

    def default(options: KeeperOptions) -> float:
        return min(seconds, options.every) if isinstance(options.every, int | float) else seconds

    return Factory(default, takes_self=True)


@frozen(kw_only=True)
class KeeperOptions:
    """How a keeper lives. Values out of range raise ``BadOptions`` when the options are made.

    ``every`` are the seconds from the end of one session to the next, where nothing asks for one before;
    ``min_gap`` those that are left between two in any case, as a rule one. ``on_change`` lets local changes
    ask for one, when none has come for ``debounce`` seconds, or after ten times as long. ``live`` lets the
    hub's signals do so. ``conditions`` are the names of what has to hold.
    """

    every: float = field(default=300.0, validator=seconds_of(0.001, LONGEST_INTERVAL))
    min_gap: float = field(default=_usual(1.0), validator=seconds_of(0.0, LONGEST_INTERVAL))
    debounce: float = field(default=_usual(0.01), validator=seconds_of(0.0, LONGEST_INTERVAL))
    on_change: bool = field(default=True, validator=is_yes_or_no)
    live: bool = field(default=False, validator=is_yes_or_no)
    conditions: tuple[str, ...] = field(default=(), converter=_as_names)

    def __attrs_post_init__(self) -> None:
        """Check what the values say together."""
        if self.min_gap > self.every or self.debounce > self.every:
            raise BadOptions(
                f"min_gap and debounce must not be longer than the interval: every is {self.every} seconds, "
                f"min_gap {self.min_gap}, debounce {self.debounce}"
            )
