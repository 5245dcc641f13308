"""Which tables get the triggers that see writes within writes: others cost no more than ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from rig.device import Device

from statesync.store.tracking.tables.nesting import may_nest

TABLES = """
CREATE TABLE t (id TEXT PRIMARY KEY, up TEXT, n INTEGER);
CREATE TABLE other (id TEXT PRIMARY KEY, n INTEGER);
CREATE VIEW seen AS SELECT * FROM t;
"""
WRITES_T = "BEGIN UPDATE t SET n = 1; END;"
CHILD = "CREATE TABLE child (id TEXT PRIMARY KEY, t TEXT REFERENCES t (id) {});"


@pytest.fixture
def file() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript(TABLES)
        yield made


@pytest.mark.parametrize(
    "made",
    [
        f"CREATE TRIGGER own AFTER UPDATE ON t {WRITES_T}",
        f"CREATE TRIGGER own BEFORE DELETE ON T {WRITES_T}",
        "CREATE TRIGGER own AFTER INSERT ON t BEGIN UPDATE other SET n = 1; END;",
        "DROP TABLE t; CREATE TABLE t (id TEXT PRIMARY KEY, up TEXT REFERENCES T ON UPDATE CASCADE);",
        "DROP TABLE t; CREATE TABLE t (id TEXT PRIMARY KEY, up TEXT REFERENCES t ON DELETE SET NULL);",
        f"{CHILD.format('ON DELETE CASCADE')} CREATE TRIGGER own AFTER DELETE ON child {WRITES_T}",
        f"{CHILD.format('ON UPDATE SET DEFAULT')} CREATE TRIGGER own AFTER UPDATE ON child {WRITES_T}",
        f"{CHILD.format('ON DELETE CASCADE')} "
        "CREATE TABLE grandchild (id, c REFERENCES child ON DELETE SET NULL); "
        f"CREATE TRIGGER own AFTER UPDATE ON grandchild {WRITES_T}",
        "DROP TABLE t; CREATE TABLE t (id TEXT PRIMARY KEY, c TEXT REFERENCES child ON UPDATE CASCADE);"
        + CHILD.format("ON UPDATE CASCADE"),
    ],
)
def test_a_table_whose_writes_may_come_back_to_it_has_writes_within_writes(
    file: sqlite3.Connection, made: str
) -> None:
    file.executescript(made)
    assert may_nest(file, "t")


@pytest.mark.parametrize(
    "made",
    [
        "",
        f"CREATE TRIGGER statesync_T_update AFTER UPDATE ON t {WRITES_T}",
        f"CREATE TRIGGER own AFTER UPDATE ON other {WRITES_T}",
        f"CREATE TRIGGER own INSTEAD OF UPDATE ON seen {WRITES_T}",
        CHILD.format(""),
        CHILD.format("ON DELETE RESTRICT ON UPDATE NO ACTION"),
        CHILD.format("ON DELETE CASCADE"),
        f"{CHILD.format('')} CREATE TRIGGER own AFTER DELETE ON child {WRITES_T}",
        "DROP TABLE t; CREATE TABLE t (id TEXT PRIMARY KEY, up TEXT REFERENCES t);",
        "DROP TABLE t; CREATE TABLE t (id TEXT PRIMARY KEY, up TEXT REFERENCES other ON DELETE CASCADE); "
        f"CREATE TRIGGER own AFTER UPDATE ON other {WRITES_T}",
    ],
)
def test_a_table_whose_writes_come_back_to_it_by_nothing_has_none(
    file: sqlite3.Connection, made: str
) -> None:
    file.executescript(made)
    assert not may_nest(file, "t")


def kinds(here: Device) -> set[str]:
    rows = here.execute("SELECT name FROM sqlite_master WHERE name LIKE 'statesync_Airport%'").fetchall()
    return {name.removeprefix("statesync_Airport_") for (name,) in rows}


PLAIN = {"insert_before", "insert", "update", "delete", "rekey", "rekey_before"}


def test_a_table_gets_what_it_needs_when_its_triggers_come_and_go(here: Device) -> None:
    assert kinds(here) == PLAIN
    here.execute("CREATE TRIGGER own AFTER UPDATE ON airport BEGIN SELECT 1; END")
    here.sync()
    assert kinds(here) == PLAIN | {"delete_before", "update_before"}
    here.execute("DROP TRIGGER own")
    here.store.setup()
    assert kinds(here) == PLAIN


def test_the_doctor_misses_a_trigger_of_either_kind(here: Device) -> None:
    assert here.store.examine() == []
    here.execute("CREATE TRIGGER own AFTER UPDATE ON airport BEGIN SELECT 1; END")
    here.store.setup()
    assert here.store.examine() == []
    here.execute("DROP TRIGGER statesync_Airport_delete_before")
    (complaint,) = here.store.examine()
    assert "1 of its triggers" in str(complaint)
    here.store.repair()
    assert here.store.examine() == []
    assert kinds(here) == PLAIN | {"delete_before", "update_before"}
