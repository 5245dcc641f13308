"""A crash in every phase: a real process, really killed, and what the next one finds.

Source: K8 and K9 of the design.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from rig import TESTS
from rig.child import on_a_device, start_child
from rig.device import Device, device_at
from rig.gate import Gate, Hold, pass_on, wait_for

from statesync import HttpRemote, Phase, Store
from statesync.store.journal import sessions

NewDevice = Callable[..., Device]


@pytest.fixture
def waiting(there: Device) -> list[str]:
    """The keys of 12 records that wait on the hub."""
    keys = there.add(12)
    there.sync()
    return keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "killed.db"


def prepare(path: Path, gate: Gate, space: str, records: int) -> None:
    """Make the device that will be killed, with records that wait for the hub."""
    with device_at(path, gate.url, space) as device:
        device.add(records, first=100)


def kill_at(
    path: Path, gate: Gate, space: str, held: Hold, *, cancelling: bool = False, batch: int | None = None
) -> None:
    """Sync in a child process, and kill it while the request is held.

    A page may be asked for before its batch begins: then the kill waits for ``batch`` to be in flight.
    """
    with start_child(path, gate.url, space, upload_batch_size=2, download_batch_size=4) as child:
        held.wait()
        if batch is not None:
            assert wait_for(lambda: batch_on_disk(path) == (batch, "in_flight"))
        if cancelling:
            child.send_signal(2)
            assert wait_for(lambda: phase_on_disk(path) == "cancelling")
        child.kill()
        child.wait()
    held.release()


def phase_on_disk(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        phase: str = database.execute("SELECT phase FROM statesync_session").fetchone()[0]
        return phase


def batch_on_disk(path: Path) -> tuple[int, str] | None:
    with closing(sqlite3.connect(path)) as database:
        last = "SELECT number, phase FROM statesync_batch ORDER BY session DESC, number DESC LIMIT 1"
        row: tuple[int, str] | None = database.execute(last).fetchone()
        return row


def keys_pushed(gate: Gate) -> list[list[str]]:
    return [[change["key"] for change in seen.body["changes"]] for seen in gate.seen if seen.verb == "push"]


def test_killed_while_downloading(
    path: Path, gate: Gate, space: str, waiting: list[str], new_device: NewDevice
) -> None:
    gate.plan(pass_on)
    kill_at(path, gate, space, gate.hold(), batch=2)
    assert phase_on_disk(path) == "downloading"
    device = new_device("killed", gate.url)
    (session,) = device.store.sessions()
    assert (session.phase, session.reason) == (Phase.FAILED, "interrupted")
    assert session.stats.downloaded == 4
    assert [(batch.phase, batch.records) for batch in session.batches][-1] == ("aborted", 0)
    assert device.keys() == waiting[:4]
    result = device.sync(download_batch_size=4)
    assert result.stats.downloaded == 8
    assert device.keys() == waiting


def test_killed_while_uploading_before_the_hub_heard_of_it(
    path: Path, gate: Gate, space: str, there: Device, new_device: NewDevice
) -> None:
    prepare(path, gate, space, 5)
    gate.plan(pass_on)
    held = gate.hold(lambda *request: None, before_hub=True)
    kill_at(path, gate, space, held)
    assert phase_on_disk(path) == "uploading"
    device = new_device("killed", gate.url)
    (session,) = device.store.sessions()
    assert (session.phase, session.reason, session.stats.uploaded) == (Phase.FAILED, "interrupted", 2)
    assert session.batches[-1].in_doubt
    device.sync(upload_batch_size=2)
    pushes = keys_pushed(gate)
    assert pushes == [["k00100", "k00101"], ["k00102", "k00103"], ["k00102", "k00103"], ["k00104"]]
    there.sync()
    assert there.rows() == device.rows()


def test_killed_while_uploading_after_the_hub_applied_it(
    path: Path, gate: Gate, space: str, there: Device, new_device: NewDevice
) -> None:
    prepare(path, gate, space, 5)
    gate.plan(pass_on)
    kill_at(path, gate, space, gate.hold())
    there.sync()
    assert there.keys() == ["k00100", "k00101", "k00102", "k00103"]
    device = new_device("killed", gate.url)
    result = device.sync(upload_batch_size=2)
    assert result.conflicts == ()
    first, second = [seen.body["batch"] for seen in gate.seen if seen.verb == "push"][1:3]
    assert first == second
    assert there.sync().stats.downloaded == 1
    assert there.rows() == device.rows()
    assert device.operations() == {}


def test_killed_while_cancelling(
    path: Path, gate: Gate, space: str, waiting: list[str], new_device: NewDevice
) -> None:
    gate.plan(pass_on)
    kill_at(path, gate, space, gate.hold(), cancelling=True, batch=2)
    device = new_device("killed", gate.url)
    (session,) = device.store.sessions()
    assert (session.phase, session.reason) == (Phase.FAILED, "interrupted")
    assert device.keys() == waiting[:4]
    assert device.sync().stats.downloaded == 8


def test_killed_in_idle(path: Path, gate: Gate, space: str, new_device: NewDevice) -> None:
    """The child dies by its own hand between the record of the session and its start."""
    code = (
        "import os, signal, sys; from pathlib import Path; from rig.child import on_a_device, sync_here; "
        "from statesync.session.handle import Session; "
        "Session.start = lambda self: (self._store.create(), os.kill(os.getpid(), signal.SIGKILL)); "
        "sync_here(Path(sys.argv[1]), *sys.argv[2:], {})"
    )
    arguments = [sys.executable, "-c", code, str(path), gate.url, space]
    assert subprocess.run(arguments, cwd=TESTS, check=False, env=on_a_device()).returncode == -9
    assert phase_on_disk(path) == "idle"
    device = new_device("killed", gate.url)
    assert [(s.phase, s.reason) for s in device.store.sessions()] == [(Phase.FAILED, "interrupted")]
    assert gate.seen == []
    device.sync()


def test_no_record_is_fetched_twice_after_a_crash(
    path: Path, gate: Gate, space: str, waiting: list[str], new_device: NewDevice
) -> None:
    gate.plan(pass_on, pass_on)
    kill_at(path, gate, space, gate.hold(), batch=3)
    device = new_device("killed", gate.url)
    device.sync(download_batch_size=4)
    positions = [seen.body["objects"]["Airport"]["scan"].get("after", "") for seen in gate.seen]
    assert positions == ["", waiting[3], waiting[7], waiting[7]]
    assert sum(session.stats.downloaded for session in device.store.sessions()) == 12


def test_an_interrupted_session_is_ended_by_the_next_start_too(
    path: Path, gate: Gate, space: str, waiting: list[str]
) -> None:
    """Where a program opens the store without its models, nobody calls ``setup``."""
    prepare(path, gate, space, 1)
    kill_at(path, gate, space, gate.hold())
    with Store.open(path) as store, closing(HttpRemote(gate.url, space)) as remote:
        store.scope(remote).sync()
        assert [session.phase for session in store.sessions()] == [Phase.FAILED, Phase.DONE]


def test_setting_up_again_changes_no_session_that_has_ended(here: Device) -> None:
    here.sync()
    before = here.store.sessions()
    here.store.setup()
    assert here.store.sessions() == before


def test_the_journal_of_an_interrupted_session_ends_with_its_failure(
    path: Path, gate: Gate, space: str, waiting: list[str], new_device: NewDevice
) -> None:
    kill_at(path, gate, space, gate.hold())
    device = new_device("killed", gate.url)
    (session,) = device.store.sessions()
    journal = device.store.journal(session.id)
    assert [(entry.trigger, entry.target) for entry in journal][-3:] == [
        ("abort_batch", "downloading"),
        ("abort", "aborted"),
        ("fail", "failed"),
    ]
    assert [entry.number for entry in journal] == list(range(1, len(journal) + 1))
    assert journal[-1].detail["reason"] == "interrupted"


def test_a_session_that_was_interrupted_is_found_by_an_index_however_long_the_history(here: Device) -> None:
    """A start of a session looks for them, so it must not read all sessions that there ever were."""
    plan = here.execute(f"EXPLAIN QUERY PLAN {sessions.RUNNING}").fetchall()
    assert [step[-1] for step in plan] == [
        "SCAN statesync_session USING INDEX statesync_session_running",
    ]
