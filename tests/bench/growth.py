"""W1 at a million, W6 and W7: what grows with the data, and what must not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

from attrs import define, field, frozen

from .hubs import Writer, hub
from .runner import Figures, Result, by_turns, run
from .sides.records import keys
from .sizes import Sizes
from .transfers import as_they_come, longest_batch, some_of


@frozen
class Course:
    """Which records change: ``among`` how many of the newest, in a table with keys in this ``order``."""

    name: str
    order: str
    among: int


Times = dict[tuple[str, str], list[float]]
"""Seconds of one sync by side and course, for ever more records."""


def growth(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W6: the same thousand changes on each side of ever more records, and a long history.

    Once among the newest records, as programs do it. And once scattered over all of them, where SQLite has
    a page of its own to read and to write for each: that part grows for everybody, so the bare loop's
    growth stands beside it.
    """
    times, filled = _exchanges(folder, sizes)
    memory = [figures["memory"] for figures in filled["ours"]]
    counts = f"{sizes.growth[-1]:,} to {sizes.growth[0]:,}"
    yield _grown(f"1000 changes a side: the newest of {counts}", times["ours", "near"])
    series = {
        "records": [float(count) for count in sizes.growth],
        "memory": memory,
        "seconds": times["ours", "far"],
        "bare seconds": times["bare", "far"],
        "near seconds": times["ours", "near"],
    }
    yield _grown(f"1000 changes a side: scattered over {counts}", times["ours", "far"], series)
    yield _beside_bare("the newest", times["ours", "near"], times["bare", "near"])
    yield _beside_bare("scattered", times["ours", "far"], times["bare", "far"])
    yield Result(
        "W1", f"resident memory at {sizes.growth[-1]:,}", memory[-1], 64.0, "MB", memory[-1] / 64, 1.0
    )
    yield from _large_download(sizes.growth[-1], filled["ours"][-1], filled["bare"][-1])
    yield from _history(folder, sizes)
    yield from _opening(folder, sizes)


def _exchanges(folder: Path, sizes: Sizes) -> tuple[Times, dict[str, list[Figures]]]:
    """Return the seconds of every exchange, and each side's downloads of random keys, for ever more records.

    All devices are filled first and take turns then, the small and the large ones too: a machine that
    becomes slower meanwhile would be taken for growth otherwise.
    """
    courses = (Course("near", "ordered", sizes.growth[0]), Course("far", "random", sizes.growth[-1]))
    sides = ("ours", "bare")
    with ExitStack() as stack:
        devices = []
        for count in sizes.growth:
            port = stack.enter_context(hub(f"sqlite:///{_hub_file(folder, count)}"))
            for side, course in product(sides, courses):
                devices.append(_Device(folder, port, side, course, count))
        filled = [device.fill(sizes.often) for device in devices]
        for number in range(sizes.often):
            for device in devices if number % 2 else reversed(devices):
                device.exchange(number)
    times: Times = {(side, course.name): [] for side, course in product(sides, courses)}
    for device in devices:
        times[device.side, device.course.name].append(median(device.seconds))
    far = {
        side: [
            figures
            for device, figures in zip(devices, filled, strict=True)
            if device.side == side and device.course.name == "far"
        ]
        for side in sides
    }
    return times, far


