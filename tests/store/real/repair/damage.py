"""A device with all that a store can have, one damaged page of it, and a ledger that knows what must not go.

The ledger does not ask the store. What a user typed is a text that occurs nowhere else, and the file is made
with ``secure_delete``, so that nothing that is gone stays in it. So an edit is still in a damaged file if the
file's bytes have its text.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from attrs import define
from peewee import IntegerField, TextField

from statesync import Store
from statesync.hub import Hub, LocalRemote, prepare

RECORDS = 400
ADDED = 30
PADDING = "." * 90


def key_of(number: int) -> str:
    return f"k{number:05}"


def original(number: int) -> str:
    return f"original of {number:05}{PADDING}"


def typed(number: int) -> str:
    return f"typed here {number:05}{PADDING}"


def elsewhere(number: int) -> str:
    return f"typed elsewhere {number:05}{PADDING}"


# Who did what; the numbers of the records.
EDITED_FOLDED = range(90)
DELETED_FOLDED = range(90, 110)
EDITED_LOGGED = range(110, 210)
DELETED_LOGGED = range(210, 230)
EDITED_THERE = [*range(80, 95), *range(200, 215), *range(300, 330)]
DELETED_THERE = [*range(75, 80), *range(330, 340)]
ADDED_FOLDED = range(RECORDS, RECORDS + ADDED)
ADDED_LOGGED = range(RECORDS + ADDED, RECORDS + 2 * ADDED)

EDITED_HERE = {*EDITED_FOLDED, *EDITED_LOGGED}
DELETED_HERE = {*DELETED_FOLDED, *DELETED_LOGGED}
ADDED_HERE = {*ADDED_FOLDED, *ADDED_LOGGED}
TOUCHED_HERE = EDITED_HERE | DELETED_HERE | ADDED_HERE


@define
class Party:
    """One device of the world."""

    store: Store
    note: Any
    scope: Any

    def rows(self) -> dict[str, str]:
        return {row.id: row.name for row in self.note.select()}


@contextmanager
def party(folder: Path, name: str, hub: Hub, *, repaired: bool = False) -> Iterator[Party]:
    store = Store(folder / f"{name}.db")

    class Note(store.Model):  # type: ignore[name-defined, misc]
        name = TextField()
        number = IntegerField(index=True)

    with store:
        if repaired:
            store.repair()
        database: Any = store.database
        database.pragma("synchronous", "off", permanent=True)
        database.pragma("secure_delete", "on", permanent=True)
        store.setup()
        yield Party(store, Note, store.scope(LocalRemote(hub, "sp")))


@contextmanager
def hub_at(folder: Path) -> Iterator[Hub]:
    with closing(Hub(f"sqlite:///{folder}/hub.db", without_tokens=True)) as hub:
        yield hub


def _edit(at: Party, number: int, text: str) -> None:
    assert at.note.update(name=text).where(at.note.id == key_of(number)).execute() == 1


def make_world(folder: Path) -> None:
    """Make a hub and two devices: ``here`` has waiting and logged changes, and has not seen the newest."""
    prepare(f"sqlite:///{folder}/hub.db")
    with hub_at(folder) as hub, party(folder, "here", hub) as here, party(folder, "there", hub) as there:
        with there.store.database.atomic():
            for number in range(RECORDS):
                there.note.create(id=key_of(number), name=original(number), number=number)
        there.scope.sync()
        here.scope.sync()
        _use_there(there)
        _use_here(here)
    connection = sqlite3.connect(folder / "here.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _use_there(there: Party) -> None:
    with there.store.database.atomic():
        for number in EDITED_THERE:
            _edit(there, number, elsewhere(number))
        for number in DELETED_THERE:
            there.note.delete_by_id(key_of(number))
    there.scope.sync()


def _use_here(here: Party) -> None:
    for edited, deleted, added in (
        (EDITED_FOLDED, DELETED_FOLDED, ADDED_FOLDED),
        (EDITED_LOGGED, DELETED_LOGGED, ADDED_LOGGED),
    ):
        here.store.mark_for_upload()  # folds what was logged
        with here.store.database.atomic():
            for number in edited:
                _edit(here, number, typed(number))
            for number in deleted:
                here.note.delete_by_id(key_of(number))
            for number in added:
                here.note.create(id=key_of(number), name=typed(number), number=number)


def copy_world(source: Path, target: Path) -> None:
    target.mkdir()
    for name in ("hub.db", "here.db", "there.db"):
        shutil.copy(source / name, target / name)


def page_size(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[16:18], "big")


def page_count(path: Path) -> int:
    return path.stat().st_size // page_size(path)


def damage(path: Path, page: int, kind: str) -> None:
    """Overwrite a page with noise, with zeros, or with the page ``kind`` numbers."""
    size = page_size(path)
    content = path.read_bytes()
    if kind == "noise":
        new = random.Random(page).randbytes(size)
    elif kind == "zeros":
        new = bytes(size)
    else:
        other = (page - 1 + int(kind)) % (len(content) // size)
        new = content[other * size : (other + 1) * size]
    path.write_bytes(content[: (page - 1) * size] + new + content[page * size :])


def cut(path: Path, length: int) -> None:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[:length])


def overwrite(path: Path, at: int, new: bytes) -> None:
    """Overwrite some bytes of a file."""
    content = path.read_bytes()
    path.write_bytes(content[:at] + new + content[at + len(new) :])


def swap(path: Path, one: int, other: int) -> None:
    """Let two pages stand in each other's places."""
    size, content = page_size(path), path.read_bytes()
    first, second = (content[(page - 1) * size : page * size] for page in (one, other))
    overwrite(path, (one - 1) * size, second)
    overwrite(path, (other - 1) * size, first)


