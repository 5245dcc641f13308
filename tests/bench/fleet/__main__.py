"""``python -m tests.bench.fleet``: let a fleet of devices meet a hub, and report how both fare.

Each database has a hub of its own, which goes through five phases: ``steady`` (devices come evenly, one of
five with a change), ``morning`` (most come around one moment, with the changes of a night), ``herd`` (all
come in the same moment), ``bully`` (a steady day beside a space that pushes large batches without a pause, and
is not counted) and ``outage`` (the hub is killed for a third of a steady day). In the end every space is read,
and has to hold every record that the hub has accepted, once. All devices run in this one process, so more than
it can send is not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from statesync.hub import Right, create_token, prepare
from statesync.hub.db.opening import open_ready
from statesync.hub.http.crowd import allow

from ..hub_load import postgres
from .device import Device, Tally
from .hub import HubProcess, watched
from .phases import PHASES, Fleet, Phase, bullies_wanted
from .table import Seen, as_json, seen, table

_BULLYS_SPACE = "bully"


@frozen
class Sizes:
    """How large the fleet is, and how long each phase takes."""

    devices: int = 200
    spaces: int = 20
    seconds: float = 5.0
    patience: float = 60.0
    """Seconds more after which a device gives up."""
    workers: int = 1
    options: tuple[str, ...] = ()
    """More options of ``statesync hub serve``."""


class Wrong(Exception):
    """The hub has not what it has accepted."""


def meet(name: str, url: str, sizes: Sizes, phases: tuple[Phase, ...] = PHASES) -> Iterator[Seen]:
    """Let a fleet meet a hub on the empty database at ``url``; raise ``Wrong`` for lost or doubled records."""
    prepare(url)
    with tempfile.TemporaryDirectory(prefix="statesync-fleet-") as folder:
        hub = HubProcess(url, sizes.workers, sizes.options, Path(folder) / "log")
        hub.start()
        try:
            fleet = _fleet(hub, sizes)
            with asyncio.Runner() as runner:
                for phase in phases:
                    yield runner.run(_run(name, fleet, phase))
                runner.run(_check(fleet))
        finally:
            hub.stop()


def _fleet(hub: HubProcess, sizes: Sizes) -> Fleet:
    names = [f"space-{number}" for number in range(sizes.spaces)]
    database = open_ready(hub.url)
    rights = {"*": frozenset(Right)}
    tokens = {name: create_token(database, name, rights) for name in (*names, _BULLYS_SPACE)}
    database.close()

    def device(space: str, seed: int) -> Device:
        return Device(hub.port, space, tokens[space], seed)

    devices = [device(names[number % len(names)], number) for number in range(sizes.devices)]
    bullies = [device(_BULLYS_SPACE, sizes.devices + number) for number in range(bullies_wanted())]
    return Fleet(hub, devices, bullies, sizes.seconds, sizes.patience)


async def _run(name: str, fleet: Fleet, phase: Phase) -> Seen:
    tally, before = Tally(), fleet.hub.lines()
    with watched(fleet.hub) as use:
        began = time.monotonic()
        await fleet.run(phase, tally)
        seconds = time.monotonic() - began
    return seen(name, phase.name, tally, use, seconds, fleet.hub.lines() - before)


async def _check(fleet: Fleet) -> None:
    """Compare what each space holds with what its devices were told is accepted."""
    until = time.monotonic() + fleet.patience
    by_space: dict[str, list[Device]] = {}
    for device in (*fleet.devices, *fleet.bullies):
        by_space.setdefault(device.space, []).append(device)
    for space, devices in by_space.items():
        found = await devices[0].read_all(Tally(), until)
        lost = set().union(*(device.written for device in devices)) - set(found)
        if lost or len(set(found)) != len(found):
            raise Wrong(f"{space} has lost {len(lost)} records, and doubled {len(found) - len(set(found))}")


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
