"""One damaged page, whichever it is, costs no edit that is still in the file, and deletes nothing.

For every page and more kinds of damage: ``PYTHONPATH=tests python -m store.real.repair.search``.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from peewee import TextField
from rig.search import some

from statesync import Store, StoreCorrupt
from statesync.cli.care import doctor
from statesync.complaints import Repair

from .damage import copy_world, damage, faults, make_world, page_count

DATA = {
    "note",
    "statesync_log_Note",
    "statesync_change",
    "sqlite_autoindex_statesync_change_1",
    "statesync_payload",
}
MANY = 80
"""More pages than the device's file has."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    assert page_count(folder / "here.db") <= MANY
    return folder


def lists_tables(world: Path, page: int) -> bool:
    """Tell whether a page has the list of tables: without it nobody knows what the others are."""
    with closing(sqlite3.connect(world / "here.db")) as connection:
        found = connection.execute(
            "SELECT 1 FROM dbstat WHERE name = 'sqlite_schema' AND pageno = ?", (page,)
        )
        return found.fetchone() is not None


def is_seen_by_sqlite(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    except sqlite3.DatabaseError:
        return True


def repaired(world: Path, folder: Path, page: int, kind: str) -> list[str]:
    """Damage a page, repair, and say what is wrong then; a file that cannot be mended stays as it is."""
    copy_world(world, folder)
    path = folder / "here.db"
    damage(path, page, kind)
    if not is_seen_by_sqlite(path):
        return []
    if not lists_tables(world, page):
        return faults(folder)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt), Store(path) as store:
        store.repair()
    assert path.read_bytes() == before
    return []


def one_page_a_kind(world: Path, chance: int) -> list[int]:
    """Return a page of each of the tables that hold people's data, inner and leaf, and a few of the rest."""
    with closing(sqlite3.connect(world / "here.db")) as connection:
        rows = connection.execute("SELECT name, pagetype, pageno FROM dbstat ORDER BY pageno").fetchall()
    kinds: dict[tuple[str, str], list[int]] = {}
    for name, kind, page in rows:
        kinds.setdefault((name, kind), []).append(page)
    chosen = random.Random(chance)
    data = [chosen.choice(pages) for (name, _), pages in kinds.items() if name in DATA]
    rest = [pages[0] for (name, _), pages in kinds.items() if name not in DATA]
    return sorted([*data, *chosen.sample(rest, 4)])


def test_no_edit_is_lost_with_any_page(world: Path, tmp_path: Path) -> None:
    """Some pages of the file in the ordinary run, and all of them in a longer one."""
    wrong = {}
    for page in some(range(1, page_count(world / "here.db") + 1), 8):
        found = repaired(world, tmp_path / f"{page}", page, "noise")
        if found:
            wrong[page] = found
    assert wrong == {}


@pytest.mark.parametrize("kind", some(["zeros", "2", "6", "25", "51"], 5))
def test_no_edit_is_lost_with_a_page_that_was_zeroed_or_is_another(
    world: Path, tmp_path: Path, kind: str
) -> None:
    wrong = {}
    for page in one_page_a_kind(world, int(kind) if kind.isdigit() else 0):
        found = repaired(world, tmp_path / f"{page}", page, kind)
        if found:
            wrong[page] = found
    assert wrong == {}


@pytest.mark.parametrize("table", ["note", "statesync_change", "statesync_log_Note"])
def test_it_is_said_table_by_table_what_is_gone(world: Path, tmp_path: Path, table: str) -> None:
    copy_world(world, tmp_path / "case")
    path = tmp_path / "case" / "here.db"
    with closing(sqlite3.connect(path)) as connection:
        (page, cells) = connection.execute(
            "SELECT pageno, ncell FROM dbstat WHERE name = ? AND pagetype = 'leaf' LIMIT 1", (table,)
        ).fetchone()
        (rows,) = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()
    damage(path, page, "noise")
    with Store(path) as store:
        (gone,) = store.repair()
    assert (gone.about, gone.repair) == (table, None)
    assert f"{rows - cells} could be read" in gone.message
    known = "unknown number" if table == "statesync_log_Note" else f"{cells} of its rows"
    assert known in gone.message


