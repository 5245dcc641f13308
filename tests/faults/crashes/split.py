"""Many independent checks: how many of them are made, and by how many processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import pytest

_Item = TypeVar("_Item")


def shared_out(work: Callable[[Sequence[_Item]], None], items: Sequence[_Item]) -> None:
    """Give each processor a share of ``items`` to ``work`` on; raise the first failure.

    ``work`` is a function of a module, or a partial of one.
    """
    shares = max(1, len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(shares, multiprocessing.get_context("fork")) as processes:
        for done in [processes.submit(work, items[start::shares]) for start in range(shares)]:
            done.result()


every = pytest.mark.parametrize(
    "every", [16, pytest.param(1, marks=pytest.mark.exhaustive)], ids=["some", "all"]
)
"""How many of the points are one that is tried: some in the ordinary run, all in a run of their own."""
