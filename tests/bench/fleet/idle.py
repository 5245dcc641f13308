"""``python -m tests.bench.fleet.idle``: what keepers, and their hub, cost where nothing happens.

Each keeper has a store of its own, on a real file; all of a run are in one process, apart from their hub. A
wake-up is a thread of that process that has waited, and runs again.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from statesync import AutoSync, KeeperPhase
from statesync.hub import prepare
from statesync.store.news.lookout import Lookout

from ..runner import ROOT
from .hub import HubProcess, processor

_RESTS = (KeeperPhase.RESTING, KeeperPhase.LISTENING)


def _keepers(stack: ExitStack, folder: Path, url: str, count: int, *, live: bool) -> Iterator[AutoSync]:
    from peewee import TextField

    from statesync import HttpRemote, Store

    for number in range(count):
        store = stack.enter_context(Store(folder / f"{number}.db"))
        base: Any = store.Model
        type("Item", (base,), {"name": TextField()})
        store.setup()
        yield stack.enter_context(AutoSync(store.scope(HttpRemote(url, f"space-{number}")), live=live))


def _is_at_rest(keeper: AutoSync) -> bool:
    status = keeper.status()
    return status.phase in _RESTS and status.in_sync is not None


def child(folder: str, url: str, count: int, seconds: float, *, live: bool) -> None:
    """Say what so many keepers cost in so many seconds in which nothing happens."""
    looks, has_news = 0, Lookout.has_news

    def counted(lookout: Lookout) -> bool:
        nonlocal looks
        looks += 1
        return has_news(lookout)

    with ExitStack() as stack:
        keepers = list(_keepers(stack, Path(folder), url, count, live=live))
        while not all(map(_is_at_rest, keepers)):
            time.sleep(0.1)
        time.sleep(2.0)
        print("at rest", flush=True)
        every: Any = Lookout
        every.has_news = counted
        woken, spent = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, time.process_time()
        time.sleep(seconds)
        spent = time.process_time() - spent
        woken = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - woken
        each = seconds * count
        found = {"processor": spent / each, "wakes": woken / each, "looks": looks / each}
        print(json.dumps(found), flush=True)


def _run(hub: HubProcess, folder: Path, count: int, seconds: float, *, live: bool) -> str:
    address = f"http://127.0.0.1:{hub.port}"
    asked = [str(folder), address, str(count), str(int(live)), str(seconds)]
    (pid,) = hub.processes()
    command = [sys.executable, "-m", "tests.bench.fleet.idle", "--child", *asked]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # they are at rest
        spent = processor(pid)
        said = json.loads(process.stdout.readline())
        hubs = (processor(pid) - spent) / seconds
    how = "listening" if live else "resting"
    return (
        f"{count:4} {how:9}  each: {3600 * said['processor']:6.1f} s of processor an hour, "
        f"{60 * said['wakes']:6.0f} wake-ups and {60 * said['looks']:5.0f} statements a minute; "
        f"their hub: {hubs:.2%} of a core"
    )


def main() -> None:
    """Measure one keeper and a hundred, which listen and which do not."""
    if sys.argv[1:2] == ["--child"]:
        where, address, number, listens, length = sys.argv[2:]
        child(where, address, int(number), float(length), live=bool(int(listens)))
        return
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet.idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--many", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="statesync-idle-") as root:
        url = f"sqlite:///{root}/hub.db"
        prepare(url)
        hub = HubProcess(url, 1, ("--open",), Path(root) / "log")
        hub.start()
        try:
            (pid,) = hub.processes()
            time.sleep(12.0)  # whatever it began with is over
            spent = processor(pid)
            time.sleep(asked.seconds)
            print(
                f"a hub without keepers: {(processor(pid) - spent) / asked.seconds:.2%} of a core", flush=True
            )
            for count in (1, asked.many):
                for live in (False, True):
                    folder = Path(root) / f"{count}-{live}"
                    folder.mkdir()
                    print(_run(hub, folder, count, asked.seconds, live=live), flush=True)
        finally:
            hub.stop()


if __name__ == "__main__":
    main()
