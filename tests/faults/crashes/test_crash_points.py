"""The device's process ends wherever it leaves something else behind on a day; nothing is lost."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from rig.search import examples

from statesync.testing import CrashPoints, Point

from ..recovery import check_after_crash, naming, restore, the_day
from .crash_pairs import pairs_that_hold
from .left import telling_points
from .split import every, shared_out

AHEAD = 20
"""By how many points two runs of the day may differ: a batch is composed ahead only if a wait has room."""


def test_a_day_without_a_crash_ends_as_expected(morning: Path, folder: Path) -> None:
    restore(morning, folder)
    points = CrashPoints(the_day(folder)).listed()
    assert {point.kind for point in points} == {"statement", "commit", "send", "receive"}
    check_after_crash(folder)


@every
def test_nothing_is_lost_wherever_the_device_ends(
    morning: Path, folder: Path, record_testsuite_property: Callable[[str, object], None], every: int
) -> None:
    restore(morning, folder)
    points, telling = telling_points(the_day(folder), folder)
    assert len(points) > 400
    assert len(telling) > 50
    shared_out(partial(end_at_each, morning, folder, len(points)), telling[::every])
    record_testsuite_property("device_crash_points", len(points))


def end_at_each(morning: Path, around: Path, last: int, points: Sequence[Point]) -> None:
    with tempfile.TemporaryDirectory(dir=around) as name:
        own = Path(name) / "day"
        program = CrashPoints(the_day(own))
        for point in points:
            restore(morning, own)
            assert program.run_to(point) or point.number > last - AHEAD
            with naming(point):
                check_after_crash(own)


def test_nothing_is_lost_if_the_recovery_crashes_too(folder: Path) -> None:
    wanted = examples(2, 24)
    held = islice(pairs_that_hold(folder, random.Random(20)), wanted)
    assert len(set(held)) == wanted
