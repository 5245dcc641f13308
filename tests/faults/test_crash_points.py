"""The device's process ends at every statement, commit, send and receive of a day; nothing is lost."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from statesync import AllRejected, Remote
from statesync.testing import CrashPoints, Point, Watch

from .checks import (
    check_applied_once,
    check_equal,
    check_journal,
    check_sessions,
    check_whole_batches,
    check_whole_pages,
)
from .day import EXPECTED, IN_CONFLICT, IN_FLIGHT, OPTIONS, SHORT, edit_in_flight, live_the_day
from .field import Device, device, local_hub, rows_of


def restore(morning: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(morning, folder)


def the_day(folder: Path) -> Callable[[Watch], None]:
    def program(watch: Watch) -> None:
        with local_hub(folder / "hub.db") as hub:
            live_the_day(folder, watch.remote(hub), watch)

    return program


def finish_the_day(a: Device, hub: Remote) -> None:
    """Do what the crash kept the day from: sync to the end, and make its two late edits."""
    scope = a.store.scope(hub)
    try:
        scope.sync(OPTIONS)
    except AllRejected as error:  # nothing but the long record was left
        assert [problem.key for problem in error.result.errors.upload] == ["long"]
    if a.rows()["a1"][0] != IN_FLIGHT:
        edit_in_flight(a)
    if a.rows()["long"][0] != SHORT:
        a.write("long", SHORT)
    scope.sync(OPTIONS)


def check_after_crash(folder: Path) -> None:
    """Look at what the dead process left; then open, sync to the end, and compare everything."""
    check_journal(folder)
    check_whole_pages(folder)
    check_whole_batches(folder)
    running = dict(rows_of(folder / "a.db", "SELECT id, phase FROM statesync_session"))
    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a, device(folder / "b.db") as b:
        check_sessions(a, running)
        finish_the_day(a, hub)
        b.store.scope(hub).sync()
        check_sessions(a, {})
        check_equal(folder, a, b)
        assert a.rows() == EXPECTED
        assert a.store.pending() == []
        assert Counter(entry.key for entry in a.store.conflicts()) == Counter(IN_CONFLICT)
    check_journal(folder)
    check_applied_once(folder)


def test_a_day_without_a_crash_ends_as_expected(morning: Path, folder: Path) -> None:
    restore(morning, folder)
    points = CrashPoints(the_day(folder)).listed()
    assert {point.kind for point in points} == {"statement", "commit", "send", "receive"}
    check_after_crash(folder)


@pytest.mark.timeout(300)
def test_nothing_is_lost_wherever_the_device_ends(
    morning: Path, folder: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    restore(morning, folder)
    points = CrashPoints(the_day(folder))
    listed = points.listed()
    for point in listed:
        restore(morning, folder)
        points.crash(point)
        with naming(point):
            check_after_crash(folder)
    record_testsuite_property("device_crash_points", len(listed))


class naming:  # noqa: N801 - reads as a sentence: with naming(point)
    """Say in a failure at which point the process ended."""

    def __init__(self, *points: Point) -> None:
        self._points = points

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            error.add_note(f"the process had ended at {' and then at '.join(map(str, self._points))}")
