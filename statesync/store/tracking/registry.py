"""Which objects a store tracks: the program's models, and the descriptions in ``statesync_object``.

It alone owns that table. A description is kept so that the database can be synced without the models.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import peewee

from statesync.errors import StoreCorrupt, StoreNotReady, UnknownObject, UnsupportedModel
from statesync.store.tracking.describe import describe
from statesync.store.tracking.objects import Objects, TrackedObject

TABLE = "statesync_object"


class Registry:
    """The models and objects of one open store; ``store`` is its name in messages."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._models: dict[str, type[peewee.Model]] = {}
        self._objects: Objects | None = None

    @property
    def objects(self) -> Objects:
        """The tracked objects by name. Raises ``StoreNotReady`` before ``set_objects``."""
        if self._objects is None:
            raise StoreNotReady(f"{self._store} is not set up; call setup() once the models are defined")
        return self._objects

    @property
    def opened(self) -> Objects:
        """The tracked objects by name; none before ``set_objects``."""
        return self._objects or {}

    @property
    def models(self) -> dict[str, type[peewee.Model]]:
        """The registered models by the names of their objects."""
        return dict(self._models)

    def register(self, model: type[peewee.Model], name: str | None) -> None:
        """Remember a model; setting up does the rest. Raises ``UnsupportedModel`` for an unfit key."""
        described = describe(model, name)
        for known, other in self._models.items():  # SQLite's names, of tables and triggers, have no case
            if known.lower() == described.name.lower() and (other is not model or known != described.name):
                raise UnsupportedModel(
                    f"{model.__name__} cannot be tracked as {described.name}: another model is tracked as "
                    f"{known}, and names have no case here; name one otherwise: "
                    f"track({model.__name__}, name=…)"
                )
        self._models[described.name] = model

    def set_objects(self, objects: Objects) -> None:
        """Track these objects from now on."""
        self._objects = objects

    def name_of(self, model: type[peewee.Model]) -> str:
        """Return the object's name of a model. Raises ``UnknownObject`` if it is not tracked."""
        for name, known in self._models.items():
            if known is model and name in self.objects:
                return name
        raise UnknownObject(
            f"{model.__name__} is not tracked by {self._store}; derive it from store.Model or call "
            "store.track() with it, and then setup()"
        )

    def forget(self, names: Iterable[str]) -> None:
        """Track these objects no longer."""
        for name in names:
            self._models.pop(name, None)
            self.objects.pop(name, None)


# -- the descriptions in the database --------------------------------------------------------------


def load(connection: sqlite3.Connection) -> Objects:
    """Return the tracked objects that the database describes. Raises ``StoreCorrupt`` for what is none."""
    rows = connection.execute("SELECT name, description FROM statesync_object ORDER BY name")
    return {name: _described(name, text) for name, text in rows}


def _described(name: str, text: str) -> TrackedObject:
    try:
        return TrackedObject.from_json(name, text)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorrupt(
            f"the store's description of {name!r} cannot be read; repair() takes it out, and setup() writes it anew"
        ) from error


def forget_unreadable(connection: sqlite3.Connection) -> bool:
    """Forget descriptions that are none; tell whether there were any."""
    unreadable = []
    for name, text in connection.execute("SELECT name, description FROM statesync_object").fetchall():
        try:
            _described(name, text)
        except StoreCorrupt:
            unreadable.append((name,))
    connection.executemany("DELETE FROM statesync_object WHERE name IS ?", unreadable)
    return bool(unreadable)


def save(connection: sqlite3.Connection, tracked: TrackedObject) -> None:
    """Write down how an object looks now."""
    connection.execute(
        "INSERT INTO statesync_object VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET description = excluded.description",
        (tracked.name, tracked.to_json()),
    )


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Forget how an object looks."""
    connection.execute("DELETE FROM statesync_object WHERE name = ?", (name,))
