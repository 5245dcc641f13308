"""The process ends at every point of what a program does besides syncing: all of it was done, or nothing.

Migrations, decisions of conflicts, decisions that are put off, local writes, and starting over.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from peewee import TextField
from rig.search import some

from statesync import Remote, Store, SyncOptions
from statesync.hub import Hub, LocalRemote, prepare
from statesync.testing import CrashPoints, Watch

from ..recovery import naming
from .left import telling_points

pytestmark = pytest.mark.long

LATER = SyncOptions(conflict_policy="later")
OTHERS = {"theirs": ("theirs",), "edited": ("1",)}
"""What the hub has in the morning, besides the record in conflict."""


@define(eq=False)
class Program:
    """A program that has started on the device: its store, its model, and the hub."""

    store: Store
    note: Any
    remote: Remote

    def sync(self, options: SyncOptions = LATER) -> None:
        self.store.scope(self.remote).sync(options)

    def rows(self) -> dict[str, tuple[Any, ...]]:
        return {row[0]: row[1:] for row in self.note.select().tuples()}

    def waiting(self) -> list[str]:
        return sorted(f"{change.operation} {change.key}" for change in self.store.pending())

    def resolve(self, choice: object) -> None:
        (entry,) = self.store.conflicts(waiting=True)
        self.store.resolve(entry, choice)


Deed = Callable[[Program], object]


def first_version(store: Store) -> Any:
    class Note(store.Model):  # type: ignore[name-defined, misc]
        title = TextField()

    return Note


def second_version(store: Store) -> Any:
    class Note(store.Model):  # type: ignore[name-defined, misc]
        heading = TextField()
        kind = TextField(default="x")

    return Note


def _rename(migrator: Any) -> list[Any]:
    return [migrator.rename_column("note", "title", "heading", legacy=True)]


def _add(migrator: Any) -> list[Any]:
    return [
        migrator.add_column("note", "kind", TextField(default="x")),
        migrator.add_index("note", ("kind",)),
    ]


@contextmanager
def program(
    folder: Path, name: str = "a", watch: Watch | None = None, *, newer: bool = False
) -> Iterator[Program]:
    """Start the program, in its second version with its migrations if it is ``newer``."""
    hub = Hub(f"sqlite:///{folder}/hub.db", without_tokens=True)
    store = Store(folder / f"{name}.db")
    with closing(hub), closing(store):
        if watch is not None:
            watch.database(store.database)
        note = (second_version if newer else first_version)(store)
        store.setup(migrations=[_rename, _add] if newer else [])
        remote = LocalRemote(hub, "space")
        yield Program(store, note, watch.remote(remote) if watch is not None else remote)


@pytest.fixture
def morning(tmp_path: Path) -> Path:
    """Files on which a conflict waits to be met, beside an edit, a new record and a local one."""
    folder = tmp_path / "morning"
    folder.mkdir()
    prepare(f"sqlite:///{folder}/hub.db")
    with program(folder) as here, program(folder, "b") as there:
        for key in ("contested", "edited"):
            here.note.create(id=key, title="1")
        here.sync()
        there.sync()
        there.note.update(title="theirs").where(there.note.id == "contested").execute()
        there.note.create(id="theirs", title="theirs")
        there.sync()
        here.note.update(title="mine").execute()
        here.note.create(id="new", title="mine")
        with here.store.untracked():
            here.note.create(id="local", title="local")
    return folder


@pytest.fixture
def contested(morning: Path) -> Path:
    """The same files once the conflict was met and put off, with an edit that waits."""
    with program(morning) as here:
        here.sync()
        here.note.update(title="later").where(here.note.id == "edited").execute()
    return morning


def end_everywhere(
    morning: Path, deed: Deed, check: Callable[[Program, Path], None], *, newer: bool = False
) -> None:
    """End the process wherever ``deed`` leaves something else behind, or at every fourth such point.

    It is started again, and ``check`` gets what it finds then.
    """
    folder = morning.parent / "day"

    def day(watch: Watch) -> None:
        with program(folder, watch=watch, newer=newer) as here:
            deed(here)

    def begin() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(morning, folder)

    begin()
    points = CrashPoints(day)
    _, telling = telling_points(day, folder)
    for point in some(telling, 4):
        begin()
        points.run_to(point)
        with naming(point), program(folder, newer=newer) as again:
            check(again, folder)
            assert again.store.examine() == []


def at_the_hub(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return what a device gets that syncs for the first time."""
    with program(folder, "fresh") as fresh:
        fresh.sync()
        return fresh.rows()