def test_a_page_of_an_index_takes_nothing_and_nothing_is_read_again(world: Path, tmp_path: Path) -> None:
    copy_world(world, tmp_path / "case")
    path = tmp_path / "case" / "here.db"
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT pageno FROM dbstat WHERE name = 'note_number'").fetchone()
    damage(path, page, "noise")
    with Store(path) as store:
        assert store.repair() == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT rereading FROM statesync_cursor").fetchall() == [(None,)]


def test_two_damaged_pages_of_a_table_cost_no_more_than_what_was_on_them(world: Path, tmp_path: Path) -> None:
    copy_world(world, tmp_path / "case")
    path = tmp_path / "case" / "here.db"
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT pageno, ncell FROM dbstat WHERE name = 'note' AND pagetype = 'leaf' ORDER BY pageno"
        ).fetchall()
    for page, _ in (rows[1], rows[4]):
        damage(path, page, "noise")
    assert faults(tmp_path / "case") == []


def test_the_record_of_what_a_damaged_file_lacks_is_a_complaint_of_the_doctor(
    world: Path, tmp_path: Path
) -> None:
    copy_world(world, tmp_path / "case")
    path = tmp_path / "case" / "here.db"
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT max(pageno) FROM dbstat WHERE name = 'note'").fetchone()
    damage(path, page, "noise")
    with Store.open(path) as store:
        (complaint,) = store.examine()
        assert (complaint.about, complaint.repair) == ("file", Repair.SALVAGE)


def test_with_its_cursor_lost_an_object_belongs_to_the_one_space_there_is(
    world: Path, tmp_path: Path
) -> None:
    copy_world(world, tmp_path / "case")
    path = tmp_path / "case" / "here.db"
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT pageno FROM dbstat WHERE name = 'statesync_cursor'").fetchone()
    damage(path, page, "noise")
    with Store(path) as store:
        store.repair()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT object, space, cursor, rereading FROM statesync_cursor").fetchall()
    assert rows == [("Note", "sp", 0, "horizon")]


def test_migrations_are_not_taken_twice_where_their_count_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    taken: list[int] = []

    def open_again() -> None:
        with Store(path) as store:

            class Note(store.Model):  # type: ignore[name-defined, misc]
                text = TextField()

            if path.exists():
                store.repair()
            store.setup(migrations=[lambda connection: taken.append(1), lambda connection: taken.append(2)])

    def lose_the_count() -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (page,) = connection.execute("SELECT pageno FROM dbstat WHERE name = 'statesync_meta'").fetchone()
        damage(path, page, "noise")

    open_again()
    assert taken == []  # a fresh file has its tables as the models are now
    lose_the_count()
    open_again()
    assert taken == []


@pytest.mark.parametrize("table", ["statesync_meta", "note"])
def test_the_command_repairs_also_what_cannot_be_opened_and_says_what_is_gone(
    world: Path, tmp_path: Path, table: str
) -> None:
    copy_world(world, tmp_path / "case")
    path = tmp_path / "case" / "here.db"
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT max(pageno) FROM dbstat WHERE name = ?", (table,)).fetchone()
    damage(path, page, "noise")
    sick = CliRunner().invoke(doctor, [str(path)])
    assert (sick.exit_code, "run it again with --repair" in sick.output) == (1, True)
    mended = CliRunner().invoke(doctor, [str(path), "--repair"])
    assert "mended 1 of 1" in mended.output
    assert f"\n{table}: " in mended.output
    assert "gone with a damaged page" in mended.output
    assert CliRunner().invoke(doctor, [str(path)]).output == "the store is sound\n"
