"""The modelled world and the real thing side by side for as long as one likes, with new histories.

    PYTHONPATH=tests python -m verify.soak --minutes 60

Every other round has a device whose table takes few records. Prints the seed of every round; a failure is
shrunk and printed, and ``--seed`` runs its round again.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import seed, settings
from hypothesis.stateful import run_state_machine_as_test

from .alike import FEW_FIT, ROUND, AlikeMachine


def main() -> None:
    """Run rounds until the time is over, at least one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, help="the seed of the first round")
    parser.add_argument("--histories", type=int, default=40, help="how many make a round")
    options = parser.parse_args()
    number = random.randrange(1 << 32) if options.seed is None else options.seed
    until, rounds = time.monotonic() + options.minutes * 60, 0
    with TemporaryDirectory() as folder:
        while rounds == 0 or time.monotonic() < until:
            print(f"seed {number}: {options.histories} histories", flush=True)
            rules = None if number % 2 else FEW_FIT
            machine = type("Machine", (AlikeMachine,), {"folder": Path(folder), "table_rules": rules})
            wanted = settings(ROUND, max_examples=options.histories, database=None)
            run_state_machine_as_test(seed(number)(machine), settings=wanted)
            number, rounds = number + 1, rounds + 1
    print(f"{rounds * options.histories} histories were alike")


if __name__ == "__main__":
    main()
