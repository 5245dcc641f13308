"""Crash, and crash again while recovering: pairs of points, sampled by a seed, for as long as one likes.

    PYTHONPATH=tests python -m faults.crashes.crash_pairs --minutes 60 --seed 7

Prints the seed, so that a failure can be run again, and how many pairs held.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from statesync.testing import CrashPoints, Point

from ..day import prepare_day
from ..recovery import check_after_crash, naming, restore, the_day, the_recovery


def main() -> None:
    """Run pairs until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as name:
        until, held = time.monotonic() + options.minutes * 60.0, 0
        for _ in pairs_that_hold(Path(name), random.Random(options.seed)):
            held += 1
            if time.monotonic() > until:
                break
    print(f"{held} pairs of crashes held")


def pairs_that_hold(folder: Path, chance: random.Random) -> Iterator[tuple[Point, Point]]:
    """Crash in pairs, without an end; yield each pair after which everything was found in order."""
    morning, own = folder / "morning", folder / "own"
    morning.mkdir()
    prepare_day(morning)
    restore(morning, own)
    first_points = CrashPoints(the_day(own)).listed()
    while True:
        restore(morning, own)
        first = chance.choice(first_points)
        if not CrashPoints(the_day(own)).run_to(first):
            continue  # a day that passed a point fewer, and was over
        restore(own, folder / "crashed")
        second = chance.choice(CrashPoints(the_recovery(own)).listed())
        restore(folder / "crashed", own)
        if not CrashPoints(the_recovery(own)).run_to(second):
            continue
        with naming(first, second):
            check_after_crash(own)
        yield first, second


if __name__ == "__main__":
    main()
