"""The mended file has all that the damaged one had, but for the rows that cannot be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from peewee import TextField

from statesync import Store, StoreError
from statesync.cli.care import doctor
from statesync.complaints import Repair

from .damage import damage

TABLES = """
CREATE TABLE shop (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, price REAL,
    doubled REAL AS (price * 2) VIRTUAL, tripled REAL AS (price * 3) STORED
);
CREATE TABLE place (name TEXT, number INTEGER, about, PRIMARY KEY (number, name)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(body);
CREATE VIEW cheap AS SELECT name FROM shop WHERE price < 5;
CREATE TABLE audit (said TEXT);
CREATE TRIGGER noted AFTER DELETE ON shop BEGIN INSERT INTO audit VALUES (OLD.name); END;
CREATE INDEX some ON shop (name) WHERE price > 3;
CREATE INDEX long ON shop (length(name));
"""


@contextmanager
def store_with(path: Path, script: str = "", **pragmas: int) -> Iterator[tuple[Store, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name} = {value}")
        connection.executescript(script)
    store = Store(path)

    class Note(store.Model):  # type: ignore[name-defined, misc]
        text = TextField()

    with store:
        store.setup()
        yield store, Note


def fill(connection: sqlite3.Connection) -> None:
    with connection:
        for number in range(400):
            connection.execute("INSERT INTO shop (name, price) VALUES (?, ?)", (f"shop {number}", number / 7))
            connection.execute(
                "INSERT INTO place VALUES (?, ?, ?)", (f"at {number}", number % 9, b"\x00\xff")
            )
            connection.execute("INSERT INTO words VALUES (?)", (f"word{number} some more text",))
        connection.execute("DELETE FROM shop WHERE id = 400")
        connection.execute("INSERT INTO audit VALUES (CAST(x'ff6f6b' AS TEXT))")


def contents(path: Path) -> dict[str, list[Any]]:
    """Return all rows of the program's tables, to the byte."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        return {
            sql: sorted(connection.execute(sql).fetchall(), key=repr)
            for sql in (
                "SELECT rowid, *, doubled, tripled FROM shop",
                "SELECT * FROM place",
                "SELECT rowid, body FROM words",
                "SELECT rowid FROM words WHERE words MATCH 'word77'",
                "SELECT * FROM cheap",
                "SELECT rowid, said, typeof(said) FROM audit",
                "SELECT name, seq FROM sqlite_sequence WHERE name = 'shop'",
                "SELECT type, name, tbl_name, sql FROM sqlite_schema",
            )
        }


def pragmas_of(path: Path) -> dict[str, int]:
    names = ("user_version", "application_id", "auto_vacuum", "page_size", "journal_mode", "encoding")
    with closing(sqlite3.connect(path)) as connection:
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


