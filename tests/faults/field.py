"""A device, its hub on one file each, and a hub that remembers every write it ever made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from peewee import BooleanField, IntegerField, TextField

from statesync import Remote, Store
from statesync.hub import Hub, HubLimits, LocalRemote, prepare

SPACE = "field"
Rows = dict[str, tuple[str | None, int | None]]

_AUDIT = """
CREATE TABLE audit (key TEXT, version INTEGER, writer TEXT, deleted INTEGER, data TEXT);
CREATE TRIGGER audit_insert AFTER INSERT ON record BEGIN
    INSERT INTO audit (key, version, writer, deleted, data)
    VALUES (NEW.key, NEW.version, NEW.writer, NEW.deleted, NEW.data);
END;
CREATE TRIGGER audit_update AFTER UPDATE ON record BEGIN
    INSERT INTO audit (key, version, writer, deleted, data)
    VALUES (NEW.key, NEW.version, NEW.writer, NEW.deleted, NEW.data);
END;
"""


def make_hub(path: Path) -> None:
    """Make a hub's database that keeps every write in a table of the tests' own."""
    prepare(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_AUDIT)


def open_hub(path: Path) -> Hub:
    """Open a hub that takes records of up to 400 bytes."""
    return Hub(f"sqlite:///{path}", without_tokens=True, limits=HubLimits(record=400))


@contextmanager
def local_hub(path: Path) -> Iterator[Remote]:
    """Run the hub inside this process for the length of the block."""
    hub = open_hub(path)
    try:
        yield LocalRemote(hub, SPACE)
    finally:
        hub.close()


@frozen(eq=False)
class Device:
    """A store with one object."""

    store: Store
    Note: Any

    def rows(self) -> Rows:
        return {row.id: (row.text, row.number) for row in self.Note.select()}

    def write(self, key: str, text: str | None = None, number: int | None = None) -> None:
        known = self.Note.get_or_none(self.Note.id == key)
        if known is None:
            self.Note.create(id=key, text=text, number=number)
        else:
            known.text = text if text is not None else known.text
            known.number = number if number is not None else known.number
            known.save()

    def delete(self, *keys: str) -> None:
        self.Note.delete().where(self.Note.id.in_(keys)).execute()


def device_at(path: Path) -> Device:
    """Open a device without setting it up."""
    store = Store(path)

    class Note(store.Model):  # type: ignore[name-defined, misc]
        text = TextField(null=True)
        number = IntegerField(null=True)
        done = BooleanField(default=False)

    return Device(store, Note)


@contextmanager
def device(path: Path) -> Iterator[Device]:
    """Open a device and set it up; close it at the end."""
    opened = device_at(path)
    opened.store.setup()
    try:
        yield opened
    finally:
        opened.store.close()


@contextmanager
def evidence(folder: Path) -> Iterator[sqlite3.Connection]:
    """Look into the files of device a and the hub by a plain connection of the tests' own."""
    with closing(sqlite3.connect(folder / "a.db")) as database:
        database.execute("ATTACH ? AS hub", (str(folder / "hub.db"),))
        yield database


def hub_rows(found: sqlite3.Connection) -> Rows:
    """Return the living records of the hub."""
    rows = found.execute("SELECT key, data ->> '$.text', data ->> '$.number' FROM record WHERE NOT deleted")
    return {key: (text, number) for key, text, number in rows}
