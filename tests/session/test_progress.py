"""What progress says of a batch that has to be sent again, and how often it is told to what draws it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rig.device import Device
from rig.gate import Gate, refuse, wait_for

from statesync import (
    AutoSync,
    Part,
    Progress,
    RemoteError,
    State,
    SyncOptions,
    paced,
)
from statesync.lifecycle import Phase
from statesync.session import driver
from statesync.session.telling import pace
from statesync.session.telling.pace import Pace


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


def test_a_batch_that_goes_well_has_one_attempt_and_no_error(here: Device, there: Device) -> None:
    there.add(3)
    there.sync()
    told: list[Progress] = []
    here.scope.sync(on_progress=told.append)
    assert {event.attempt for event in told if event.part is Part.DOWNLOAD} == {1}
    assert {(event.error, event.next_at) for event in told} == {(None, None)}


# -- the pace ------------------------------------------------------------------------------------------------


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def step(part: Part = Part.DOWNLOAD, state: State = State.ENDED, **more: int) -> Progress:
    return Progress(part, state, **more)  # type: ignore[arg-type]


def test_figures_are_told_ten_times_a_second_at_most() -> None:
    clock = Clock()
    pace, told = Pace(clock), 0
    for number in range(1000):
        clock.now = number / 500
        told += pace.admits(step(batch=number))
    assert 18 <= told <= 21


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
    assert [pace.admits(event) for event in told] == [True] * len(told)
    assert not pace.admits(step(batch=1)) or not pace.admits(step(batch=2))


def test_a_paced_callback_hears_the_end_of_every_session(here: Device, there: Device) -> None:
    there.add(40)
    there.sync()
    told: list[Progress] = []
    tell = paced(told.append)
    for _ in range(2):
        here.scope.sync(on_progress=tell)
    assert [event.outcome for event in told if event.outcome] == [Phase.DONE, Phase.DONE]


def test_the_sessions_of_a_keeper_tell_their_progress(
    here: Device, there: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LEAST_SECONDS", 3600)
    there.add(40)
    there.sync()
    told: list[Progress] = []
    options = SyncOptions(download_batch_size=2)
    with AutoSync(here.scope, options=options, on_progress=told.append, min_gap=0) as keeper:
        assert wait_for(lambda: keeper.status().is_up_to_date)
    ends = [event for event in told if event.outcome is not None]
    assert [event.outcome for event in ends] == [Phase.DONE]
    assert len([event for event in told if event.part is Part.DOWNLOAD]) == 1
