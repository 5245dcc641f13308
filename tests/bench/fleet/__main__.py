"""``python -m tests.bench.fleet``: let a fleet of devices meet a hub, and report how both fare.

Each database has a hub of its own, which goes through six phases:

* ``steady``: devices come evenly, one of five with a change;
* ``morning``: most come around one moment, with the changes of a night;
* ``herd``: all come in the same moment;
* ``bully``: a steady day beside a space that pushes large batches without a pause, and is not counted;
* ``survey``: a steady day while that space is surveyed without a pause, which is not counted either;
* ``outage``: the hub is killed for a third of a steady day.

In the end every space is read, and has to hold every record that the hub has accepted, once. All devices run
in this one process, so more than it can send is not measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from statesync.hub.http.crowd import allow

from ..hub_load import postgres
from .meeting import Sizes, meet
from .phases import PHASES
from .table import as_json, table


@contextmanager
def _databases(asked: str) -> Iterator[dict[str, str]]:
    """Give the addresses of empty databases by their names; an address that was asked for is one."""
    if "://" in asked:
        yield {asked.partition(":")[0]: asked}
        return
    with tempfile.TemporaryDirectory(prefix="statesync-fleet-") as folder:
        file = {"SQLite": f"sqlite:///{folder}/hub.db"}
        if asked == "sqlite":
            yield file
            return
        with postgres() as server:
            yield {"PostgreSQL": server} if asked == "postgres" else file | {"PostgreSQL": server}


def main() -> None:
    """Let the fleet meet each hub that was asked for, and report."""
    asked = _arguments()
    allow(asked.devices + 100)
    sizes = Sizes(
        asked.devices, asked.spaces, asked.seconds, asked.patience, asked.workers, tuple(asked.option)
    )
    phases = tuple(phase for phase in PHASES if not asked.phases or phase.name in asked.phases)
    began, results = time.monotonic(), []
    with _databases(asked.database) as databases:
        for name, url in databases.items():
            for one in meet(name, url, sizes, phases):
                print(table([one]), file=sys.stderr, flush=True)
                results.append(one)
    print(table(results))
    print(f"every accepted record is there, once; {time.monotonic() - began:.0f} seconds")
    if asked.json:
        asked.json.write_text(json.dumps(as_json(results), indent=1))


def _arguments() -> argparse.Namespace:
    names = [phase.name for phase in PHASES]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet", description=__doc__)
    parser.add_argument("phases", nargs="*", metavar="PHASE", help=", ".join(names))
    parser.add_argument("--database", default="both", help="sqlite, postgres, both, or an address")
    parser.add_argument("--devices", type=int, default=Sizes().devices)
    parser.add_argument("--spaces", type=int, default=Sizes().spaces)
    parser.add_argument("--seconds", type=float, default=Sizes().seconds, help="how long a phase takes")
    parser.add_argument("--patience", type=float, default=Sizes().patience, help="when a device gives up")
    parser.add_argument("--workers", type=int, default=Sizes().workers, help="processes of the hub")
    parser.add_argument("--option", action="append", default=[], help="one more of statesync hub serve")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    asked = parser.parse_args()
    if unknown := set(asked.phases) - set(names):
        parser.error(f"there is no phase {', '.join(sorted(unknown))}")
    return asked


if __name__ == "__main__":
    main()
