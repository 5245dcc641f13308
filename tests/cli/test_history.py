"""``sessions``, ``session``, ``pending`` and ``conflicts`` show what the database holds."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from rig.device import Device
from rig.gate import Gate, refuse

from statesync import SyncError, SyncOptions

from .shell import call, end_of, start


@pytest.fixture
def database(here: Device, tmp_path: Path) -> Path:
    return tmp_path / "here.db"


def test_a_database_without_history_says_so(database: Path) -> None:
    assert "has never been synced" in call("sessions", database).out
    assert call("pending", database).out == "nothing waits for the hub\n"
    assert call("conflicts", database).out == "there was no conflict\n"
    assert call("session", database).code == 1
    for command in ("sessions", "pending", "conflicts"):
        assert call(command, database, "--json").json() == []


def test_sessions_are_listed_with_what_they_did(here: Device, database: Path, gate: Gate) -> None:
    here.add(3)
    here.sync(upload_batch_size=2)
    gate.plan(refuse(400, "odd"))
    failed = here.scope.start_sync(SyncOptions())
    assert failed.exception() is not None
    table = call("sessions", database).out.splitlines()
    assert table[1].split()[-5:] == ["done", "3", "3", "0", table[1].split()[-1]]
    assert "failed (remote_error)" in table[2]
    assert [row["phase"] for row in call("sessions", database, "--json").json()] == ["done", "failed"]
    assert len(call("sessions", database, "--limit", 1, "--json").json()) == 1


def test_one_session_is_shown_by_the_beginning_of_its_id_or_as_the_newest(
    here: Device, database: Path
) -> None:
    here.add(1)
    here.sync()
    info = here.store.sessions()[-1]
    by_id = call("session", database, info.id[:30])
    assert by_id == call("session", database)
    assert "ended    done after" in by_id.out
    assert "1 records up, 0 down" in by_id.out
    told = call("session", database, info.id, "--json").json()
    assert told["session"]["id"] == info.id
    steps = [(step["trigger"], step["source"], step["target"]) for step in told["journal"]]
    assert steps[0] == ("start", "idle", "uploading")
    assert steps[-1] == ("finish_download", "downloading", "done")
    assert by_id.out.count("commit_batch") == sum(step[0] == "commit_batch" for step in steps) == 2


def test_an_unknown_session_is_one_line(database: Path) -> None:
    ran = call("session", database, "nonsense")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "statesync: there is no session 'nonsense'; `statesync sessions` lists them\n"


def test_pending_shows_each_net_change_and_why_it_waits(here: Device, database: Path, there: Device) -> None:
    here.add(3)
    here.sync()
    here.edit("k00000", name="twice")
    here.edit("k00000", name="three times")
    here.delete("k00001")
    here.store.defer(here.airport.get_by_id("k00000"))
    rows = [line.split() for line in call("pending", database).out.splitlines()[1:]]
    assert rows == [
        ["Airport", "k00000", "update", "2", "deferred"],
        ["Airport", "k00001", "delete", "1", "waits"],
    ]
    told = call("pending", database, "--json").json()
    assert [(row["key"], row["operation"], row["deferred"]) for row in told] == [
        ("k00000", "update", True),
        ("k00001", "delete", False),
    ]


def test_a_conflict_shows_the_fields_that_differ_on_every_side(
    here: Device, there: Device, database: Path
) -> None:
    here.add(1)
    here.sync()
    there.sync()
    there.edit("k00000", elevation=7)
    there.sync()
    here.edit("k00000", elevation=8, name="ours")
    here.sync()
    rows = [line.split() for line in call("conflicts", database).out.splitlines()]
    assert rows[0][:3] == ["1", "Airport", "k00000"]
    assert rows[1] == ["field", "before", "device", "hub", "kept"]
    assert ["name", "n0", "ours", "n0", "ours"] in rows
    assert ["elevation", "0", "8", "7", "7"] in rows
    assert not any(row[:1] == ["is_open"] for row in rows)
    (told,) = call("conflicts", database, "--json").json()
    assert (told["local"]["elevation"], told["remote"]["elevation"], told["kept"]["elevation"]) == (8, 7, 7)


def test_a_deleted_side_is_named(here: Device, there: Device, database: Path) -> None:
    here.add(1)
    here.sync()
    there.sync()
    there.delete("k00000")
    there.sync()
    here.edit("k00000", elevation=8)
    here.sync()
    assert "(deleted)" in call("conflicts", database).out


def test_a_session_that_a_crash_left_is_shown_as_interrupted(
    here: Device, there: Device, database: Path, gate: Gate, space: str
) -> None:
    """K8: the process ends while a request is under way; the next command says what became of it."""
    there.add(2)
    there.sync()
    held = gate.hold()
    crashing = start("sync", database, "--remote", gate.url, "--space", space)
    held.wait()
    (row,) = call("sessions", database, "--json").json()
    assert (row["phase"], row["reason"]) == ("downloading", None)
    crashing.kill()
    assert end_of(crashing).code == -signal.SIGKILL
    (row,) = call("sessions", database, "--json").json()
    assert (row["phase"], row["reason"]) == ("failed", "interrupted")


def test_retry_of_a_key_under_which_nothing_is_parked_says_so_and_fails(
    here: Device, gate: Gate, tmp_path: Path
) -> None:
    (key,) = here.add(1)
    gate.plan(refuse(422, "odd"))
    with pytest.raises(SyncError):
        here.sync()
    here.store.database.close()
    path = tmp_path / "here.db"
    missed = call("retry", path, "Airport", "nokey")
    assert (missed.code, missed.out) == (1, "")
    assert "nothing is parked under the key 'nokey' of Airport" in missed.err
    assert (call("retry", path, "Airport", "nokey", "--json").code, call("retry", path).code) == (1, 0)
    again = call("retry", path, "Airport", key)
    assert again.code == 1, "it was let go by the one before"
