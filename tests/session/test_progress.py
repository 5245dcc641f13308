"""What progress says of a batch that has to be sent again, and how often it is told to what draws it."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rig.child import start_child
from rig.device import Device, device_at
from rig.gate import Gate, pass_on, refuse, wait_for

from statesync import (
    AutoSync,
    Part,
    Progress,
    RemoteError,
    State,
    SyncCancelled,
    SyncOptions,
)
from statesync.lifecycle import Phase
from statesync.session import driver
from statesync.session.telling import pace
from statesync.session.telling.pace import Pace
from statesync.session.telling.tracing import each_step


def test_a_batch_that_fails_says_why_when_it_is_tried_again_and_which_attempt_that_is(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "backoff", lambda attempt, at_least: 0.05)
    gate.plan(refuse(503, "busy"), refuse(503, "busy"))
    here.add(1)
    told: list[tuple[datetime, Progress]] = []
    here.scope.sync(on_progress=lambda event: told.append((datetime.now(UTC), event)))
    waits = [(at, event) for at, event in told if event.state is State.WAITING]
    assert [(event.part, event.batch, event.attempt) for _, event in waits] == [
        (Part.UPLOAD, 1, 1),
        (Part.UPLOAD, 1, 2),
    ]
    for at, event in waits:
        assert isinstance(event.error, RemoteError)
        assert "busy" in event.error.message
        assert event.next_at is not None
        assert abs((event.next_at - at).total_seconds() - 0.05) < 0.04
    sent = [event.attempt for _, event in told if (event.part, event.state) == (Part.UPLOAD, State.STARTED)]
    assert sent == [1, 2, 3]


def test_the_feed_says_how_far_it_is_from_the_head_and_a_read_from_the_start_does_not(
    here: Device, there: Device
) -> None:
    there.add(30)
    there.sync()
    assert {event.behind for event in downloads_of(here)} == {None}
    there.add(25, first=30)
    there.sync()
    ended = [event for event in downloads_of(here, download_batch_size=10) if event.state is State.ENDED]
    assert [(event.records, event.behind) for event in ended] == [(10, 15), (20, 5), (25, 0)]


def downloads_of(device: Device, **options: Any) -> list[Progress]:
    """Sync, and return what was told of the download."""
    told: list[Progress] = []
    device.scope.sync(SyncOptions(**options), on_progress=told.append)
    return [event for event in told if event.part is Part.DOWNLOAD]


def test_a_batch_that_goes_well_has_one_attempt_and_no_error(here: Device, there: Device) -> None:
    there.add(3)
    there.sync()
    told: list[Progress] = []
    here.scope.sync(on_progress=told.append)
    assert {event.attempt for event in told if event.part is Part.DOWNLOAD} == {1}
    assert {(event.error, event.next_at) for event in told} == {(None, None)}


COUNT = "SELECT count(*) FROM airport"


def asked_on_disk(path: Path, question: str) -> object:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(question).fetchone()[0]


def of_downloads(told: list[Progress]) -> list[tuple[int, int | None]]:
    """Return how far each stored page came, and of how many."""
    ended = [event for event in told if (event.part, event.state) == (Part.DOWNLOAD, State.ENDED)]
    return [(event.records, event.total) for event in ended]


def test_a_session_in_a_new_process_that_goes_on_with_a_read_tells_how_much_is_left_of_it(
    here: Device, there: Device, gate: Gate, space: str
) -> None:
    """The process before it was cancelled after two pages of five."""
    there.add(23)
    there.sync()
    gate.plan(pass_on, pass_on)
    held = gate.hold()
    path = Path(here.store.database.database)
    here.store.close()
    with start_child(path, gate.url, space, download_batch_size=5) as child:
        held.wait()
        assert wait_for(lambda: asked_on_disk(path, COUNT) == 10)
        child.send_signal(signal.SIGINT)
        assert wait_for(lambda: asked_on_disk(path, "SELECT phase FROM statesync_session") == "cancelling")
        held.release()
        child.wait(10)
    assert asked_on_disk(path, COUNT) == 15
    told: list[Progress] = []
    with device_at(path, gate.url, space) as again:
        again.scope.sync(SyncOptions(download_batch_size=5), on_progress=told.append)
    assert of_downloads(told)[:2] == [(5, 8), (8, 8)]


def test_a_read_with_a_filter_has_no_total(here: Device, there: Device) -> None:
    """The hub counts what the filter hides as well: a bar would stand at a hundredth, and be done."""
    there.add(8)
    there.execute("UPDATE airport SET name = 'shown' WHERE id IN ('k00001', 'k00006')")
    there.sync()
    told: list[Progress] = []
    options = SyncOptions(filter={"Airport": {"name": "shown"}}, download_batch_size=1)
    here.scope.sync(options, on_progress=told.append)
    assert here.keys() == ["k00001", "k00006"]
    assert {total for _, total in of_downloads(told)} == {None}


def test_a_read_that_begins_anew_counts_anew(here: Device, there: Device, gate: Gate) -> None:
    there.add(12)
    there.sync()
    here.sync()
    here.store.clear()

    def cancel(event: Progress) -> None:
        if event.records == 5:
            here.scope.cancel_sync()

    with pytest.raises(SyncCancelled):
        here.scope.sync(SyncOptions(download_batch_size=5), on_progress=cancel)
    here.store.clear()
    told: list[Progress] = []
    here.scope.sync(SyncOptions(download_batch_size=5), on_progress=told.append)
    assert of_downloads(told)[:3] == [(5, 12), (10, 12), (12, 12)]


# -- the pace ------------------------------------------------------------------------------------------------


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def step(part: Part = Part.DOWNLOAD, state: State = State.ENDED, **more: int) -> Progress:
    return Progress(part, state, **more)  # type: ignore[arg-type]


@pytest.fixture
def usual_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell as many steps as programs are told: other tests hear each."""
    monkeypatch.setattr(pace, "LEAST_SECONDS", 0.1)


