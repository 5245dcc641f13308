"""Devices for the tests: each a store on a real file with the same model, and a remote of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from attrs import define
from peewee import BlobField, BooleanField, FloatField, IntegerField, TextField

from statesync import HttpRemote, Remote, Scope, Store, SyncOptions, SyncResult
from statesync.store.tracking import triggers

Rows = dict[str, tuple[Any, ...]]

_ADD = "INSERT INTO airport (id, name, elevation, is_open) VALUES (?, ?, ?, 1)"


def quick_store(path: Path, **options: Any) -> Store:
    """Return a store that does not wait for the disk: no test cuts the power."""
    store = Store(path, **options)
    database: Any = store.database
    database.pragma("synchronous", "off", permanent=True)
    return store


@contextmanager
def as_downloaded(store: Store) -> Iterator[None]:
    """Write as a download does: the hub is believed to have the records of the block."""
    with triggers.untracked(store._parts.database):
        yield


def airport_model(store: Store) -> Any:
    """Define the model that most tests use."""

    class Airport(store.Model):  # type: ignore[name-defined, misc]
        name = TextField()
        elevation = IntegerField(null=True)
        latitude = FloatField(null=True)
        is_open = BooleanField(default=True)
        plan = BlobField(null=True)

    return Airport


@define(eq=False)
class Device:
    """One device: its store, its model, and its remote."""

    store: Store
    airport: Any
    remote: Remote

    @property
    def scope(self) -> Scope:
        """Everything on the device: the object-service level."""
        return self.store.scope(self.remote)

    def sync(self, **options: Any) -> SyncResult:
        """Run one session to its end."""
        return self.scope.sync(SyncOptions(**options))

    def add(self, count: int, first: int = 0) -> list[str]:
        """Make records, and return their keys; Peewee would take five times as long."""
        keys = [f"k{number:05}" for number in range(first, first + count)]
        with self.store.database.atomic():
            for number, key in enumerate(keys, first):
                self.execute(_ADD, key, f"n{number}", number)
        return keys

    def edit(self, key: str, **values: Any) -> None:
        """Change fields of one record."""
        assert self.airport.update(**values).where(self.airport.id == key).execute() == 1

    def delete(self, key: str) -> None:
        """Delete one record."""
        assert self.airport.delete_by_id(key) == 1

    def field(self, key: str, name: str) -> Any:
        """Return one field of one record."""
        return getattr(self.airport.get_by_id(key), name)

    def rows(self) -> Rows:
        """Return every record by its key."""
        return {row[0]: row[1:] for row in self.airport.select().tuples()}

    def keys(self) -> list[str]:
        """Return every key, in order."""
        return sorted(self.rows())

    def execute(self, sql: str, *values: object) -> Any:
        """Run one statement of SQL, past Peewee's models."""
        database: Any = self.store.database
        return database.execute_sql(sql, values)

    def operations(self) -> dict[str, str]:
        """Return what waits in the outbox: the operation by the key."""
        return {change.key: change.operation for change in self.store.pending()}


@contextmanager
def store_at(
    path: Path, models: Callable[[Store], Any] = airport_model, **options: Any
) -> Iterator[tuple[Store, Any]]:
    """Open a store, define its models, set it up; give both, and close it at the end."""
    if models is airport_model and not path.exists():
        path.write_bytes(_set_up_before())
    with quick_store(path, **options) as store:
        defined = models(store)
        store.setup()
        yield store, defined


@cache
def _set_up_before() -> bytes:
    """Return a file as a set-up for airports leaves it: all are the same, and this takes half as long."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "airports.db"
        with quick_store(path) as store:
            airport_model(store)
            store.setup()
        return path.read_bytes()


@contextmanager
def device_on(path: Path, remote: Remote, **options: Any) -> Iterator[Device]:
    """Open a device at ``path`` that syncs over ``remote``; ``options`` are the store's."""
    with store_at(path, **options) as (store, airport):
        yield Device(store, airport, remote)


@contextmanager
def device_at(
    path: Path, url: str, space: str, *, busy_timeout: float = 5.0, **remote: Any
) -> Iterator[Device]:
    """Open a device at ``path`` that syncs with the hub at ``url``; ``remote`` are the remote's options."""
    with (
        closing(HttpRemote(url, space, **remote)) as link,
        device_on(path, link, busy_timeout=busy_timeout) as device,
    ):
        yield device