@define(eq=False)
class _Device:
    """A device that syncs the same thousand changes again and again with a space of its own."""

    folder: Path
    port: int
    side: str
    course: Course
    count: int
    seconds: list[float] = field(factory=list)
    _changes: list[list[str]] = field(factory=list)
    _writer: Writer = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin with a space that nobody has written to."""
        self._writer = Writer(self.port, f"w6-{self.side}-{self.course.name}")

    def fill(self, repeat: int) -> Figures:
        """Choose what will change ``repeat`` times, give it all records, and return what that took."""
        self._writer.fill(self.course.order, self.count)
        made = list(keys(self.course.order, self.count))
        newest = as_they_come(self.side, made)[-self.course.among :]
        self._changes = [some_of(newest, number) for number in range(repeat)]
        return self._run("download", limit=1000 if self.side == "bare" else 0)

    def exchange(self, number: int) -> None:
        """Change records on both sides, and sync."""
        for file in (_hub_file(self.folder, self.count), self._file):
            _into_memory(Path(file))
        self._writer.change(self._changes[number], number)
        figures = self._run("exchange", changes=1000, among=self.course.among, seed=number)
        self.seconds.append(figures["seconds"])

    def _run(self, work: str, **given: int) -> Figures:
        given = {"limit": 1000, **given}
        return run(f"{self.side}:{work}", path=self._file, port=self.port, space=self._writer.space, **given)

    @property
    def _file(self) -> str:
        return _path(self.folder, self.side, self.course.name, self.count)


def _large_download(count: int, ours: Figures, bare: Figures) -> Iterator[Result]:
    """W1 once with the most records: what random keys cost grows with their number."""
    mine, theirs, cpu = ours["seconds"], bare["seconds"], {"cpu": ours["cpu"] / bare["cpu"]}
    what = f"first download of {count:,}, random keys, once"
    yield Result("W1", what, mine, theirs, "s", mine / theirs, 0.3, cpu)
    yield longest_batch(f"{count:,}, random keys", ours["longest"])


def _grown(what: str, times: list[float], series: dict[str, list[float]] | None = None) -> Result:
    return Result("W6", what, times[-1], times[0], "s", times[-1] / times[0], 1.5, {}, series or {})


def _beside_bare(which: str, ours: list[float], bare: list[float]) -> Result:
    """Hold our growth against the bare loop's: what grows with a table is SQLite's, for everybody."""
    mine, theirs = ours[-1] / ours[0], bare[-1] / bare[0]
    what = f"that growth beside the bare loop's, {which}"
    return Result("W6", what, mine, theirs, "times", mine / theirs, 1.5)


def _into_memory(file: Path) -> None:
    """Read a file once. A machine that lends its memory to others drops what the large files had there.

    The small ones are in use all the time, so that would be taken for growth.
    """
    with file.open("rb") as content:
        while content.read(1 << 20):
            pass


def _hub_file(folder: Path, count: int) -> str:
    return f"{folder}/w6-{count}.db"


def _path(folder: Path, side: str, course: str, count: int) -> str:
    return f"{folder}/w6-{side}-{course}-{count}.db"


def _history(folder: Path, sizes: Sizes) -> Iterator[Result]:
    with hub(f"sqlite:///{_hub_file(folder, sizes.growth[0])}") as port:
        given = {"port": port, "space": "w6-ours-far", "limit": 1000, "repeat": sizes.syncs}
        device = _path(folder, "ours", "far", sizes.growth[0])
        before = run("ours:nothing", path=device, keep=2 * sizes.sessions, **given)["seconds"]
        run("ours:fill_history", path=device, sessions=sizes.sessions)
        after = run("ours:nothing", path=device, keep=2 * sizes.sessions, **given)["seconds"]
    what = f"a sync with nothing to do after {sizes.sessions:,} sessions"
    yield Result("W6", what, after * 1000, before * 1000, "ms", after / before, 1.5)


def _opening(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W7: opening a store with everything in it, and the import."""
    device = _path(folder, "ours", "far", sizes.growth[-1])
    run("ours:fill_history", path=device, sessions=sizes.sessions)
    seconds = median(run("ours:opening", path=device)["seconds"] for _ in range(sizes.repeat)) * 1000
    what = f"open and setup() with {sizes.growth[-1]:,} records, {sizes.sessions:,} sessions"
    yield Result("W7", what, seconds, 50.0, "ms", seconds / 50, 1.0)
    yield from importing(folder, sizes)


_DEPENDENCIES = ("attrs", "filelock", "msgspec", "peewee", "uuid_utils")
"""What is imported with ``statesync``: all that it takes along. ``transitions`` comes with a session."""


def importing(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W7: the import beside that of its dependencies alone, by turns; and with what a first session loads.

    Transfers are measured without that, as their bare loops are without their imports.
    """
    few, all_of_them = ", ".join(_DEPENDENCIES), ", ".join((*_DEPENDENCIES, "transitions"))
    whole = "statesync, statesync.session.inside"
    _import_seconds(folder, f"{whole}, {all_of_them}")  # compiles, as an installation does
    for what, ours, theirs, reach in (
        ("import statesync, beside the import of its dependencies", "statesync", few, 1.6),
        ("the same with what a first session loads", whole, all_of_them, 2.2),
    ):
        took, least = by_turns(
            sizes.repeat,
            partial(_import_seconds, folder, ours),
            partial(_import_seconds, folder, theirs),
        )
        mine, bare = took["seconds"] * 1000, least["seconds"] * 1000
        yield Result("W7", what, mine, bare, "ms", mine / bare, reach)


def _import_seconds(folder: Path, what: str, _turn: int = 0) -> Figures:
    """Time an import as on a device: compiled, and without the hub's PostgreSQL driver."""
    code = (
        "import sys, time; sys.modules['psycopg'] = None; began = time.perf_counter(); "
        f"import {what}; print(time.perf_counter() - began)"
    )
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, env=os.environ | compiled
    )
    return {"seconds": float(done.stdout)}
