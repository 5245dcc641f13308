"""A process that has too many threads for a moment: a session that hangs is ended all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from rig.device import Device
from rig.gate import PATIENCE, wait_for

from statesync import Phase
from statesync.session import watch
from statesync.threads import Task, Threads

Crowd = Callable[[str], list[str]]


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    """Refuse the next thread of a name; the list that is returned has it then."""
    start = Threads.start

    def refuse_one(name: str) -> list[str]:
        refused: list[str] = []

        def crowded(self: Threads, task: Task) -> None:
            if task.name == name and not refused:
                refused.append(name)
                raise RuntimeError("can't start new thread")
            start(self, task)

        monkeypatch.setattr(Threads, "start", crowded)
        return refused

    return refuse_one


@pytest.mark.parametrize("what", ["give-up", "interrupt"])
def test_a_session_that_hangs_is_ended_where_a_thread_for_that_is_missing_at_first(
    here: Device, crowd: Crowd, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(watch, "_AGAIN", 0.02)
    refused = crowd(f"statesync-{what}")
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        hangs.set()
        goes_on.wait(PATIENCE)

    session = here.scope.start_sync(on_progress=hang)
    assert hangs.wait(PATIENCE)
    session.cancel(grace=0.0)
    assert wait_for(session.is_over)
    assert (refused, session.phase) == ([f"statesync-{what}"], Phase.CANCELLED)
    here.sync()
    goes_on.set()


def test_a_log_that_no_thread_is_there_to_write_back_keeps_no_store_from_being_closed(
    here: Device, crowd: Crowd
) -> None:
    refused = crowd("statesync-checkpoint")
    database: Any = here.store.database
    database._put_off = 1000  # as a session leaves it whose last batch was large
    database._write_back(database.raw_connection())
    assert refused
    database.drop_spare()
