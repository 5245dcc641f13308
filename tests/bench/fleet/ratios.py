"""``python -m tests.bench.fleet.ratios``: what a hub must reach, each as a ratio within one run.

* a pull with nothing new, with its token, takes at most four times the processor time of an application
  that does nothing, under the same server;
* it is at most a fifth slower for others while a large space is surveyed;
* nobody else is refused while a space's row is held (PostgreSQL) and 400 push into that space;
* a hub's process has at most 120 MB, in all of it, and while eight read the large space.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from statistics import median

import msgspec
import psycopg
from attrs import define

from statesync.hub import Hub, Right, create_token, prepare

from ..hub_load import postgres
from ..runner import ROOT
from ..sides.records import OBJECT, items, keys
from .asking import Asked, ask, request
from .device import Device, Tally
from .hub import HubProcess, processor, watched

_LARGE, _OTHERS, _HELD = "large", "others", "held"
_BATCH = 5000
_TIMES = 5
_SECONDS = 3.0
_CLIENTS = 4
_PUSHERS = 400


@define
class _Meeting:
    """A hub with a large space and two small ones."""

    name: str
    url: str
    hub: HubProcess
    tokens: dict[str, str]
    head: int

    def pulls(self, count: int = _CLIENTS) -> list[bytes]:
        """Pulls with nothing new, of the small space."""
        return [self.pull(_OTHERS, self.head) for _ in range(count)]

    def pull(self, space: str, cursor: int, limit: int = 0) -> bytes:
        """Return the request for one page."""
        said = {"objects": {OBJECT: {"cursor": cursor}}, "limit": limit}
        return self._said(space, "pull", said | {"number": 0})

    def pushes(self, space: str, count: int) -> list[bytes]:
        """Pushes of one new record each, by as many clients."""
        return [
            self._push(space, key, item)
            for key, item in zip(keys("random", count), items(count), strict=True)
        ]

    def _push(self, space: str, key: str, item: object) -> bytes:
        change = {"object": OBJECT, "key": key, "op": "upsert", "base": 0, "data": item}
        return self._said(space, "push", {"number": 1, "batch": key, "changes": [change]})

    def _said(self, space: str, verb: str, said: dict[str, object]) -> bytes:
        whole = {"client": str(uuid.uuid4()), "hub": None, "epoch": None} | said
        return request(space, verb, self.tokens[space], msgspec.json.encode(whole))


def _fill(hub: Hub, space: str, count: int) -> None:
    source, client = zip(keys("random", count), items(count), strict=True), str(uuid.uuid4())
    for number in range(1, -(-count // _BATCH) + 1):
        changes = [
            {"object": OBJECT, "key": key, "op": "upsert", "base": 0, "data": item}
            for key, item in islice(source, _BATCH)
        ]
        said = {"client": client, "number": number, "batch": str(number), "hub": None, "epoch": None}
        hub.push(space, msgspec.json.encode(said | {"changes": changes}))


@contextmanager
def _meeting(name: str, url: str, records: int, folder: Path) -> Iterator[_Meeting]:
    prepare(url)
    rights = {"*": frozenset(Right)}
    filling = Hub(url)
    tokens = {space: create_token(filling.database, space, rights) for space in (_LARGE, _OTHERS, _HELD)}
    for space, count in ((_LARGE, records), (_OTHERS, 10), (_HELD, 10)):
        _fill(filling, space, count)
    filling.close()
    hub = HubProcess(url, 1, (), folder / f"{name}.log")
    hub.start()
    try:
        yield _Meeting(name, url, hub, tokens, 10)
    finally:
        hub.stop()


@contextmanager
def _empty() -> Iterator[tuple[int, int]]:
    """An application that does nothing: its port and its process."""
    command = [sys.executable, "-m", f"{__package__}.empty"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
        process.communicate(timeout=30)


def _say(name: str, what: str, figure: str, reach: str) -> None:
    print(f"| {name} | {what} | {figure} | {reach} |", flush=True)


async def _nothing_new(now: _Meeting) -> None:
    """A pull with nothing new beside an application that does nothing."""
    costs: dict[int, list[float]] = {}
    with _empty() as (port, process):
        sides = ((now.hub.port, now.hub.processes()[0]), (port, process))
        for _ in range(_TIMES):
            for at, pid in sides:
                before = processor(pid)
                asked = await ask(at, now.pulls(), _SECONDS)
                costs.setdefault(pid, []).append(1e6 * (processor(pid) - before) / len(asked.seconds))
    mine, nothing = (median(costs[pid]) for _, pid in sides)
    figure = f"{mine / nothing:.2f} ({mine:.0f} µs by {nothing:.0f})"
    _say(
        now.name, "processor time of a pull with nothing new, by that of an empty application", figure, "≤ 4"
    )


async def _surveyed(now: _Meeting) -> None:
    """Others' pulls while the large space is surveyed without a pause."""
    surveyor = Device(now.hub.port, _LARGE, now.tokens[_LARGE], 0)
    for pause, how in ((0.0, "without a pause"), (0.02, "each 20 ms")):
        quiet, beside, surveys = [], [], 0
        for _ in range(_TIMES):
            quiet.append(await ask(now.hub.port, now.pulls(), _SECONDS, pause))
            task = asyncio.ensure_future(surveyor.survey(Tally(), float("inf")))
            await asyncio.sleep(0.3)
            beside.append(await ask(now.hub.port, now.pulls(), _SECONDS, pause))
            surveys += not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            surveyor.hang_up()
            await asyncio.sleep(1.0)
        _say(
            now.name,
            f"mean time of a pull {how} beside a survey ({surveys} of {_TIMES})",
            _slower(quiet, beside),
            "≤ 1.2",
        )


