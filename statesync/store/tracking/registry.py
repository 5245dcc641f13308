"""Which objects a store tracks: the program's models, and the descriptions in ``statesync_object``.

It alone owns that table. A description is kept so that the database can be synced without the models.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import peewee
from attrs import field

from statesync.checks import check_kind, is_utf8, kind_of
from statesync.classes import frozen
from statesync.errors import (
    BadOptions,
    StoreCorrupt,
    StoreNotReady,
    UnknownObject,
    UnsupportedModel,
    UsageError,
)
from statesync.store.tracking.describe import computed_defaults, describe
from statesync.store.tracking.objects import Objects, TrackedObject
from statesync.wire import MAX_KEY_LENGTH

TABLE = "statesync_object"


class Registry:
    """The models and objects of one open store; ``store`` is its name in messages.

    What it knows of the objects is what it read last. Another program on the file may have described them
    anew, so whoever works on the database calls ``refresh`` in its transaction first.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._models: dict[str, type[peewee.Model]] = {}
        self._kept_local: set[str] = set()
        self._read: _Descriptions | None = None

    @property
    def objects(self) -> Objects:
        """The tracked objects by name, as they were read last. Raises ``StoreNotReady`` before ``begin``."""
        return self._descriptions.objects

    def require_ready(self) -> None:
        """Raise ``StoreNotReady`` before ``begin``."""
        _ = self._descriptions

    @property
    def known(self) -> Objects:
        """The tracked objects and those whose tables are gone, of which changes may wait."""
        return self._descriptions.known

    @property
    def _descriptions(self) -> _Descriptions:
        if self._read is None:
            raise StoreNotReady(f"{self._store} is not set up; call setup() once the models are defined")
        return self._read

    @property
    def is_ready(self) -> bool:
        """Whether ``begin`` was called."""
        return self._read is not None

    @property
    def models(self) -> dict[str, type[peewee.Model]]:
        """The registered models by the names of their objects."""
        return dict(self._models)

    def register(self, model: type[peewee.Model], name: str | None, *, keep_local: bool = False) -> None:
        """Remember a model; setting up does the rest. Raises ``UnsupportedModel`` for an unfit key.

        ``keep_local`` says that the records which its table has before it is tracked are local only.
        """
        _check_model(model)
        if name is not None:
            _check_name(name)
        described = describe(model, name)
        for known, other in self._models.items():  # SQLite's names, of tables and triggers, have no case
            if known.lower() == described.name.lower() and (other is not model or known != described.name):
                raise UnsupportedModel(
                    f"{model.__name__} cannot be tracked as {described.name}: another model is tracked as "
                    f"{known}, and names have no case here; name one otherwise: "
                    f"track({model.__name__}, name=…)"
                )
        self._models[described.name] = model
        if keep_local:
            self._kept_local.add(described.name)
        else:
            self._kept_local.discard(described.name)

    def keeps_local(self, name: str) -> bool:
        """Tell whether the records from before tracking are to be local only."""
        return name in self._kept_local

    def begin(self, connection: sqlite3.Connection) -> None:
        """Track the objects that the database describes from now on."""
        self._read = self._read_again(connection, self._read or _NOTHING_READ)

    def refresh(self, connection: sqlite3.Connection) -> Objects:
        """Return the objects as the database describes them now. Raises ``StoreNotReady`` before ``begin``.

        An object that is described as before is the same one as before.
        """
        self._read = read = self._read_again(connection, self._descriptions)
        return read.objects

    def _read_again(self, connection: sqlite3.Connection, before: _Descriptions) -> _Descriptions:
        read = _read_again(connection, before)
        if read is not before:
            for name in self._models.keys() & read.objects.keys():
                read.objects[name].computed = computed_defaults(self._models[name])
        return read

    def key_of(self, name: str, record: peewee.Model) -> str:
        """Return the key of an instance of an object's model, as it is stored. Raises ``UsageError``."""
        field = self._key_field(name, type(record))
        return _as_key(name, field.db_value(getattr(record, field.name)))

    def stored_key(self, name: str, key: object) -> str:
        """Return a key as it is stored: of a UUID the model's field knows the form, however it is written.

        Raises ``UsageError`` for what is no key.
        """
        model = self._models.get(name)
        if not isinstance(key, str if model is None else str | UUID):
            form = "a text as it is stored" if model is None else "a text or a UUID"
            raise UsageError(f"{key!r} is no key of {name}; give {form}")
        return _as_key(name, key if model is None else self._key_field(name, model).db_value(key))

    def _key_field(self, name: str, model: type[peewee.Model]) -> Any:
        return model._meta.columns[self.known[name].key]

    def name_of(self, model: type[peewee.Model]) -> str:
        """Return the object's name of a model. Raises ``UnknownObject`` if it is not tracked."""
        _check_model(model)
        for name, known in self._models.items():
            if known is model and name in self.objects:
                return name
        raise UnknownObject(
            f"{model.__name__} is not tracked by {self._store}; derive it from store.Model or call "
            "store.track() with it, and then setup()"
        )

    def forget(self, names: Iterable[str]) -> None:
        """Track these objects no longer."""
        gone, read = set(names), self._descriptions
        self._models = {name: model for name, model in self._models.items() if name not in gone}
        self._read = _Descriptions(
            {name: text for name, text in read.texts.items() if name not in gone},
            {name: tracked for name, tracked in read.known.items() if name not in gone},
        )

    def unregister(self, model: type[peewee.Model]) -> None:
        """Forget a model that could not be set up."""
        self._models = {name: known for name, known in self._models.items() if known is not model}