def nothing(_: Program) -> None:
    """Starting is all that the program does."""


def test_a_migration_is_taken_whole_or_not_at_all(contested: Path) -> None:
    def check(again: Program, folder: Path) -> None:
        assert again.waiting() == ["update contested", "update edited"]
        assert again.rows() == {
            "contested": ("mine", "x"),
            "edited": ("later", "x"),
            "new": ("mine", "x"),
            "local": ("local", "x"),
            "theirs": ("theirs", "x"),
        }
        assert at_the_hub(folder)["edited"] == ("mine",)

    end_everywhere(contested, nothing, check, newer=True)


@pytest.mark.parametrize("choice", ["local", "remote", {"title": "both"}])
def test_a_conflict_is_decided_whole_or_not_at_all(contested: Path, choice: Any) -> None:
    wanted = {"local": "mine", "remote": "theirs"}.get(str(choice), "both")

    def check(again: Program, folder: Path) -> None:
        entries = again.store.conflicts(waiting=True)
        if entries:
            assert [(entry.key, entry.local, entry.remote) for entry in entries] == [
                ("contested", {"title": "mine"}, {"title": "theirs"})
            ]
            assert again.rows()["contested"] == ("mine",)
            again.resolve(choice)
        assert again.rows()["contested"] == (wanted,)
        assert [entry.local for entry in again.store.conflicts()] == [{"title": "mine"}]
        again.sync()
        assert again.store.pending() == []
        assert at_the_hub(folder)["contested"] == (wanted,)

    end_everywhere(contested, lambda here: here.resolve(choice), check)


def test_a_decision_that_is_put_off_is_asked_for_once(morning: Path) -> None:
    def check(again: Program, folder: Path) -> None:
        again.sync()
        again.sync()
        assert again.waiting() == ["update contested"]
        assert [entry.remote for entry in again.store.conflicts(waiting=True)] == [{"title": "theirs"}]
        assert again.rows()["contested"] == ("mine",)
        assert at_the_hub(folder)["contested"] == ("theirs",)
        again.resolve("local")
        again.sync()
        assert at_the_hub(folder)["contested"] == ("mine",)

    end_everywhere(morning, Program.sync, check)


def test_local_writes_are_kept_local_whole_or_not_at_all(contested: Path) -> None:
    def write(here: Program) -> None:
        with here.store.untracked():
            here.note.update(title="here alone").where(here.note.id << ["theirs", "local"]).execute()
            here.note.delete_by_id("edited")
            here.note.create(id="more", title="here alone")

    def check(again: Program, folder: Path) -> None:
        rows = again.rows()
        if "more" in rows:
            assert {rows[key] for key in ("theirs", "local", "more")} == {("here alone",)}
            assert again.waiting() == ["update contested"]
        else:
            assert (rows["theirs"], rows["local"], rows["edited"]) == (("theirs",), ("local",), ("later",))
            assert again.waiting() == ["update contested", "update edited"]
        again.sync()
        assert again.rows() == rows
        found = at_the_hub(folder)
        assert found.keys() == {"contested", "edited", "new", "theirs"}
        assert (found["theirs"], found["edited"]) == (("theirs",), ("mine" if "more" in rows else "later",))

    end_everywhere(contested, write, check)


@pytest.mark.parametrize("what", ["clear", "reset"])
def test_what_waits_is_discarded_whole_or_not_at_all(contested: Path, what: str) -> None:
    def check(again: Program, folder: Path) -> None:
        if again.rows():
            assert again.waiting() == ["update contested", "update edited"]
            assert again.rows().keys() == {"contested", "edited", "new", "local", "theirs"}
            getattr(again.store, what)(discard_pending=True)
        assert again.rows() == {}
        assert again.store.pending() == []
        assert again.store.conflicts(waiting=True) == []
        again.sync()
        assert again.rows() == at_the_hub(folder)
        assert again.rows()["edited"] == ("mine",)

    end_everywhere(contested, lambda here: getattr(here.store, what)(discard_pending=True), check)


def test_what_waits_is_taken_back_whole_or_not_at_all(contested: Path) -> None:
    def check(again: Program, folder: Path) -> None:
        if again.waiting():
            assert again.waiting() == ["update contested", "update edited"]
            assert again.store.rollback() == 2
        assert (again.rows()["contested"], again.rows()["edited"]) == (("theirs",), ("mine",))
        assert again.store.conflicts(waiting=True) == []
        again.sync()
        assert at_the_hub(folder)["contested"] == ("theirs",)

    end_everywhere(contested, lambda here: here.store.rollback(), check)
