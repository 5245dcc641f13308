"""Damage of more or less than a page: a file that was cut off, its header, torn and exchanged pages."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rig.search import some

from statesync import Store, StoreCorrupt

from .damage import copy_world, cut, faults, make_world, overwrite, page_size, swap, tear


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.fixture
def case(world: Path, tmp_path: Path) -> Path:
    copy_world(world, tmp_path / "case")
    return tmp_path / "case"


def pages_of(path: Path, table: str, kind: str = "leaf") -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY pageno", (table, kind)
        )
        return [page for (page,) in rows]


def pages_of_the_list(path: Path) -> int:
    """How many pages a file must have for its list of tables to be whole."""
    return max(page for kind in ("leaf", "internal") for page in pages_of(path, "sqlite_schema", kind))


@pytest.mark.parametrize("more", [0, 9, 18, 26])
def test_a_file_that_was_cut_off_costs_what_was_cut_off(case: Path, more: int) -> None:
    path = case / "here.db"
    cut(path, (pages_of_the_list(path) + more) * page_size(path))
    assert faults(case) == []


def test_of_a_page_that_was_cut_no_row_is_believed(case: Path) -> None:
    path = case / "here.db"
    cut(path, pages_of(path, "note")[5] * page_size(path) - 700)
    with Store(path) as store:
        assert {gone.about for gone in store.repair()} >= {"note"}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM note WHERE instr(name, char(0))").fetchone() == (0,)


def test_a_file_that_lost_its_list_of_tables_is_left_as_it_is(case: Path) -> None:
    path = case / "here.db"
    cut(path, 10 * page_size(path))
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt), Store(path) as store:
        store.repair()
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear Ann, " * 2000)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt), Store(path) as store:
        store.repair()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("at", "size"), some([(0, 16), (16, 2), (18, 2), (20, 4), (28, 4), (32, 8), (44, 4), (56, 4)], 3)
)
def test_a_damaged_header_costs_nothing(case: Path, at: int, size: int) -> None:
    path = case / "here.db"
    overwrite(path, at, b"\x4c" * size)
    assert faults(case) == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM note").fetchone() > (400,)


def test_a_header_that_counts_too_few_pages_costs_nothing(case: Path) -> None:
    overwrite(case / "here.db", 28, (40).to_bytes(4, "big"))
    assert faults(case) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("note", "leaf", 1), ("note", "leaf", 4)),
        (("note", "internal", 0), ("note", "leaf", 3)),
        (("note", "leaf", 2), ("statesync_log_Note", "leaf", 0)),
        (("note", "leaf", 2), ("statesync_payload", "leaf", 0)),
        (("note", "leaf", -1), ("statesync_change", "leaf", 1)),
        (("statesync_log_Note", "internal", 0), ("note", "leaf", 7)),
    ],
)
def test_pages_in_each_others_places_are_put_back(
    case: Path, one: tuple[str, str, int], other: tuple[str, str, int]
) -> None:
    path = case / "here.db"
    swap(path, *(pages_of(path, name, kind)[place] for name, kind, place in (one, other)))
    assert faults(case) == []


@pytest.mark.crossed
@pytest.mark.parametrize("table", ["note", "statesync_change"])
@pytest.mark.parametrize("kept", [1024, 2048, 3072])
def test_of_a_torn_page_nothing_is_sent_that_nobody_wrote(case: Path, table: str, kept: int) -> None:
    path = case / "here.db"
    tear(path, pages_of(path, table)[1], kept)
    found = [fault for fault in faults(case) if not fault.endswith("is lost")]  # its other rows may be
    assert found == []


def test_with_every_table_of_a_record_lost_it_is_not_taken_for_deleted(case: Path) -> None:
    path = case / "here.db"
    cut(path, pages_of_the_list(path) * page_size(path))  # the table, and what waited, but not who waited
    assert faults(case) == []


def test_a_log_of_sqlite_that_was_cut_off_takes_nothing_that_was_there_before(case: Path) -> None:
    path = case / "here.db"
    holder = sqlite3.connect(path)
    holder.execute("PRAGMA wal_autocheckpoint = 0")
    holder.execute("UPDATE note SET name = 'typed last' WHERE id = 'k00399'")
    holder.commit()
    files = {name: (case / name).read_bytes() for name in ("here.db", "here.db-wal")}
    holder.close()
    for name, content in files.items():
        (case / name).write_bytes(content)
    cut(case / "here.db-wal", len(files["here.db-wal"]) // 2)
    assert faults(case) == []
