"""Each table of the store has one owner: a room that alone names it in SQL. Read from the source."""

from __future__ import annotations

import ast
import re
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from peewee import TextField

import statesync
from statesync import Store

ROOT = Path(statesync.__file__).parent

OWNERS = {
    "statesync_meta": "store.schema",
    "statesync_object": "store.tracking.registry",
    "statesync_tracking": "store.tracking.triggers",
    "statesync_log": "store.tracking.log",
    "statesync_change": "store.outbox",
    "statesync_sent": "store.outbox",
    "statesync_settled": "store.outbox",
    "statesync_local": "store.local_only",
    "statesync_space": "store.spaces",
    "statesync_cursor": "store.cursors",
    "statesync_seen": "store.cursors",
    "statesync_session": "store.journal",
    "statesync_batch": "store.journal",
    "statesync_transition": "store.journal",
    "statesync_payload": "store.journal",
    "statesync_conflict": "store.conflict_log",
    "statesync_base": "store.bases",
    "statesync_quarantine": "store.quarantine",
    "statesync_index": "store.indexes",
    "statesync_touched": "store.download.orphans",
    "statesync_news": "store.news.taps",
}
"""The room of each table; a package is a room with all its modules. A log has its object's name behind it."""

MIGRATIONS = {"store.schema.first", "store.schema.formats"}
"""They make every table, and lead old ones to new ones."""

WITNESSES = {"testing.rest", "testing.sites", "demo.stage"}
"""They look into the file from outside, past the store's code, by a plain connection; they only read."""

FATE = {"testing.moves.damage", "testing.moves.keys", "testing.moves.sql"}
"""What happens to a file in the kit's world: other programs, disks. They know no room of the store's."""

TEMPORARY = {"statesync_touched", "statesync_news"}

TABLE = re.compile(r"statesync_[a-z]+")


def modules() -> dict[str, str]:
    """Return the source of every module by its name below the package."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
        for path in ROOT.rglob("*.py")
    }


MODULES = modules()


@cache
def literals(source: str) -> list[str]:
    """Return the strings of a module, those within f-strings too; docstrings are none."""
    nodes = [*ast.walk(ast.parse(source))]
    told = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in told]
    return [node.value for node in constants if isinstance(node.value, str)]


def named_tables(source: str) -> set[str]:
    return {name for text in literals(source) for name in TABLE.findall(text)} & OWNERS.keys()


def trespasses(module: str, source: str) -> set[str]:
    """Return the tables that a module names and does not own."""
    if module in MIGRATIONS:
        return set()
    return {name for name in named_tables(source) if not f"{module}.".startswith(f"{OWNERS[name]}.")}


def test_every_table_of_a_store_has_an_owner(tmp_path: Path) -> None:
    store = Store(tmp_path / "fresh.db")

    class Note(store.Model):  # type: ignore[name-defined, misc]
        text = TextField()

    store.setup()
    store.close()
    with closing(sqlite3.connect(tmp_path / "fresh.db")) as file:
        rows = file.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'statesync%'")
        found = {name for (name,) in rows}
    assert found - {"statesync_log_Note"} == OWNERS.keys() - {
        "statesync_log",
        "statesync_touched",
        "statesync_news",
    }
    assert "statesync_log_Note" in found


def test_a_table_is_named_in_the_room_of_its_owner_alone() -> None:
    bound = MODULES.keys() - WITNESSES - FATE
    found = {module: trespasses(module, MODULES[module]) for module in bound}
    assert {module: tables for module, tables in found.items() if tables} == {}


def test_every_owner_is_there_and_names_its_table() -> None:
    named = {(module, table) for module, source in MODULES.items() for table in named_tables(source)}
    owned = {table for module, table in named if f"{module}.".startswith(f"{OWNERS[table]}.")}
    assert owned == OWNERS.keys()


def test_the_documentation_names_the_same_owners() -> None:
    page = (Path(__file__).parents[1] / "docs" / "internals.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(statesync_[a-z]+)` \| `([a-z_.]+)` \|", page, re.MULTILINE)
    assert dict(rows) == OWNERS


@pytest.mark.parametrize(
    "code",
    [
        'connection.execute("DELETE FROM statesync_change")',
        'connection.execute(f"SELECT {columns} FROM statesync_change WHERE position > ?")',
        'table = "statesync_change"',
    ],
)
def test_a_foreign_room_that_names_a_table_is_noticed(code: str) -> None:
    assert trespasses("store.spaces", code) == {"statesync_change"}
    assert trespasses("store.outbox.changes", code) == set()
    assert trespasses("store.outboxes", code) == {"statesync_change"}


def test_a_table_may_be_spoken_of_in_a_docstring() -> None:
    assert trespasses("store.spaces", '"""Not the owner of statesync_change."""') == set()


@pytest.mark.parametrize("module", sorted(WITNESSES))
def test_who_looks_from_outside_only_reads(module: str) -> None:
    about_tables = [text for text in literals(MODULES[module]) if TABLE.search(text)]
    statements = [text for text in about_tables if " " in text]
    assert statements
    assert [text for text in statements if not text.startswith(("SELECT ", "WITH "))] == []


READS_THE_OUTBOX = re.compile(r"(?<!DELETE )\b(FROM|JOIN) statesync_change\b|INTO statesync_change\b")
"""A change that is settled counts for nothing, so who reads has ``WAITING``, and who adds to it ``into``."""


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("store.outbox.")))
def test_who_reads_the_outbox_or_adds_to_it_leaves_what_is_settled_to_its_room(module: str) -> None:
    if module != "store.outbox.settled":
        assert [text for text in literals(MODULES[module]) if READS_THE_OUTBOX.search(text)] == []


@pytest.mark.parametrize(
    "code",
    [
        'sql = f"SELECT {columns} FROM statesync_change WHERE position > ?"',
        'sql = "SELECT 1 FROM other LEFT JOIN statesync_change AS change"',
        'sql = "INSERT INTO statesync_change (key) VALUES (?)"',
    ],
)
def test_a_statement_that_forgets_what_is_settled_is_noticed(code: str) -> None:
    assert any(map(READS_THE_OUTBOX.search, literals(code)))
    assert not any(
        map(READS_THE_OUTBOX.search, literals('sql = "DELETE FROM statesync_change WHERE key = ?"'))
    )


FINALS = re.compile(r"'(done|cancelled|failed|committed|aborted)'")


def test_final_phases_are_the_charts_not_literals_of_sql() -> None:
    bound = {name for name in MODULES if name.startswith("store.")} - MIGRATIONS  # a migration is history
    assert bound
    found = {name: [text for text in literals(MODULES[name]) if FINALS.search(text)] for name in bound}
    assert {name: texts for name, texts in found.items() if texts} == {}
