"""How many examples the tests that search try: few in the ordinary run, and so many times more if one likes.

CI runs every file that asks here once more, with STATESYNC_SEARCH=6.

STATESYNC_SEARCH=10 pytest tests/store/real/test_unique.py
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

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