# -- the descriptions in the database --------------------------------------------------------------


@frozen(eq=False)
class _Descriptions:
    """The descriptions as they stand in the database, by the objects' names, and what was read from them."""

    texts: dict[str, str]
    known: Objects
    objects: Objects = field(init=False)

    @objects.default
    def _with_tables(self) -> Objects:
        return {name: tracked for name, tracked in self.known.items() if not tracked.is_gone}


_NOTHING_READ = _Descriptions({}, {})


def _read_again(connection: sqlite3.Connection, before: _Descriptions) -> _Descriptions:
    """Return ``before``, or what the database describes otherwise by now; an object that stayed is kept."""
    rows = connection.execute("SELECT name, description FROM statesync_object ORDER BY name")
    texts: dict[str, str] = dict(rows.fetchall())
    if texts == before.texts:
        return before
    known = {
        name: before.known[name] if before.texts.get(name) == text else _described(name, text)
        for name, text in texts.items()
    }
    return _Descriptions(texts, known)


def load(connection: sqlite3.Connection) -> Objects:
    """Return the tracked objects that the database describes. Raises ``StoreCorrupt`` for what is none."""
    return _read_again(connection, _NOTHING_READ).known


def _described(name: str, text: str) -> TrackedObject:
    try:
        return TrackedObject.from_json(name, text)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorrupt(
            f"the store's description of {name!r} cannot be read; repair() takes it out, and setup() "
            "makes it anew"
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


def _check_name(name: object) -> None:
    """Raise ``BadOptions`` for a name that no hub takes: no session of the object would ever be done."""
    check_kind("name", name, str, "a text")
    if len(str(name)) > MAX_KEY_LENGTH or "\0" in str(name) or not is_utf8(str(name)):
        raise BadOptions(f"name must have at most {MAX_KEY_LENGTH} characters, all of UTF-8, and no NUL")


def _check_model(model: object) -> None:
    if not (isinstance(model, type) and issubclass(model, peewee.Model)):
        raise BadOptions(f"a model must be a class that derives from peewee.Model, not {kind_of(model)}")


def _as_key(name: str, stored: object) -> str:
    key = str(stored)
    if not is_utf8(key):
        raise UsageError(f"{key!a} is no key of {name}: it cannot be written as UTF-8")
    return key
