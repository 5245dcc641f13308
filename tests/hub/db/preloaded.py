"""A hub that is opened before its workers are forked, as ``gunicorn --preload`` does.

Run as a program: ``python -m hub.db.preloaded URL WORKERS``. The process and its workers each write to a
space of their own and read it, all at once, by the same ``Hub``. It prints what was read elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from rig import TESTS

from statesync.hub import Hub

PATIENCE = 60.0


def preloaded(url: str, workers: int = 3) -> subprocess.CompletedProcess[str]:
    """Let a process of its own open the hub at ``url``, fork and serve."""
    command = [sys.executable, "-W", "ignore:.*fork:DeprecationWarning", "-m", __name__, url, str(workers)]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=PATIENCE, check=False)


def _envelope(client: str, **more: object) -> bytes:
    return json.dumps({"client": client, "hub": None, "epoch": None, **more}).encode()


def write(hub: Hub, space: str, number: int) -> None:
    """Push the next record of a space, as its only writer."""
    change = {"object": "A", "key": f"{space}-{number}", "op": "upsert", "base": 0, "data": {}}
    hub.push(space, _envelope("writer", number=number, batch=f"{number}", changes=[change]))


def read(hub: Hub, space: str) -> list[str]:
    """Return the keys of a space's records."""
    page = json.loads(
        hub.pull(space, _envelope("reader", number=0, objects={"A": {"cursor": 0}}, limit=1000))
    )
    return [record["key"] for record in page["changes"]]


def _write_and_read(hub: Hub, space: str, rounds: int) -> list[str]:
    """Push and pull as the only device of a space; return what came from elsewhere."""
    foreign: list[str] = []
    for number in range(1, rounds + 1):
        write(hub, space, number)
        foreign += [key for key in read(hub, space) if not key.startswith(f"{space}-")]
        hub.check_ready()
    return foreign


def _worker(hub: Hub, name: str, rounds: int) -> None:
    status = 1
    try:
        status = len(_write_and_read(hub, name, rounds))
    finally:
        os._exit(status)


def _main(url: str, workers: int) -> None:
    hub = Hub(url, without_tokens=True)
    _write_and_read(hub, "before", 1)
    children = []
    for number in range(workers):
        child = os.fork()
        if child == 0:
            _worker(hub, f"worker{number}", 10)
        children.append(child)
    mine = _write_and_read(hub, "parent", 10)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    mine += _write_and_read(hub, "after", 1)  # on the connections that it had
    hub.close()
    print(json.dumps({"foreign": mine, "ended": ended}))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
