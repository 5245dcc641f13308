"""A database of an older format is brought to this one with everything that was in it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from rig.device import Device, as_downloaded
from rig.gate import Gate

from statesync import ConnectionLost, Phase, Store, SyncOptions
from statesync.store.schema.first import FORMAT_1
from statesync.testing import Fault, FaultyRemote

_SINCE_FORMAT_5 = """\
DROP TABLE statesync_settled;
DROP TABLE statesync_sent;
DROP TABLE statesync_index;
ALTER TABLE statesync_cursor DROP COLUMN floors;
ALTER TABLE statesync_cursor DROP COLUMN to_come;
ALTER TABLE statesync_cursor DROP COLUMN until;
ALTER TABLE statesync_cursor DROP COLUMN after;
ALTER TABLE statesync_cursor DROP COLUMN since;
ALTER TABLE statesync_cursor DROP COLUMN begun;
ALTER TABLE statesync_change DROP COLUMN since;
ALTER TABLE statesync_cursor DROP COLUMN missed_from;
ALTER TABLE statesync_change DROP COLUMN parked;
ALTER TABLE statesync_change DROP COLUMN parked_field;
ALTER TABLE statesync_change DROP COLUMN refusals;
ALTER TABLE statesync_change DROP COLUMN first_refused;
ALTER TABLE statesync_change DROP COLUMN last_refused;
ALTER TABLE statesync_change DROP COLUMN retry_at;
DROP TABLE statesync_quarantine;
DROP INDEX statesync_change_spared;
ALTER TABLE statesync_change DROP COLUMN spared;
ALTER TABLE statesync_cursor DROP COLUMN unread;
ALTER TABLE statesync_change DROP COLUMN contested;
DROP INDEX statesync_conflict_waits;
ALTER TABLE statesync_conflict DROP COLUMN waits;
DROP TABLE statesync_base;
ALTER TABLE statesync_change DROP COLUMN shared;
DROP TABLE statesync_local;
"""
"""What came with the formats after the fifth, taken back."""

_TO_FORMAT_3 = f"""
{_SINCE_FORMAT_5}DROP TRIGGER statesync_Airport_insert_before;
DROP TRIGGER statesync_Airport_insert;
DROP TRIGGER statesync_Airport_update;
DROP TRIGGER statesync_Airport_delete;
DROP TRIGGER statesync_Airport_rekey;
DROP TRIGGER statesync_Airport_rekey_before;
DROP TABLE statesync_log_Airport;
CREATE TABLE statesync_log (object TEXT NOT NULL, key TEXT NOT NULL, changed INTEGER NOT NULL, image TEXT);
CREATE TRIGGER statesync_Airport_insert AFTER INSERT ON airport
    WHEN (SELECT value FROM statesync_meta WHERE key = 'tracking')
    BEGIN INSERT INTO statesync_log VALUES ('Airport', NEW.id, 1, NULL); END;