def _slower(quiet: list[Asked], beside: list[Asked]) -> str:
    means = [median(one.mean for one in some) for some in (quiet, beside)]
    tails = [median(one.part(0.99) for one in some) for some in (quiet, beside)]
    return (
        f"{means[1] / means[0]:.2f} ({means[0]:.2f} → {means[1]:.2f} ms; p99 {tails[0]:.1f} → {tails[1]:.1f})"
    )


async def _held_row(now: _Meeting) -> None:
    """Others while one space's row is held and many push into it."""
    with psycopg.connect(now.url) as holder:
        holder.execute("SELECT 1 FROM space WHERE space = %s FOR UPDATE", [_HELD])
        crowd = asyncio.ensure_future(ask(now.hub.port, now.pushes(_HELD, _PUSHERS), _SECONDS))
        await asyncio.sleep(0.5)
        pulls, pushes = await asyncio.gather(
            ask(now.hub.port, now.pulls(), _SECONDS), ask(now.hub.port, now.pushes(_OTHERS, 4), _SECONDS)
        )
    theirs = await crowd
    refused = pulls.refused + pushes.refused
    of = f"{refused} of {len(pulls.seconds) + len(pushes.seconds)}"
    of += f" (of their own {theirs.refused} of {len(theirs.seconds)})"
    _say(now.name, f"others refused while a space's row is held and {_PUSHERS} push into it", of, "0")


async def _read(now: _Meeting) -> None:
    """Eight who read the large space at once, in the largest pages that there are."""
    pages = [now.pull(_LARGE, 1 + number * _BATCH, limit=10_000) for number in range(8)]
    asked = await ask(now.hub.port, pages, _SECONDS)
    _say(now.name, "eight who read pages of 10,000: refused", f"{asked.refused} of {len(asked.seconds)}", "0")


async def _measure(now: _Meeting, wanted: list[str]) -> None:
    with watched(now.hub) as use:
        for name, one in _ALL.items():
            if name in wanted and (name != "held" or now.name == "PostgreSQL"):
                await one(now)
    _say(now.name, "MB of the hub's process in all of this", f"{use.memory:.0f}", "≤ 120")


_ALL = {"nothing": _nothing_new, "survey": _surveyed, "held": _held_row, "read": _read}


def main() -> None:
    """Measure on both databases, or on one, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet.ratios", description=__doc__)
    parser.add_argument("which", nargs="*", metavar="WHICH", help=", ".join(_ALL))
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--records", type=int, default=1_000_000, help="in the large space")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="statesync-ratios-") as folder, ExitStack() as stack:
        urls = {} if asked.database == "postgres" else {"SQLite": f"sqlite:///{folder}/hub.db"}
        if asked.database != "sqlite":
            urls["PostgreSQL"] = stack.enter_context(postgres())
        for name, url in urls.items():
            with _meeting(name, url, asked.records, Path(folder)) as now:
                asyncio.run(_measure(now, asked.which or list(_ALL)))


if __name__ == "__main__":
    main()
