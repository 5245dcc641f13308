"""The process ends at every point of a download whose records do not all fit: nothing of them is lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from peewee import IntegerField, TextField
from rig.device import quick_store
from rig.search import some

from statesync import Store, SyncOptions
from statesync.hub import Hub, LocalRemote, prepare
from statesync.testing import CrashPoints, Watch

from ..recovery import naming
from .left import telling_points

pytestmark = pytest.mark.long

STRICT = "CREATE TABLE item (id TEXT NOT NULL PRIMARY KEY, title TEXT UNIQUE, n INTEGER CHECK (n < 10))"
SMALL = SyncOptions(download_batch_size=2, conflict_policy="client_wins")


@define(eq=False)
class Program:
    """A program that has started on a device."""

    store: Store
    item: Any
    remote: Any

    def sync(self) -> None:
        self.store.scope(self.remote).sync(SMALL)

    def rows(self) -> dict[str, tuple[Any, ...]]:
        return {row[0]: row[1:] for row in self.item.select().tuples()}

    def held(self) -> dict[str, tuple[Any, ...]]:
        found = {entry.key: entry.record or {} for entry in self.store.quarantine()}
        return {key: (record["title"], record["n"]) for key, record in found.items()}

    def put(self, key: str, title: str, n: int) -> None:
        if not self.item.update(title=title, n=n).where(self.item.id == key).execute():
            self.item.create(id=key, title=title, n=n)


@contextmanager
def program(folder: Path, name: str, watch: Watch | None = None) -> Iterator[Program]:
    """Start the program on the device ``strict``, whose table has rules, or on another one."""
    hub = Hub(f"sqlite:///{folder}/hub.db", without_tokens=True)
    path = folder / f"{name}.db"
    if name == "strict" and not path.exists():
        with closing(sqlite3.connect(path)) as plain:
            plain.execute(STRICT)
    store = quick_store(path)
    with closing(hub), closing(store):
        if watch is not None:
            watch.database(store.database)

        class Item(store.Model):  # type: ignore[name-defined, misc]
            title = TextField()
            n = IntegerField()

        store.setup()
        remote: Any = LocalRemote(hub, "space")
        yield Program(store, Item, watch.remote(remote) if watch is not None else remote)


@pytest.fixture
def morning(tmp_path: Path) -> Path:
    """Files on which one record waits, two more will not fit, two swap their titles, and one fits again."""
    folder = tmp_path / "morning"
    folder.mkdir()
    prepare(f"sqlite:///{folder}/hub.db")
    with program(folder, "free") as there, program(folder, "strict") as here:
        for key, n in (("a", 1), ("b", 2), ("c", 3), ("healed", 4), ("waits", 5)):
            there.put(key, key, n)
        there.sync()
        here.sync()
        there.put("healed", "healed", 40)
        there.put("waits", "waits", 50)
        there.sync()
        here.sync()
        there.put("a", "b", 1)
        there.put("c", "c", 30)
        there.put("b", "a", 2)
        there.put("new", "new", 60)
        there.put("healed", "healed", 6)
        there.sync()
        here.put("waits", "edited here", 7)
    return folder


def balance(program: Program) -> int:
    database: Any = program.store.database
    rows = database.execute_sql("SELECT detail FROM statesync_transition").fetchall()
    details = [json.loads(text) for (text,) in rows]
    return sum(detail.get("held", 0) - detail.get("released", 0) for detail in details)


def test_every_record_is_in_its_table_or_waits_wherever_the_process_ends(morning: Path) -> None:
    folder = morning.parent / "day"

    def day(watch: Watch) -> None:
        with program(folder, "strict", watch) as here:
            here.sync()

    def begin() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(morning, folder)

    begin()
    points = CrashPoints(day)
    _, telling = telling_points(day, folder)
    assert len(telling) > 10
    for point in some(telling, 12):
        begin()
        points.run_to(point)
        with naming(point), program(folder, "strict") as again:
            assert again.rows().keys() == {"a", "b", "c", "healed", "waits"}
            assert again.held().keys() <= {"a", "b", "c", "new", "healed", "waits"}
            assert len(again.held()) == balance(again)
            again.sync()
            assert again.rows() == {
                "a": ("b", 1),
                "b": ("a", 2),
                "c": ("c", 3),
                "healed": ("healed", 6),
                "waits": ("edited here", 7),
            }
            assert again.held() == {"c": ("c", 30), "new": ("new", 60)}
            assert len(again.store.conflicts()) == 1
            assert again.store.pending() == []
            assert balance(again) == 2
            with program(folder, "free") as there:
                there.sync()
                assert there.rows() == again.rows() | again.held()
