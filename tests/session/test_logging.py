"""A program that logs at INFO gets one line a session, and nothing of its records."""

from __future__ import annotations

import logging

import pytest
from rig.device import Device
from rig.gate import Gate, refuse
from transitions import Machine

from statesync import SyncFailed
from statesync.session import driver


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is logged at INFO, but for the server that runs in the same process."""
    found = (record for record in caplog.records if record.levelno == logging.INFO)
    return [record.getMessage() for record in found if not record.name.startswith("uvicorn")]


def test_a_session_is_one_line_that_says_how_it_ended(
    here: Device, there: Device, caplog: pytest.LogCaptureFixture
) -> None:
    there.add(2)
    there.sync()
    (key,) = here.add(1, first=100)
    with caplog.at_level(logging.INFO):
        here.sync()
    (line,) = lines(caplog)
    assert line.startswith(f"session {here.store.sessions()[-1].id} in space ")
    assert ": done, 1 up, 2 down, " in line
    assert key not in line


def test_the_line_is_there_before_a_callback_of_the_end_is_called(
    here: Device, caplog: pytest.LogCaptureFixture
) -> None:
    """A program may end while such a callback hangs."""
    seen: list[list[str]] = []
    with caplog.at_level(logging.INFO):
        here.scope.start_sync(on_success=lambda _: seen.append(lines(caplog))).wait()
    assert [len(each) for each in seen] == [1]


def test_the_line_of_a_failed_session_says_why(
    here: Device, there: Device, caplog: pytest.LogCaptureFixture
) -> None:
    there.add(1)
    there.sync()
    here.execute(
        "CREATE TRIGGER no BEFORE UPDATE ON statesync_cursor BEGIN SELECT RAISE(ABORT, 'secret'); END"
    )
    with caplog.at_level(logging.INFO), pytest.raises(SyncFailed):
        here.sync()
    (line,) = lines(caplog)
    assert ": failed (store_error), 0 up, 0 down, " in line
    assert "secret" not in line


def test_other_machines_of_the_program_are_logged_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(states=["a", "b"], initial="a", name="theirs")
    with caplog.at_level(logging.INFO):
        machine.to_b()
    assert any("theirs" in record.getMessage() for record in caplog.records)


def test_each_step_of_a_batch_is_logged_at_debug_with_session_and_batch(
    here: Device, gate: Gate, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "backoff", lambda attempt, at_least: 0.0)
    gate.plan(refuse(503, "busy"))
    here.airport.create(id="k-secret", name="n-secret")
    with caplog.at_level(logging.DEBUG, "statesync"):
        here.sync()
    session = here.store.sessions()[-1].id
    steps = [record for record in caplog.records if record.name == "statesync.session.telling.logs"]
    assert {vars(record)["session"] for record in steps} == {session}
    batches = [record for record in steps if record.levelno == logging.DEBUG]
    assert {vars(record)["batch"] for record in batches} == {1, 2}
    (waits,) = [record.getMessage() for record in batches if "waiting" in record.getMessage()]
    assert f"session {session} batch 1: upload, waiting, attempt 1, 0 records; remote_error, again" in waits
    assert "secret" not in caplog.text
