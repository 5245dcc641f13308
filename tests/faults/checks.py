"""What must hold of a device and its hub whatever happened, read from the files by plain SQL."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter

from statesync import Phase
from statesync.store.outbox.settled import WAITING
from statesync.values import SessionInfo

from .field import Device, hub_rows

FINAL = {"done", "cancelled", "failed"}


def phases_of(found: sqlite3.Connection) -> dict[str, str]:
    """Return the phase of every session."""
    return dict(found.execute("SELECT id, phase FROM statesync_session"))


def check_journal(found: sqlite3.Connection) -> None:
    """A transition and its effect are one: every phase is the one that the journal's last entry led to."""
    moves = "SELECT session, batch, target FROM statesync_transition WHERE chart = ? ORDER BY number"
    led_to = {session: target for session, _, target in found.execute(moves, ("session",))}
    phases = phases_of(found)
    assert {session: led_to.get(session, "idle") for session in phases} == phases
    batches = found.execute("SELECT session, number, phase FROM statesync_batch")
    reached = {(session, number): target for session, number, target in found.execute(moves, ("batch",))}
    assert {(session, number): phase for session, number, phase in batches} == reached


def check_whole_pages(found: sqlite3.Connection) -> None:
    """Of the hub's feed the device has everything up to its cursor, and nothing after it."""
    ((cursor,),) = found.execute("SELECT cursor FROM statesync_cursor")
    here = {key: values for key, *values in found.execute("SELECT id, text, number FROM note")}
    feed = found.execute(
        "SELECT key, version, deleted, data ->> '$.text', data ->> '$.number' FROM record "
        "WHERE writer NOT IN (SELECT client FROM statesync_space) AND key NOT IN "
        f"(SELECT key FROM {WAITING} UNION SELECT key FROM statesync_log_Note "
        "UNION SELECT key FROM statesync_conflict)"
    )
    for key, version, deleted, *values in feed:
        if version <= cursor:
            assert here.get(key) == (None if deleted else values), f"{key} is missing from a page"
        else:
            assert here.get(key) != values, f"{key} is here before its page was"


def check_whole_batches(found: sqlite3.Connection) -> None:
    """Of an upload batch in doubt, the hub has everything that it accepted, or nothing at all."""
    in_doubt = found.execute(
        "SELECT wire_id, payload FROM statesync_batch LEFT JOIN statesync_payload USING (session, number) "
        "WHERE doubt = 1"
    ).fetchall()
    answers = dict(found.execute("SELECT batch, answer FROM receipt"))
    written = dict(found.execute("SELECT version, key FROM audit"))
    for wire_id, payload in in_doubt:
        changes = json.loads(payload)
        if wire_id in answers:
            verdicts = json.loads(answers[wire_id])["results"]
            for change, verdict in zip(changes, verdicts, strict=True):
                assert verdict["status"] != "accepted" or written[verdict["version"]] == change["key"]
        else:
            new = {change["key"] for change in changes if change["base"] == 0}
            assert not new & set(written.values()), "a part of a batch is on the hub"


def check_sessions(device: Device, before: dict[str, str]) -> None:
    """Every session has its end; those that ran when the process ended are interrupted (K8, K11)."""
    for session in device.store.sessions():
        assert str(session.phase) in FINAL
        if before.get(session.id, "done") not in FINAL:
            assert (session.phase, session.reason) == (Phase.FAILED, "interrupted")
        check_statistics(device, session)


def check_statistics(device: Device, session: SessionInfo) -> None:
    """What a session says that it did is what its journal adds up to (K4)."""
    sums: Counter[str] = Counter()
    for entry in device.store.journal(session.id):
        if entry.trigger == "commit_batch":
            sums[entry.detail["direction"]] += entry.detail["records"]
    assert (session.stats.uploaded, session.stats.downloaded) == (sums["upload"], sums["download"])
    committed = {batch.number for batch in session.batches if batch.phase == "committed"}
    assert {batch.number for batch in session.stats.batches} == committed


def check_applied_once(found: sqlite3.Connection) -> None:
    """No write was applied twice: no writer ever wrote the same content to the same record again."""
    writes = found.execute("SELECT key, writer, deleted, data, count(*) FROM audit GROUP BY 1, 2, 3, 4")
    assert [write for write in writes if write[-1] > 1] == []


def check_equal(found: sqlite3.Connection, *devices: Device) -> None:
    """Hub and devices hold the same."""
    truth = hub_rows(found)
    for device in devices:
        assert device.rows() == truth
