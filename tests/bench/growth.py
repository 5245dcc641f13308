"""W1 at a million, W6 and W7: what grows with the data, and what must not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from .hubs import Writer, hub
from .records import keys
from .runner import Result, run
from .sizes import Sizes
from .transfers import some_of


def growth(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W6: the same thousand changes on each side of ever more records, and a long history."""
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    memory: list[float] = []
    for count in sizes.growth:
        with hub(f"sqlite:///{folder}/w6-{count}.db") as port:
            for side, seconds in times.items():
                writer = Writer(port, f"w6-{side}")
                writer.fill("random", count)
                device = f"{folder}/w6-{side}-{count}.db"
                loaded = run(f"{side}:download", path=device, port=port, space=writer.space, limit=1000)
                seconds.append(_exchanges(side, writer, device, count, sizes.repeat))
                if side == "ours":
                    memory.append(loaded["memory"])
    yield _grown(sizes, times, memory)
    yield _beside_bare(sizes, times)
    yield Result(
        "W1", f"resident memory at {sizes.growth[-1]:,}", memory[-1], 64.0, "MB", memory[-1] / 64, 1.0
    )
    yield from _history(folder, sizes)
    yield from _opening(folder, sizes)


def _grown(sizes: Sizes, times: dict[str, list[float]], memory: list[float]) -> Result:
    ours, bare = times["ours"], times["bare"]
    counts = [float(count) for count in sizes.growth]
    return Result(
        "W6",
        f"1000 changes on each side of {sizes.growth[-1]:,} against {sizes.growth[0]:,}",
        ours[-1],
        ours[0],
        "s",
        ours[-1] / ours[0],
        1.5,
        {"the bare loop's growth": bare[-1] / bare[0], "over the bare loop": ours[-1] / bare[-1]},
        {"records": counts, "seconds": ours, "bare seconds": bare, "memory": memory},
    )


def _beside_bare(sizes: Sizes, times: dict[str, list[float]]) -> Result:
    """Hold our growth against the bare loop's: what grows with a table is SQLite's, for everybody."""
    ours, bare = (seconds[-1] / seconds[0] for seconds in (times["ours"], times["bare"]))
    what = f"that growth beside the bare loop's, {sizes.growth[-1]:,} records"
    return Result("W6", what, ours, bare, "times", ours / bare, 1.5)


def _exchanges(side: str, writer: Writer, device: str, count: int, repeat: int) -> float:
    """Return the median seconds of a sync with a thousand changes on each side."""
    known = list(keys("random", count))
    seconds = []
    for number in range(repeat):
        writer.change(some_of(known, number), number)
        given = {"path": device, "port": writer.port, "space": writer.space, "seed": number}
        seconds.append(run(f"{side}:exchange", limit=1000, changes=1000, **given)["seconds"])
    return median(seconds)


def _history(folder: Path, sizes: Sizes) -> Iterator[Result]:
    with hub(f"sqlite:///{folder}/w6-{sizes.growth[0]}.db") as port:
        given = {"port": port, "space": "w6-ours", "limit": 1000, "repeat": sizes.syncs}
        device = f"{folder}/w6-ours-{sizes.growth[0]}.db"
        before = run("ours:nothing", path=device, keep=2 * sizes.sessions, **given)["seconds"]
        run("ours:fill_history", path=device, sessions=sizes.sessions)
        after = run("ours:nothing", path=device, keep=2 * sizes.sessions, **given)["seconds"]
    what = f"a sync with nothing to do after {sizes.sessions:,} sessions"
    yield Result("W6", what, after * 1000, before * 1000, "ms", after / before, 1.5)


def _opening(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W7: opening a store with everything in it, and the import."""
    device = f"{folder}/w6-ours-{sizes.growth[-1]}.db"
    run("ours:fill_history", path=device, sessions=sizes.sessions)
    seconds = median(run("ours:opening", path=device)["seconds"] for _ in range(sizes.repeat)) * 1000
    what = f"open and setup() with {sizes.growth[-1]:,} records, {sizes.sessions:,} sessions"
    yield Result("W7", what, seconds, 50.0, "ms", seconds / 50, 1.0)
    _import_seconds(folder)  # compiles, as an installation does
    importing = median(_import_seconds(folder) for _ in range(sizes.repeat)) * 1000
    yield Result("W7", "import statesync", importing, 150.0, "ms", importing / 150, 1.0)


def _import_seconds(folder: Path) -> float:
    """Time the import as on a device: compiled, and without the hub's PostgreSQL driver."""
    code = (
        "import sys, time; sys.modules['psycopg'] = None; began = time.perf_counter(); "
        "import statesync; print(time.perf_counter() - began)"
    )
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, env=os.environ | compiled
    )
    return float(done.stdout)
