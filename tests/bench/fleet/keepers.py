"""``python -m tests.bench.fleet.keepers``: a fleet of keepers that listen, whose hub was away for a while.

Each keeper has made a change meanwhile. Once the hub answers again, how long does it take until all are in
sync, what does the hub turn away, and how much more comes in its busiest second than if all came evenly?
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from statesync.hub import Right, create_token, prepare
from statesync.hub.db.opening import open_ready
from statesync.hub.http.crowd import allow
from statesync.keeping.ending import LONGEST_BACK_OFF
from statesync.keeping.options import KeeperOptions
from statesync.lifecycle import KeeperPhase

from .device import Tally
from .hub import HubProcess, watched
from .kept import Kept, KeptDevice, Returns
from .table import percentiles

_EVERY = 300.0
_AT_ONCE = 50
"""Keepers that come within a tenth of a second at the beginning."""


@frozen
class Came:
    """What came of an outage."""

    keepers: int
    outage: float
    seconds: tuple[float, float, float, float]
    """Until a keeper was in sync after the hub was back: 50, 95, 99 of a hundred, and the last one."""
    busiest: int
    """Requests in the busiest second."""
    requests: int
    """From the hub's return until all were in sync."""
    refused: dict[str, int]
    """Refusals, by their words."""
    without_a_time: int
    cores: float

    def lines(self) -> list[str]:
        """Return what people read."""
        p50, p95, p99, last = self.seconds
        even = self.requests / max(last, 1.0)
        return [
            f"{self.keepers} keepers, each with a change, after {self.outage:g} s without their hub:",
            f"  in sync after its return: half {p50:.1f} s, 95 % {p95:.1f} s, 99 % {p99:.1f} s, all "
            f"{last:.1f} s ({last / LONGEST_BACK_OFF:.2f} of the longest back-off)",
            f"  requests: {self.requests}, {even:.0f} a second if they came evenly, "
            f"{self.busiest} in the busiest ({self.busiest / even:.1f} times as many)",
            f"  told to come again: {sum(self.refused.values())}, {self.without_a_time} of them without "
            f"Retry-After; {self.refused}",
            f"  the hub's processor: {self.cores:.2f} cores",
        ]


def fleet_of(hub: HubProcess, count: int, spaces: int, returns: Returns) -> list[Kept]:
    """Return so many keepers, in so many spaces."""
    names = [f"space-{number}" for number in range(spaces)]
    database = open_ready(hub.url)
    tokens = {name: create_token(database, name, {"*": frozenset(Right)}) for name in names}
    database.close()

    def kept(number: int) -> Kept:
        name = names[number % spaces]
        device, listener = (KeptDevice(hub.port, name, tokens[name], number) for _ in range(2))
        return Kept(device, listener, returns, KeeperOptions(every=_EVERY, live=True))

    return [kept(number) for number in range(count)]


async def _until_all(keepers: list[Kept], is_so: Callable[[Kept], bool], patience: float) -> None:
    """Wait until it is so of all keepers."""
    until = time.monotonic() + patience
    while late := [one for one in keepers if not is_so(one)]:
        if time.monotonic() > until:
            raise RuntimeError(f"{len(late)} keepers are late; one is {late[0].phase}")
        await asyncio.sleep(0.1)


def _listens(kept: Kept) -> bool:
    return kept.phase is KeeperPhase.LISTENING


async def outage(hub: HubProcess, keepers: list[Kept], seconds: float) -> Came:
    """Let all keepers listen, take their hub away for some seconds, and wait until they are in sync."""
    returns, chance = keepers[0].returns, random.Random(1)
    lives = []
    for number, kept in enumerate(keepers):
        lives.append(asyncio.ensure_future(kept.live()))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0.1)
    await _until_all(keepers, _listens, 120)
    hub.kill()
    loop = asyncio.get_running_loop()
    for kept in keepers:
        loop.call_later(chance.uniform(0, seconds), kept.change)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(hub.start)
    back, before = time.monotonic(), returns.refused.copy()
    with watched(hub) as use:
        await _until_all(keepers, lambda one: not one.waiting and one.synced_at > back, 600)
        took = time.monotonic() - back
    for life in lives:
        life.cancel()
    asked = {second: count for second, count in returns.asked.items() if second >= int(back)}
    return Came(
        len(keepers),
        seconds,
        _spread([kept.first_after(back) - back for kept in keepers]),
        max(asked.values()),
        sum(asked.values()),
        dict(returns.refused - before),
        returns.without_a_time,
        use.processor / took,
    )


def _spread(seconds: list[float]) -> tuple[float, float, float, float]:
    p50, p95, p99, last = percentiles(seconds)
    return p50 / 1000, p95 / 1000, p99 / 1000, last / 1000


async def _check(keepers: list[Kept]) -> None:
    """Read one space of them all: each change is there, once."""
    tally, until = Tally(), time.monotonic() + 60
    by_space: dict[str, set[str]] = {}
    for kept in keepers:
        by_space.setdefault(kept.device.space, set()).update(kept.device.written)
    for kept in {kept.device.space: kept for kept in keepers}.values():
        found = await kept.device.read_all(tally, until)
        if sorted(found) != sorted(by_space[kept.device.space]):
            raise RuntimeError(f"{kept.device.space} has not what its keepers were told it has")


async def _run(hub: HubProcess, keepers: list[Kept], seconds: float) -> Came:
    came = await outage(hub, keepers, seconds)
    await _check(keepers)
    return came


def main() -> None:
    """Run it, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet.keepers", description=__doc__)
    parser.add_argument("--keepers", type=int, default=2000)
    parser.add_argument("--spaces", type=int, default=200)
    parser.add_argument("--outage", type=float, default=60.0, help="seconds without the hub")
    asked = parser.parse_args()
    allow(2 * asked.keepers + 200)
    sockets, waiters = str(3 * asked.keepers), str(2 * asked.keepers)
    with tempfile.TemporaryDirectory(prefix="statesync-keepers-") as folder:
        url = f"sqlite:///{folder}/hub.db"
        prepare(url)
        options = ("--limit-sockets", sockets, "--limit-waiters", waiters)
        hub = HubProcess(url, 1, options, Path(folder) / "log")
        hub.start()
        try:
            keepers = fleet_of(hub, asked.keepers, asked.spaces, Returns())
            came = asyncio.run(_run(hub, keepers, asked.outage))
        finally:
            hub.stop()
    print("\n".join(came.lines()))


if __name__ == "__main__":
    main()