@pytest.mark.usefixtures("usual_pace")
def test_figures_are_told_ten_times_a_second_at_most() -> None:
    clock = Clock()
    pace, told = Pace(clock), 0
    for number in range(1000):
        clock.now = number / 500
        told += len(pace.due(step(batch=number)))
    assert 18 <= told <= 21


@pytest.mark.usefixtures("usual_pace")
def test_what_changes_more_than_figures_is_told_at_once() -> None:
    pace = Pace(Clock())
    told = [
        step(Part.SYNC, State.STARTED),
        step(Part.UPLOAD, State.STARTED),
        step(Part.UPLOAD, State.WAITING),
        step(Part.UPLOAD, State.STARTED),
        step(Part.DOWNLOAD, State.STARTED),
        step(Part.SYNC, State.CANCELLING),
        step(Part.SYNC, State.ENDED),
    ]
    assert [pace.due(event) for event in told] == [(event,) for event in told]
    assert not pace.due(step(batch=1)) or not pace.due(step(batch=2))


@pytest.mark.usefixtures("usual_pace")
def test_the_last_figures_of_a_part_are_told_before_the_next_part() -> None:
    pace = Pace(Clock())
    begun, last = step(Part.UPLOAD, State.STARTED), step(Part.UPLOAD, records=50)
    following = step(Part.DOWNLOAD, State.STARTED)
    assert pace.due(begun) == (begun,)
    assert [pace.due(step(Part.UPLOAD, State.IN_PROGRESS)), pace.due(last)] == [(), ()]
    assert pace.due(following) == (last, following)
    assert pace.due(step(Part.SYNC, State.ENDED)) == (step(Part.SYNC, State.ENDED),), "nothing twice"


def figures(told: list[Progress]) -> list[tuple[Part, State, int]]:
    """Return what was told within the parts."""
    return [(event.part, event.state, event.records) for event in told if event.part is not Part.SYNC]


FULL_SPEED = [
    (Part.UPLOAD, State.STARTED, 0),
    (Part.UPLOAD, State.ENDED, 30),
    (Part.DOWNLOAD, State.STARTED, 0),
    (Part.DOWNLOAD, State.ENDED, 40),
]


def by_callback(device: Device, options: SyncOptions) -> list[Progress]:
    told: list[Progress] = []
    device.scope.sync(options, on_progress=told.append)
    return told


def by_events(device: Device, options: SyncOptions) -> list[Progress]:
    return list(device.scope.start_sync(options).events())


def by_coroutine(device: Device, options: SyncOptions) -> list[Progress]:
    async def heard() -> list[Progress]:
        return [event async for event in device.scope.start_sync(options)]

    return asyncio.run(heard())


def by_keeper(device: Device, options: SyncOptions) -> list[Progress]:
    told: list[Progress] = []
    with AutoSync(device.scope, options=options, on_progress=told.append, on_change=False) as keeper:
        assert wait_for(lambda: keeper.status().is_up_to_date)
    return told


@pytest.mark.parametrize("heard", [by_callback, by_events, by_coroutine, by_keeper])
def test_however_progress_is_heard_figures_within_a_tenth_of_a_second_are_told_once(
    here: Device,
    there: Device,
    monkeypatch: pytest.MonkeyPatch,
    heard: Callable[[Device, SyncOptions], list[Progress]],
) -> None:
    """The tenth of a second is an hour here: so only what begins a part is told, and how far it came."""
    monkeypatch.setattr(pace, "LEAST_SECONDS", 3600)
    there.add(40)
    there.sync()
    here.add(30, first=1000)
    told = heard(here, SyncOptions(upload_batch_size=2, download_batch_size=2))
    assert figures(told) == FULL_SPEED
    assert [event.outcome for event in told if event.outcome] == [Phase.DONE]


def test_whoever_has_to_be_there_at_a_certain_step_hears_each(
    here: Device, there: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kit comes by at each step, whatever programs are told; sessions of other threads do not count."""
    monkeypatch.setattr(pace, "LEAST_SECONDS", 3600)
    there.add(40)
    steps: list[Progress] = []
    with each_step(steps.append):
        thread = threading.Thread(target=there.sync)
        thread.start()
        thread.join()
        assert not steps
        here.scope.sync(SyncOptions(download_batch_size=2))
    here.scope.sync()
    ends = [step.batch for step in steps if (step.part, step.state) == (Part.DOWNLOAD, State.ENDED)]
    assert len(ends) >= 20
    assert [step.outcome for step in steps if step.outcome] == [Phase.DONE]
