"""Two devices, kept in sync by keepers: how long a row takes from a commit on one to a commit on the other.

Prints a list of seconds. Made for ``measure``, which starts it as a process of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rig.device import Device, device_at

from statesync import AutoSync, KeeperPhase

DEBOUNCE: float | None = None


def arrived(device: Device, key: str) -> bool:
    return bool(device.airport.select().where(device.airport.id == key).exists())


def ready(keeper: AutoSync) -> bool:
    return keeper.status().phase is KeeperPhase.LISTENING


def seconds(here: Device, there: Device, number: int) -> float:
    began = time.monotonic()
    (key,) = there.add(1, first=number)
    while not arrived(here, key):
        assert time.monotonic() < began + 30, f"{key} did not come"
        time.sleep(0.002)
    return time.monotonic() - began


def main() -> None:
    url, space, count, pause = sys.argv[1:]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="statesync-")))
        here, there = (
            stack.enter_context(device_at(folder / f"{name}.db", url, space)) for name in ("here", "there")
        )
        keepers = [AutoSync(device.scope, live=True, min_gap=0) for device in (here, there)]
        for keeper in keepers:
            stack.enter_context(keeper)
        while not all(map(ready, keepers)):
            time.sleep(0.01)
        time.sleep(0.5)
        found = []
        for number in range(int(count)):
            found.append(seconds(here, there, number))
            time.sleep(float(pause))
        print(json.dumps(found))


if __name__ == "__main__":
    main()
