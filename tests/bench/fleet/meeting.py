"""A fleet meets a hub: all phases, and in the end a look whether the hub has what it has accepted."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from statesync.hub import Right, create_token, prepare
from statesync.hub.db.opening import open_ready

from .device import Device, Tally
from .hub import HubProcess, watched
from .phases import PHASES, Fleet, Phase, bullies_wanted
from .table import Seen, seen

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
    """Let a fleet meet a hub on the empty database at ``url``; raise ``Wrong`` if it lost any record."""
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
