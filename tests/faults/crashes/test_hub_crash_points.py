"""The hub's process ends wherever it leaves something else behind, and is started again; nothing is lost."""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from statesync import HttpRemote
from statesync.session import timers
from statesync.testing import CrashPoints, Point, Watch

from ..checks import check_journal, check_sessions
from ..day import live_the_day
from ..field import SPACE, device, evidence, open_hub
from ..recovery import check_end_of_day, finish_the_day, naming, restore
from .left import telling_points
from .plain_server import address_of, listen, serve_until_done
from .split import every, shared_out


@every
def test_nothing_is_lost_wherever_the_hub_ends(
    morning: Path, folder: Path, record_testsuite_property: Callable[[str, object], None], every: int
) -> None:
    restore(morning, folder)
    with the_device_beside(folder) as listener:
        points, telling = telling_points(hub_program(folder, listener), folder)
    check_day_is_done(folder)
    assert {point.kind for point in points} == {"statement", "commit"}
    assert len(points) > 60
    shared_out(partial(end_at_each, morning, folder), telling[::every])
    record_testsuite_property("hub_crash_points", len(points))


def end_at_each(morning: Path, around: Path, points: Sequence[Point]) -> None:
    with tempfile.TemporaryDirectory(dir=around) as name:
        own = Path(name) / "day"
        for point in points:
            restore(morning, own)
            with naming(point), the_device_beside(own) as listener:
                CrashPoints(hub_program(own, listener)).crash(point)
                start_again(own, listener)
            check_day_is_done(own)


def hub_program(folder: Path, listener: socket.socket) -> Callable[[Watch], None]:
    def program(watch: Watch) -> None:
        hub = open_hub(folder / "hub.db")
        hub.database.close()  # the connection that the opening made was not watched
        watch.database(hub.database.pool)  # type: ignore[arg-type]
        serve_until_done(listener, hub)
        hub.close()

    return program


def start_again(folder: Path, listener: socket.socket) -> None:
    hub = open_hub(folder / "hub.db")
    serve_until_done(listener, hub)
    hub.close()


@contextmanager
def the_device_beside(folder: Path) -> Iterator[socket.socket]:
    """Let a process of its own live the day on device a, against a hub at the socket that is given."""
    with listen() as listener:
        life = multiprocessing.get_context("fork").Process(
            target=the_device, args=(folder, address_of(listener))
        )
        life.start()
        yield listener
        life.join()
    assert life.exitcode == 0


def the_device(folder: Path, address: str) -> None:
    timers.BACKOFF_CAP = 0.0
    remote = HttpRemote(address, SPACE)
    try:
        live_the_day(folder, remote)
        with device(folder / "a.db") as a:
            finish_the_day(a, remote)
    finally:
        urllib.request.urlopen(f"{address}/done", data=b"").close()


def check_day_is_done(folder: Path) -> None:
    with device(folder / "a.db") as a, evidence(folder) as found:
        check_sessions(a, {})
        check_journal(found)
        check_end_of_day(found, a)