DROP TABLE statesync_tracking;
INSERT INTO statesync_meta VALUES ('tracking', 1);
UPDATE statesync_meta SET value = 3 WHERE key = 'format';
"""
"""Until format 3 all objects had one log, of images."""

_TO_FORMAT_4 = f"""
DROP TRIGGER statesync_Airport_delete;
CREATE TRIGGER statesync_Airport_delete AFTER DELETE ON airport WHEN (SELECT is_on FROM statesync_tracking)
    BEGIN INSERT INTO statesync_log_Airport (key, changed, known) VALUES (OLD.id, 1, 1); END;
{_SINCE_FORMAT_5}UPDATE statesync_meta SET value = 4 WHERE key = 'format';
"""
"""Until format 4 a delete was logged as any write."""

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


def settings_of(path: Path) -> list[tuple[object, ...]]:
    """Return what the store notes about itself."""
    with closing(sqlite3.connect(path)) as database:
        noted = database.execute("SELECT key, value FROM statesync_meta WHERE key <> 'schema'").fetchall()
        return sorted(noted) + database.execute("SELECT * FROM statesync_tracking").fetchall()


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
        database.executescript(_TO_FORMAT_3 + _TO_FORMAT_2)
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


def test_what_an_older_format_had_logged_is_still_pending_and_can_be_taken_back(
    here: Device, new_device: Callable[..., Device]
) -> None:
    path = Path(here.store.database.database)
    fresh = schema_of(path)
    with as_downloaded(here.store):
        here.add(4)
        here.edit("k00000", name="before", elevation=7, latitude=0.1, plan=b"\x00\xff")
    before = here.rows()
    here.store.close()
    image = '{"name": "%s", "elevation": %s, "latitude": %s, "is_open": 1, "plan": %s}'
    values = [
        ("k00000", 1, image % ("before", "7", '["0.1"]', '[null, "00ff"]')),
        ("k00001", 1, image % ("n1", "1", "null", "null")),
        ("k00002", 0, image % ("n2", "2", "null", "null")),
    ]
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE airport SET name = 'after', plan = NULL, latitude = 3 WHERE id = 'k00000'")
        database.execute("DELETE FROM airport WHERE id = 'k00001'")
        database.executescript(_TO_FORMAT_3)
        database.execute("INSERT INTO airport (id, name, is_open) VALUES ('new', 'new', 1)")
        database.executemany("INSERT INTO statesync_log VALUES ('Airport', ?, ?, ?)", values)
    again = new_device("here")
    assert schema_of(path) == fresh
    assert again.operations() == {"k00000": "update", "k00001": "delete", "new": "insert"}
    again.edit("k00003", name="written later")
    assert again.operations()["k00003"] == "update"
    again.store.rollback()
    assert again.rows() == before


def test_what_an_older_format_had_logged_as_written_and_is_gone_was_deleted(
    here: Device, new_device: Callable[..., Device]
) -> None:
    """Until format 4 the log did not say that a record was deleted."""
    path = Path(here.store.database.database)
    fresh = schema_of(path)
    with as_downloaded(here.store):
        here.add(4)
    here.store.close()
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_TO_FORMAT_4)
        database.execute("UPDATE airport SET name = 'after' WHERE id = 'k00000'")
        database.execute("UPDATE airport SET name = 'after' WHERE id = 'k00001'")
        database.execute("DELETE FROM airport WHERE id = 'k00001'")
        database.execute("INSERT OR IGNORE INTO airport (id, name, is_open) VALUES ('k00002', 'x', 1)")
    again = new_device("here")
    assert schema_of(path) == fresh
    assert again.operations() == {"k00000": "update", "k00001": "delete"}
    again.delete("k00003")
    again.edit("k00002", name="later")
    with as_downloaded(again.store):
        again.delete("k00002")
    assert again.operations() == {
        "k00000": "update",
        "k00001": "delete",
        "k00003": "delete",
        "k00002": "update",
    }


def test_a_table_that_was_dropped_keeps_no_older_store_from_being_opened(
    here: Device, new_device: Callable[..., Device]
) -> None:
    path = Path(here.store.database.database)
    here.store.close()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_TO_FORMAT_3 + "DROP TABLE airport;")
    again = new_device("here")
    again.add(1)
    assert again.operations() == {"k00000": "insert"}


def test_programs_that_set_up_one_new_file_at_the_same_time_all_succeed(tmp_path: Path) -> None:
    """Each must find what another has made while it waited for the lock."""
    for attempt in range(5):
        path = tmp_path / f"{attempt}.db"
        stores = [Store(path, busy_timeout=60) for _ in range(4)]
        together = threading.Barrier(len(stores))
        with ThreadPoolExecutor(len(stores)) as pool:
            for done in [pool.submit(set_up_together, store, together) for store in stores]:
                done.result()


def set_up_together(store: Store, together: threading.Barrier) -> None:
    together.wait()
    with store:
        store.setup()
        assert store.examine() == []


def test_a_new_file_is_as_a_file_of_the_first_format_becomes(tmp_path: Path) -> None:
    """A new file is given the newest tables at once; one of the first format comes to them step by step."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with closing(sqlite3.connect(old)) as database:
        database.executescript(FORMAT_1)
        database.execute("UPDATE statesync_meta SET value = 1 WHERE key = 'format'")
        database.commit()
    for path in (old, new):
        with closing(Store(path)) as store:
            store.setup()
    assert len(schema_of(new)) > 20
    assert schema_of(old) == schema_of(new)
    assert settings_of(old) == settings_of(new)


def test_a_programs_own_numbers_go_on_where_its_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE invoice (number INTEGER PRIMARY KEY AUTOINCREMENT)")
        database.execute("INSERT INTO invoice VALUES (41)")
        database.execute("DELETE FROM invoice")
        database.commit()
    with closing(Store(path)) as store:
        store.setup()
    with closing(sqlite3.connect(path)) as database:
        made = database.execute("INSERT INTO invoice DEFAULT VALUES RETURNING number").fetchone()
    assert made == (42,)
