"""The process ends at every point of a first read that drops indexes: the next one has them all."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from peewee import IntegerField, TextField
from rig.search import some

from statesync import Store, SyncOptions
from statesync.hub import Hub, LocalRemote, prepare
from statesync.store.indexes import building
from statesync.testing import CrashPoints, Watch

from ..recovery import naming
from .left import telling_points

pytestmark = pytest.mark.long

WANTED = {"item_title", "item_n", "item_part"}
SMALL = SyncOptions(download_batch_size=2)


@pytest.fixture(autouse=True)
def few_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "WORTH_IT", 5)


@contextmanager
def opened(folder: Path, name: str, watch: Watch | None = None) -> Iterator[tuple[Store, Any, Any]]:
    hub = Hub(f"sqlite:///{folder}/hub.db", without_tokens=True)
    store = Store(folder / f"{name}.db")
    with closing(hub), closing(store):
        if watch is not None:
            watch.database(store.database)
        database: Any = store.database
        database.pragma("synchronous", "off", permanent=True)

        class Item(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(index=True)
            n = IntegerField(index=True)

        store.setup()
        remote: Any = LocalRemote(hub, "space")
        yield store, Item, watch.remote(remote) if watch is not None else remote


@pytest.fixture
def morning(tmp_path: Path) -> Path:
    """A hub with seven records, and a device that has none, and an index of its own."""
    folder = tmp_path / "morning"
    folder.mkdir()
    prepare(f"sqlite:///{folder}/hub.db")
    with opened(folder, "there") as (store, item, remote):
        for n in range(7):
            item.create(id=f"{n}", title=f"{n % 3}", n=n)
        store.scope(remote).sync()
    with opened(folder, "here") as (store, _, _):
        database: Any = store.database
        database.execute_sql("CREATE INDEX item_part ON item (title, n) WHERE n > 2")
    return folder


def found(folder: Path) -> tuple[set[str], set[str]]:
    """Return the indexes that the device has, and those that are marked."""
    with closing(sqlite3.connect(folder / "here.db")) as plain:
        rows = plain.execute("SELECT name FROM pragma_index_list('item') WHERE origin = 'c'")
        marked = plain.execute("SELECT name FROM statesync_index").fetchall()
        return {name for (name,) in rows}, {name for (name,) in marked}


def begin(morning: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(morning, folder)


def check_healed(folder: Path, watch: Watch | None = None) -> None:
    with opened(folder, "here", watch) as (store, item, remote):
        assert found(folder) == (WANTED, set())
        store.scope(remote).sync(SMALL)
        assert sorted(row.n for row in item.select()) == [*range(7)]
        assert found(folder) == (WANTED, set())
        assert store.examine() == []


def test_a_device_has_all_its_indexes_or_marks_wherever_the_process_ends(morning: Path) -> None:
    folder = morning.parent / "day"

    def day(watch: Watch) -> None:
        with opened(folder, "here", watch) as (store, _, remote):
            store.scope(remote).sync(SMALL)

    begin(morning, folder)
    points = CrashPoints(day)
    _, telling = telling_points(day, folder)
    assert found(folder) == (WANTED, set())
    amid = set()
    for point in some(telling, 6):
        begin(morning, folder)
        points.run_to(point)
        with naming(point):
            there, marked = found(folder)
            assert there | marked == WANTED
            assert not there & marked
            amid.add(len(marked))
            check_healed(folder)
    assert amid >= {0, 3}


def test_a_crash_amid_the_building_of_the_next_program_is_healed_by_the_one_after_it(morning: Path) -> None:
    folder, broken = morning.parent / "day", morning.parent / "broken"

    def day(watch: Watch) -> None:
        with opened(folder, "here", watch) as (store, _, remote):
            store.scope(remote).sync(SMALL)

    def next_day(watch: Watch) -> None:
        with opened(folder, "here", watch):
            pass

    begin(morning, folder)
    points = CrashPoints(day)
    for point in telling_points(day, folder)[1]:
        begin(morning, folder)
        points.run_to(point)
        if len(found(folder)[1]) == 3:
            break
    shutil.copytree(folder, broken, dirs_exist_ok=True)
    building_points = CrashPoints(next_day)
    _, telling = telling_points(next_day, folder)
    amid = set()
    for point in telling:
        begin(broken, folder)
        building_points.run_to(point)
        with naming(point):
            there, marked = found(folder)
            assert (there | marked, there & marked) == (WANTED, set())
            amid.add(len(marked))
            check_healed(folder)
    assert amid == {0, 1, 2, 3}
