"""A database of an older format is brought to this one with everything that was in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from fleet import Device
from gate import Gate

from statesync import ConnectionLost, Phase, SyncOptions
from statesync.testing import Fault, FaultyRemote

_TO_FORMAT_2 = """
DROP INDEX statesync_batch_doubt;
ALTER TABLE statesync_batch ADD COLUMN payload BLOB;
CREATE INDEX statesync_batch_doubt ON statesync_batch (space) WHERE doubt = 1;
UPDATE statesync_batch SET payload = (
    SELECT payload FROM statesync_payload AS kept
    WHERE kept.session = statesync_batch.session AND kept.number = statesync_batch.number);
DROP TABLE statesync_payload;
UPDATE statesync_meta SET value = 2 WHERE key = 'format';
"""
"""Until format 2 a payload stood in its batch's row."""


def schema_of(path: Path) -> list[tuple[str, str]]:
    """Return the store's own tables and indexes."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(
            "SELECT name, sql FROM sqlite_master WHERE tbl_name LIKE 'statesync%' ORDER BY name"
        ).fetchall()


def lose_an_answer(device: Device) -> None:
    """Leave a batch of the device in doubt: the hub has it, and its answer never came."""
    remote = FaultyRemote(device.remote, rates={})
    remote.inject(Fault.LOSE_ANSWER)
    with pytest.raises(ConnectionLost):
        device.store.scope(remote).sync(SyncOptions(max_attempts=1))


def test_what_an_older_format_had_in_doubt_is_settled_by_the_next_session(
    here: Device, there: Device, gate: Gate, new_device: Callable[..., Device]
) -> None:
    path = Path(here.store.database.database)
    fresh = schema_of(path)
    here.add(3)
    here.sync()
    here.add(4, first=10)
    lose_an_answer(here)
    before = here.store.sessions()
    here.store.close()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_TO_FORMAT_2)
        database.execute("CREATE VIEW broken AS SELECT gone FROM nowhere")  # the program's own business
    assert schema_of(path) != fresh
    again = new_device("here", gate.url)
    assert schema_of(path) == fresh
    assert again.store.sessions() == before
    assert again.sync().phase is Phase.DONE
    sent, repeated = [seen.body for seen in gate.seen if seen.verb == "push"][-2:]
    assert (sent["batch"], sent["changes"]) == (repeated["batch"], repeated["changes"])
    there.sync()
    assert there.rows() == again.rows()
    assert len(there.rows()) == 7
