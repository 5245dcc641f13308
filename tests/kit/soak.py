"""The world of the kit for as long as one likes, with new histories all the time.

    PYTHONPATH=tests python -m kit.soak --minutes 60

Prints the seed of every round; a failure is shrunk and printed, and ``--seed`` runs its round again.
"""

from __future__ import annotations

import argparse
import random
import time

from hypothesis import HealthCheck, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from .test_world import CrowdedWorld, MisfitWorld, RestoredWorld, SpoiltWorld, StrictWorld, World

ROUND = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    print_blob=True,
    verbosity=Verbosity.normal,
)

WORLDS = (World, CrowdedWorld, MisfitWorld, StrictWorld, SpoiltWorld, RestoredWorld)


def main() -> None:
    """Run rounds until the time is over, at least one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, help="the seed of the first round")
    parser.add_argument("--histories", type=int, default=ROUND.max_examples, help="how many make a round")
    options = parser.parse_args()
    number = random.randrange(1 << 32) if options.seed is None else options.seed
    until = time.monotonic() + options.minutes * 60
    rounds = 0
    while rounds == 0 or time.monotonic() < until:
        print(f"seed {number}: {options.histories} histories", flush=True)
        world = WORLDS[number % len(WORLDS)]
        run_state_machine_as_test(
            seed(number)(world), settings=settings(ROUND, max_examples=options.histories)
        )
        number, rounds = number + 1, rounds + 1
    print(f"{rounds * options.histories} histories held")


if __name__ == "__main__":
    main()
