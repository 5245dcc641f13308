"""Every page with every kind of damage, and repairs that are killed at any line: for as long as one likes.

    PYTHONPATH=tests python -m store.real.repair.search --minutes 30

Prints the seed of every round; ``--seed`` runs its round again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

from .damage import make_world, page_count
from .killing import KILLED, at_line, end, make, mended_or_damaged, repair_until, repaired, run_and_end
from .test_damaged_pages import repaired as damaged_and_repaired

_LINES = 400
"""More lines than a repair has, and a part of the kills comes too late."""
_CASES = 60


def spoil(folder: Path, world: Path, chance: random.Random) -> None:
    """Damage any page in any way, and repair it."""
    pages = page_count(world / "here.db")
    page, kind = chance.randint(1, pages), chance.choice(["noise", "zeros", str(chance.randrange(1, pages))])
    found = damaged_and_repaired(world, folder, page, kind)
    assert found == [], f"page {page} with {kind}: {found}"


def kill(path: Path, chance: random.Random) -> None:
    """Kill a repair before any line of it."""
    make(path)
    line = chance.randint(1, _LINES)
    if run_and_end(partial(repair_until, path, at_line(line), end)) == KILLED:
        mended_or_damaged(path)
    repaired(path)


def main() -> None:
    """Run rounds until the time is over, at least one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, help="the seed of the first round")
    options = parser.parse_args()
    number = random.randrange(1 << 32) if options.seed is None else options.seed
    until, rounds = time.monotonic() + options.minutes * 60, 0
    while rounds == 0 or time.monotonic() < until:
        print(f"seed {number}", flush=True)
        chance, folder = random.Random(number), Path(tempfile.mkdtemp(prefix="statesync-repair-"))
        (folder / "world").mkdir()
        make_world(folder / "world")
        for case in range(_CASES):
            spoil(folder / f"{case}", folder / "world", chance)
        (folder / "killed").mkdir()
        kill(folder / "killed" / "notes.db", chance)
        shutil.rmtree(folder)
        number, rounds = number + 1, rounds + 1
    print(f"{rounds} rounds held")


if __name__ == "__main__":
    main()
