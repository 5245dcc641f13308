"""What must hold of a device whenever no session runs, and of a world once everybody has synced."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

from statesync.conflicts import Record
from statesync.lifecycle import Phase
from statesync.store.outbox import preview
from statesync.store.outbox.fold import fold
from statesync.store.tracking import triggers
from statesync.testing.sites import WorldDevice, WorldHub
from statesync.values import SessionInfo

_NEWEST = 4
"""How many sessions are looked at; those before have been, after the steps that made them."""
_ENDED = {Phase.DONE, Phase.CANCELLED, Phase.FAILED}


def check_at_rest(device: WorldDevice) -> None:
    """Hold a device to K4, K8, K9 and to rule 2: a transition is a transaction."""
    with device.looking() as found:
        assert found.execute("PRAGMA quick_check").fetchall() == [("ok",)], f"{device.name} is damaged"
        assert triggers.is_on(found), f"{device.name} sees no writes"
        staged = found.execute(
            "SELECT count(*) FROM statesync_payload LEFT JOIN statesync_batch USING (session, number) "
            "WHERE doubt IS NOT 1"
        ).fetchone()
        assert staged == (0,), f"{device.name} keeps a payload of a batch that is settled"
        settled = found.execute("SELECT first, last FROM statesync_settled").fetchall()
        assert settled == [], f"{device.name} keeps changes that the hub has taken: {settled}"
        twice = found.execute(
            "SELECT name FROM statesync_index JOIN main.sqlite_master USING (name) WHERE type = 'index' "
            "AND sqlite_master.sql = statesync_index.sql"
        ).fetchall()
        assert twice == [], f"{device.name} has an index that waits to be built: {twice}"
    check_pending(device)
    for session in device.store.sessions(_NEWEST):
        assert session.phase in _ENDED, f"{device.name} has a session without an end: {session}"
        check_session(device, session)


def check_pending(device: WorldDevice) -> None:
    """Hold ``pending()`` to what a fold makes of the log, in a copy of the file; it does without one."""
    said = device.store.pending()
    with closing(sqlite3.connect(device.path)) as there, closing(sqlite3.connect(":memory:")) as copy:
        there.backup(copy)
        objects = device.store._in_order(copy, device.store.objects)
        fold(copy, objects)
        made = preview.pending(copy, objects)
    assert said == made, f"{device.name} says that {said} waits, and a fold makes {made} of it"


def check_session(device: WorldDevice, session: SessionInfo) -> None:
    """Hold a session's phase and statistics to its journal."""
    sums: Counter[str] = Counter()
    phase: str = Phase.IDLE
    for entry in device.store.journal(session.id):
        if entry.chart == "session":
            assert entry.source == phase, f"the journal of {session.id} has a gap before {entry}"
            phase = entry.target
        if entry.trigger == "commit_batch":
            sums[entry.detail["direction"]] += entry.detail["records"]
    assert phase == session.phase, f"the journal of {session.id} ends in {phase}, not in {session.phase}"
    assert (sums["upload"], sums["download"]) == (session.stats.uploaded, session.stats.downloaded)


def check_feed(device: WorldDevice, hub: WorldHub) -> None:
    """Hold a device to whole pages: up to its cursor it has what others wrote and its filter shows.

    Amid a scan it has that up to where the scan began, of the keys that the scan has come past. Records that
    were changed on it are left out, and those in quarantine: see ``check_held``.
    """
    with device.looking() as found:
        client = found.execute("SELECT client FROM statesync_space").fetchone()
        rows = found.execute(
            "SELECT object, iif(rereading IS NULL, cursor, 0), since, after FROM statesync_cursor"
        ).fetchall()
    if client is None:
        return
    read = {name: (cursor, since, after) for name, cursor, since, after in rows}
    records, hidden = device.records(), hub.hidden(device.filters())
    aside = device.set_aside() | device.held().keys()
    for name, key, version, text in hub.foreign(client[0]):
        cursor, since, after = read.get(name, (0, 0, ""))
        is_read = version <= (since if since and key <= after else cursor)
        if name in device.objects and is_read and (name, key) not in aside:
            expected = None
            if text is not None and (name, key) not in hidden:
                expected = device.objects[name].wire.read(text.encode())
            assert is_as(records.get((name, key)), expected), (
                f"{device.name} has not what its cursor says: {name} {key}"
            )


def check_held(device: WorldDevice, hub: WorldHub) -> None:
    """Hold a device to its quarantine: what waits is what the hub has, as far as the device has read.

    What a rollback has put there has the version up to which the device had read. Of what was deleted, and
    forgotten, the hub knows nothing: it goes with the next read.
    """
    with device.looking() as found:
        cursors = dict(found.execute("SELECT object, cursor FROM statesync_cursor WHERE rereading IS NULL"))
        read = dict(found.execute("SELECT object, max(cursor, reread_from) FROM statesync_cursor"))
    versions, held = hub.versions(), device.held()
    for (name, key), (version, record) in held.items():
        if (name, key) not in versions:
            continue
        newest, text = versions[name, key]
        assert version <= max(newest, read.get(name, 0)), (
            f"{device.name} holds {name} {key} in a version that the hub never had"
        )
        if newest <= cursors.get(name, 0):
            there = None if text is None else json.loads(text)
            assert version >= newest, f"{device.name} holds an older {name} {key}"
            assert record == there, f"{device.name} holds another {name} {key}"


def check_placed(device: WorldDevice, hub: WorldHub) -> None:
    """Hold a device that has synced to Q1: what does not wait is as the hub has it."""
    here, there = device.records(), hub.records(device.objects)
    waiting = device.set_aside() | device.held().keys()
    differ = {place for place in here.keys() | there.keys() if not is_as(here.get(place), there.get(place))}
    assert differ <= waiting, f"{device.name} lacks what neither waits nor is there: {differ - waiting}"


def check_converged(devices: Sequence[WorldDevice], hub: WorldHub) -> None:
    """Hold a world in which everybody has synced to one truth.

    What a device's filter hides it may have all the same: what it wrote itself does not come back. What is
    local only is the device's own business.
    """
    for device in devices:
        with device.looking() as found:
            unbuilt = found.execute("SELECT name FROM statesync_index").fetchall()
        assert unbuilt == [], f"{device.name} has read everything, and lacks indexes: {unbuilt}"
        waiting = device.store.pending()
        assert waiting == [], f"{device.name} has changes that did not go up: {waiting}"
        hidden = hub.hidden(device.filters())
        here, there = device.records(), hub.records(device.objects)
        for place in hidden | device.local_keys() | device.once_local:
            here.pop(place, None)
            there.pop(place, None)
        differ = {
            place for place in here.keys() | there.keys() if not is_as(here.get(place), there.get(place))
        }
        assert not differ, f"{device.name} and the hub differ in {differ}"


def is_as(here: Record | None, there: Record | None) -> bool:
    """Tell whether a record is as another one, in all that the other one has."""
    if here is None or there is None:
        return here is there
    return all(here.get(column) == value for column, value in there.items() if column in here)