def page_of(path: Path, table: str, place: int = 1) -> int:
    """Return a leaf of a table; the log is written back before."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        leaves = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno"
        return int(connection.execute(leaves, (table,)).fetchall()[place][0])


@pytest.mark.parametrize("vacuum", [0, 1, 2])
def test_what_is_not_damaged_is_in_the_copy_to_the_byte(tmp_path: Path, vacuum: int) -> None:
    path = tmp_path / "shop.db"
    settings = {"page_size": 1024, "auto_vacuum": vacuum, "user_version": 7, "application_id": 4711}
    with store_with(path, TABLES, **settings) as (_, note):
        for number in range(200):
            note.create(id=f"k{number}", text="x" * 50)
    with closing(sqlite3.connect(path)) as connection:
        fill(connection)
    page = page_of(path, "note")
    before, pragmas = contents(path), pragmas_of(path)
    assert pragmas["auto_vacuum"] == vacuum
    damage(path, page, "noise")
    with Store(path) as store:
        (gone,) = store.repair()
    assert gone.about == "note"
    assert contents(path) == before
    assert pragmas_of(path) == pragmas
    with Store.open(path) as store:
        assert store.examine() == []


@pytest.mark.parametrize("table", ["shop", "place"])
def test_of_a_damaged_table_every_other_row_is_in_the_copy(tmp_path: Path, table: str) -> None:
    path = tmp_path / "shop.db"
    with store_with(path, TABLES, page_size=1024):
        pass
    with closing(sqlite3.connect(path)) as connection:
        fill(connection)
        before = set(connection.execute(f"SELECT * FROM {table}"))
    page = page_of(path, table, 3)
    with closing(sqlite3.connect(path)) as connection:
        (cells,) = connection.execute("SELECT ncell FROM dbstat WHERE pageno = ?", (page,)).fetchone()
    damage(path, page, "noise")
    with Store(path) as store:
        store.repair()
    with closing(sqlite3.connect(path)) as connection:
        after = set(connection.execute(f"SELECT * FROM {table}"))
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.execute("INSERT INTO shop (name) VALUES ('new')")
        assert connection.execute("SELECT max(id) FROM shop").fetchone() == (401,)
    assert after < before
    assert len(after) == len(before) - cells


def test_a_lost_counter_goes_on_behind_the_highest_key(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with store_with(path, TABLES):
        pass
    with closing(sqlite3.connect(path)) as connection:
        fill(connection)
    damage(path, page_of(path, "sqlite_sequence", 0), "noise")
    with Store(path) as store:
        store.repair()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'shop'").fetchone() == (399,)


def test_a_full_text_index_that_is_damaged_is_made_anew_from_its_texts(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with store_with(path, TABLES, page_size=1024):
        pass
    with closing(sqlite3.connect(path)) as connection:
        fill(connection)
    damage(path, page_of(path, "words_data", -1), "noise")
    with Store(path) as store:
        store.repair()
    with closing(sqlite3.connect(path)) as connection:
        for number in (5, 77, 398):
            found = connection.execute("SELECT body FROM words WHERE words MATCH ?", (f"word{number}",))
            assert found.fetchall() == [(f"word{number} some more text",)]


# -- what only the program knows --------------------------------------------------------------------------

COLLATED = """
CREATE TABLE person (name TEXT COLLATE swedish UNIQUE);
CREATE INDEX loud ON person (shout(name));
"""


def register(database: Any) -> None:
    database.register_collation(lambda one, other: (one > other) - (one < other), "swedish")
    database.register_function(str.upper, "shout", 1, deterministic=True)


@pytest.fixture
def collated(tmp_path: Path) -> Path:
    path = tmp_path / "people.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.create_collation("swedish", lambda one, other: (one > other) - (one < other))
        connection.create_function("shout", 1, str.upper, deterministic=True)
        connection.executescript(COLLATED)
        connection.executemany("INSERT INTO person VALUES (?)", [(f"p{number}",) for number in range(300)])
        connection.commit()
    store = Store(path)
    register(store.database)

    class Note(store.Model):  # type: ignore[name-defined, misc]
        text = TextField()

    with store:
        store.setup()
        for number in range(300):
            Note.create(id=f"k{number}", text="x" * 50)
    return path


def test_a_collation_or_function_that_only_the_program_knows_is_no_damage(collated: Path) -> None:
    before = collated.read_bytes()
    with Store.open(collated) as store:
        complaints = store.examine()
    assert [complaint.repair for complaint in complaints] == [None]
    assert "the program that uses it brings" in complaints[0].message
    told = CliRunner().invoke(doctor, [str(collated), "--repair"])
    assert told.exit_code == 1
    assert "swedish" in told.output or "shout" in told.output
    assert collated.read_bytes() == before


def test_a_damaged_file_that_needs_the_program_is_left_as_it_is_and_said_so(collated: Path) -> None:
    damage(collated, page_of(collated, "note"), "noise")
    before = collated.read_bytes()
    with (
        Store(collated) as store,
        pytest.raises(StoreError, match=r"(no such|unknown) (collation|function).*repair\(\)"),
    ):
        store.repair()
    assert collated.read_bytes() == before
    assert [path.name for path in collated.parent.iterdir() if "salvage" in path.name] == []


def test_the_program_repairs_with_its_own_collations(collated: Path) -> None:
    damage(collated, page_of(collated, "note"), "noise")
    with Store(collated) as store:
        register(store.database)
        assert [complaint.repair for complaint in store.repair()] == [None]
        database: Any = store.database
        assert database.execute_sql("SELECT count(*) FROM person").fetchone() == (300,)
        assert database.execute_sql("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_table_whose_name_is_written_in_another_case_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "case.db"
    with store_with(path, "CREATE TABLE NOTE (id TEXT PRIMARY KEY, text TEXT NOT NULL);") as (store, note):
        for number in range(300):
            note.create(id=f"k{number}", text="x" * 50)
        assert store.examine() == []
    damage(path, page_of(path, "NOTE"), "noise")
    with store_with(path) as (store, note):
        (gone,) = store.repair()
        assert note.select().count() == 300 - int(gone.message.split()[0])
        assert store.examine() == []


@pytest.mark.parametrize("script", ["PRAGMA ignore_check_constraints = 1; INSERT INTO odd VALUES (9, 1)"])
def test_values_that_break_a_constraint_are_no_damage(tmp_path: Path, script: str) -> None:
    path = tmp_path / "odd.db"
    with store_with(path, f"CREATE TABLE odd (a CHECK (a < 5), b); {script};") as (store, _):
        assert store.examine() == []


def test_the_doctor_calls_only_what_sqlite_calls_so_damage(tmp_path: Path) -> None:
    path = tmp_path / "plain.db"
    with store_with(path) as (_, note):
        for number in range(300):
            note.create(id=f"k{number}", text="x" * 50)
    damage(path, page_of(path, "note"), "noise")
    with Store.open(path) as store:
        assert [complaint.repair for complaint in store.examine()] == [Repair.SALVAGE]
