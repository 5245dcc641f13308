"""What must hold of a device and its hub whatever happened, read from the files by plain SQL."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from statesync import Phase
from statesync.values import SessionInfo

from .field import Device, hub_rows, rows_of

FINAL = {"done", "cancelled", "failed"}


def check_journal(folder: Path) -> None:
    """A transition and its effect are one: every phase is the one that the journal's last entry led to."""
    phases = dict(rows_of(folder / "a.db", "SELECT id, phase FROM statesync_session"))
    led_to = dict(
        rows_of(
            folder / "a.db",
            "SELECT session, target FROM statesync_transition WHERE chart = 'session' ORDER BY number",
        )
    )
    assert {session: led_to.get(session, "idle") for session in phases} == phases
    batches = rows_of(folder / "a.db", "SELECT session, number, phase FROM statesync_batch")
    moves = rows_of(
        folder / "a.db",
        "SELECT session, batch, target FROM statesync_transition WHERE chart = 'batch' ORDER BY number",
    )
    reached = {(session, number): target for session, number, target in moves}
    assert {(session, number): phase for session, number, phase in batches} == reached


def check_whole_pages(folder: Path) -> None:
    """Of the hub's feed the device has everything up to its cursor, and nothing after it."""
    ((cursor,),) = rows_of(folder / "a.db", "SELECT cursor FROM statesync_cursor")
    ((client,),) = rows_of(folder / "a.db", "SELECT client FROM statesync_space")
    here = {row[0]: row[1:] for row in rows_of(folder / "a.db", "SELECT id, text, number FROM note")}
    own = {key for (key,) in rows_of(folder / "a.db", "SELECT key FROM statesync_change")}
    own |= {key for (key,) in rows_of(folder / "a.db", "SELECT key FROM statesync_log")}
    own |= {key for (key,) in rows_of(folder / "a.db", "SELECT key FROM statesync_conflict")}
    feed = rows_of(
        folder / "hub.db",
        "SELECT key, version, deleted, data ->> '$.text', data ->> '$.number' FROM record WHERE writer <> ?",
        client,
    )
    for key, version, deleted, *values in feed:
        if key in own:
            continue
        if version <= cursor:
            assert here.get(key) == (None if deleted else tuple(values)), f"{key} is missing from a page"
        else:
            assert here.get(key) != tuple(values), f"{key} is here before its page was"


def check_whole_batches(folder: Path) -> None:
    """Of an upload batch in doubt, the hub has everything that it accepted, or nothing at all."""
    in_doubt = rows_of(folder / "a.db", "SELECT wire_id, payload FROM statesync_batch WHERE doubt = 1")
    answers = dict(rows_of(folder / "hub.db", "SELECT batch, answer FROM receipt"))
    written = {version: key for key, version in rows_of(folder / "hub.db", "SELECT key, version FROM audit")}
    for wire_id, payload in in_doubt:
        keys = [change["key"] for change in json.loads(payload)]
        if wire_id in answers:
            verdicts = json.loads(answers[wire_id])["results"]
            for key, verdict in zip(keys, verdicts, strict=True):
                assert verdict["status"] != "accepted" or written[verdict["version"]] == key
        else:
            new = {change["key"] for change in json.loads(payload) if change["base"] == 0}
            assert not new & set(written.values()), "a part of a batch is on the hub"


def check_sessions(device: Device, running: dict[str, str]) -> None:
    """After the reopening every session has its end; those that ran are interrupted (K8, K11)."""
    for session in device.store.sessions():
        assert str(session.phase) in FINAL
        if running.get(session.id, "done") not in FINAL:
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


def check_applied_once(folder: Path) -> None:
    """No write was applied twice: no writer ever wrote the same content to the same record again."""
    writes = rows_of(folder / "hub.db", "SELECT key, writer, deleted, data FROM audit")
    again = [write for write, count in Counter(writes).items() if count > 1]
    assert again == []


def check_equal(folder: Path, *devices: Device) -> None:
    """Hub and devices hold the same."""
    truth = hub_rows(folder / "hub.db")
    for device in devices:
        assert device.rows() == truth
