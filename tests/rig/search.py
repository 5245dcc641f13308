"""How many examples the tests that search try: few in the ordinary run, and so many times more if one likes.

CI runs every file that asks here, or whose tests are marked so, once more with STATESYNC_SEARCH=6.

STATESYNC_SEARCH=10 pytest tests/store/real/test_unique.py
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

import pytest

_Item = TypeVar("_Item")

_TIMES = int(os.environ.get("STATESYNC_SEARCH", "1"))


def examples(usual: int, longer: int = 0) -> int:
    """Return how many examples a test tries: ``usual`` in the ordinary run.

    In a longer one they are so many times more, and at least ``longer``.
    """
    return usual if _TIMES == 1 else max(usual * _TIMES, longer)


def some(items: Sequence[_Item], every: int) -> Sequence[_Item]:
    """Return one of ``every`` items in the ordinary run, and all of them in a longer one."""
    return items if _TIMES > 1 else items[::every]


def left_out(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return the tests that only a longer run makes, of those that are marked ``crossed``.

    The ordinary run makes as many of a test as its longest list of parameters has values, and meets each
    value of each list in them.
    """
    crossed = [item for item in items if item.get_closest_marker("crossed")] if _TIMES == 1 else []
    left: set[pytest.Item] = set()
    for _, group in groupby(crossed, key=lambda item: item.nodeid.partition("[")[0]):
        tests = {item: _values(item) for item in group}
        lists = [[*dict.fromkeys(values)] for values in zip(*tests.values(), strict=True)]
        longest = max(range(len(lists)), key=lambda number: len(lists[number]))
        for item, values in tests.items():
            turn = lists[longest].index(values[longest])
            if any(value != each[turn % len(each)] for value, each in zip(values, lists, strict=True)):
                left.add(item)
    return left


def _values(item: pytest.Item) -> list[tuple[int, ...]]:
    """Return what tells the value that a test has of each list of parameters from the list's others."""
    assert isinstance(item, pytest.Function)
    given = {name: id(value) for name, value in item.callspec.params.items()}
    together = [_names(mark.args[0]) for mark in item.iter_markers("parametrize")]
    listed = [tuple(given.pop(name) for name in names) for names in together]
    return [*listed, *((value,) for value in given.values())]


def _names(said: str | Sequence[str]) -> Sequence[str]:
    """Return the names of the parameters of one list, as pytest reads them."""
    return [name.strip() for name in said.split(",")] if isinstance(said, str) else said
