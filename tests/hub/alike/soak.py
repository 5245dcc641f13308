"""Made-up requests to both hubs for as many as one likes.

    PYTHONPATH=tests python -m hub.alike.soak --requests 20000

Prints what the hubs answered, and how often. A failure is shortened and printed; ``--seed`` runs its history
again.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time

from rig.places import memory
from rig.postgres import empty_schema, postgres_server

from .pair import opened, seeds_of

HISTORY = 40
"""Requests of one history."""


def main() -> None:
    """Run histories until so many requests were made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, help="the seed of the first history")
    options = parser.parse_args()
    first = random.randrange(1 << 32) if options.seed is None else options.seed
    begun = time.monotonic()
    logging.disable()  # a hub may say what it refuses; what matters is what it answers
    with postgres_server() as server, tempfile.TemporaryDirectory(dir=memory()) as folder:
        urls = {"sqlite": f"sqlite:///{folder}/hub.db", "postgres": empty_schema(server)}
        with opened(urls) as pair:
            for number in range(first, first + options.requests // HISTORY):
                seeds = seeds_of(number, HISTORY)
                if pair.run(seeds):
                    print(f"--seed {number} --requests {HISTORY}:\n{pair.run(pair.shortest(seeds))}")
                    sys.exit(1)
            for what, count in sorted(pair.seen.items()):
                print(f"{count:7} {what}")
    print(f"{sum(pair.seen.values())} requests from seed {first} on, {time.monotonic() - begun:.0f} s: alike")


if __name__ == "__main__":
    main()