def tear(path: Path, page: int, kept: int) -> None:
    """Keep the first bytes of a page only; the rest is zeros."""
    size = page_size(path)
    overwrite(path, (page - 1) * size + kept, bytes(size - kept))


def faults(folder: Path) -> list[str]:
    """Repair the damaged device, sync it twice, and say what should not be."""
    bytes_left = (folder / "here.db").read_bytes()
    logged: set[tuple[str, str]] = set()
    with hub_at(folder) as hub:
        with party(folder, "here", hub, repaired=True) as here:
            here.scope.sync()
            here.scope.sync()
            rows = here.rows()
            entries = here.store.conflicts()
            for entry in entries:
                for side in (entry.local, entry.remote):
                    logged.add((entry.key, side["name"] if side else ""))
            sick = here.store.examine()
        with party(folder, "there", hub) as there:
            there.scope.sync()
            at_hub = there.rows()
    return [*map(str, sick), *_faults(rows, at_hub, logged, bytes_left)]


def _faults(
    rows: dict[str, str], at_hub: dict[str, str], logged: set[tuple[str, str]], left: bytes
) -> Iterator[str]:
    if rows != at_hub:
        yield f"device and hub differ: {sorted(set(rows.items()) ^ set(at_hub.items()))[:3]}"
    for number in EDITED_HERE | ADDED_HERE:
        key, text = key_of(number), typed(number)
        if text.encode() in left and at_hub.get(key) != text and (key, text) not in logged:
            yield f"the edit of {key} is lost"
    for number in DELETED_HERE:
        key = key_of(number)
        if original(number).encode() in left and key in at_hub and (key, "") not in logged:
            yield f"the delete of {key} is lost"
    for number in range(RECORDS):
        key = key_of(number)
        if key not in at_hub and number not in {*DELETED_HERE, *DELETED_THERE}:
            yield f"{key} was deleted by nobody"
        if number not in TOUCHED_HERE:
            before = elsewhere(number) if number in EDITED_THERE else original(number)
            should_be = None if number in DELETED_THERE else before
            if at_hub.get(key) != should_be:
                yield f"{key} was not edited here, and is {at_hub.get(key)} at the hub"
