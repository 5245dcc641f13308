"""The threads of a hub share their memory: what one has freed, another one uses."""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from statesync.hub import Hub, prepare

from ..devices import Service, upsert
from ..served import running

_HEAP = 64 << 20
"""Bytes to which glibc aligns what it sets aside for a thread."""


def arenas(process: int) -> int:
    """Return how many places for a thread of its own a process has.

    Such a place is what is in use, readable and writable, and the rest of what was set aside, which is not.
    """
    found = 0
    lines = [line.split() for line in Path(f"/proc/{process}/maps").read_text().splitlines()]
    for (used, used_as, *_), (rest, rest_as, *_) in itertools.pairwise(lines):
        begin, end = int(used.partition("-")[0], 16), int(rest.partition("-")[2], 16)
        found += begin % _HEAP == 0 and end == begin + _HEAP and (used_as, rest_as) == ("rw-p", "---p")
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such places")
def test_no_thread_of_a_hub_has_memory_of_its_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    with (
        running(url, "--open") as server,
        Service(server.address, Hub(url, without_tokens=True), url) as service,
        ThreadPoolExecutor(4) as threads,
    ):
        changes = [upsert(f"{number}", {"text": "x" * 1000}) for number in range(200)]
        devices = [service.device(f"space-{number}") for number in range(4)]
        for done in [threads.submit(device.push, *changes) for device in devices]:
            done.result(30)
        for read in [threads.submit(device.read_all, "Airport", own=True) for device in devices]:
            assert len(read.result(30)[0]) == 200
        assert arenas(server.process.pid) == 0
