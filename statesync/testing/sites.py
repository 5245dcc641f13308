"""The places of a simulated world: a hub that remembers all it wrote, and devices on the user's models."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import peewee

from statesync.conflicts import Record
from statesync.filters import Filter, Filters
from statesync.hub import Hub, HubLimits, LocalRemote, prepare
from statesync.hub.pages.matching import passes
from statesync.scope import Scope, Store
from statesync.store.rereading import reread
from statesync.store.tracking.describe import describe
from statesync.store.tracking.images import record_of_image
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import quoted
from statesync.testing.crashes import Watch
from statesync.testing.faults import FaultyRemote
from statesync.values import PendingChange

SPACE = "world"

_AUDIT = """
CREATE TABLE audit (object TEXT, key TEXT, deleted INTEGER, data TEXT, writer TEXT);
CREATE INDEX audit_key ON audit (object, key);
CREATE TRIGGER audit_insert AFTER INSERT ON record BEGIN
    INSERT INTO audit VALUES (NEW.object, NEW.key, NEW.deleted, NEW.data, NEW.writer);
END;
CREATE TRIGGER audit_update AFTER UPDATE ON record BEGIN
    INSERT INTO audit VALUES (NEW.object, NEW.key, NEW.deleted, NEW.data, NEW.writer);
END;
CREATE TABLE audit_receipt (
    client TEXT, number INTEGER, batch TEXT, UNIQUE (client, batch), UNIQUE (client, number)
);
CREATE TRIGGER audit_receipt_insert AFTER INSERT ON receipt BEGIN
    INSERT INTO audit_receipt VALUES (NEW.client, NEW.number, NEW.batch);
END;
CREATE TRIGGER audit_receipt_update AFTER UPDATE ON receipt BEGIN
    INSERT INTO audit_receipt VALUES (NEW.client, NEW.number, NEW.batch);
END;
"""

ORDINARY = HubLimits(epoch_pause=0.0)
"""What the hub takes while nobody says otherwise; it may be restored again and again."""

Known = dict[tuple[str, str], Record]
"""Records by (object, key)."""


class WorldHub:
    """A hub on a file of its own, whose triggers keep every write, and refuse to apply a batch twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.limits: HubLimits = ORDINARY
        prepare(self._url)
        with closing(sqlite3.connect(path)) as database:
            database.executescript(_AUDIT)
        self.open()

    @property
    def _url(self) -> str:
        return f"sqlite:///{self._path}"

    def open(self) -> None:
        """Open the hub; it was closed, or is new."""
        self.hub: Hub = Hub(self._url, without_tokens=True, limits=self.limits)

    def back_up(self) -> None:
        """Make a backup of the database, in place of the one before."""
        with closing(sqlite3.connect(self._path)) as now, closing(sqlite3.connect(self._backup)) as backup:
            now.backup(backup)

    def restore(self) -> None:
        """Put the backup in the place of the database; the hub is closed. What was written stays known."""
        written = self._ask("SELECT * FROM audit ORDER BY rowid")
        with closing(sqlite3.connect(self._backup)) as backup, closing(sqlite3.connect(self._path)) as now:
            backup.backup(now)
            with now:
                now.execute("DELETE FROM audit")
                now.executemany("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", written)

    @property
    def _backup(self) -> Path:
        return self._path.with_suffix(".backup")

    def forget_deletes(self) -> set[tuple[str, str]]:
        """Forget all deletes; return the (object, key) of what was deleted."""
        tombstones = set(self._ask("SELECT object, key FROM record WHERE deleted"))
        self.hub.purge(SPACE, 1 << 60)
        return tombstones

    def epoch(self) -> str | None:
        """Return the epoch that the hub is in, None before anything was synced."""
        rows = self._ask("SELECT epoch FROM space WHERE space = ?", SPACE)
        return rows[0][0] if rows else None

    def living(self) -> set[tuple[str, str]]:
        """Return the (object, key) of what is there."""
        return set(self._ask("SELECT object, key FROM record WHERE NOT deleted"))

    def has_had(self, name: str, key: str, clients: Collection[str]) -> bool:
        """Tell whether one of these clients ever wrote a record."""
        by = ", ".join("?" for _ in clients)
        written = f"SELECT 1 FROM audit WHERE object = ? AND key = ? AND writer IN ({by}) LIMIT 1"
        return bool(self._ask(written, name, key, *clients))

    def limit(self, limits: HubLimits) -> None:
        """Let other limits hold from now on."""
        self.limits = self.hub.limits = limits

    def remote(self) -> LocalRemote:
        """Return a new way to the hub."""
        return LocalRemote(self.hub, SPACE)

    def records(self, objects: dict[str, TrackedObject]) -> Known:
        """Return the living records, as a device would store them."""
        rows = self._ask("SELECT object, key, data FROM record WHERE NOT deleted")
        return {
            (name, key): objects[name].wire.read(data.encode()) for name, key, data in rows if name in objects
        }

    def history(self, tracked: TrackedObject, key: str) -> list[Record | None]:
        """Return everything that was ever written to a record; None is a delete."""
        rows = self._ask(
            "SELECT deleted, data FROM audit WHERE object = ? AND key = ? ORDER BY rowid", tracked.name, key
        )
        return [None if deleted else tracked.wire.read(data.encode()) for deleted, data in rows]

    def versions(self) -> dict[tuple[str, str], tuple[int, str | None]]:
        """Return the version and the data of each record, by (object, key); no data is a delete."""
        rows = self._ask("SELECT object, key, version, iif(deleted, NULL, data) FROM record")
        return {(name, key): (version, text) for name, key, version, text in rows}

    def values(self, column: str) -> list[tuple[str, str, Any]]:
        """Return (object, key, value) of everything that was ever written to a column, in its order."""
        written = "SELECT object, key, json_extract(data, '$.' || ?) FROM audit ORDER BY rowid"
        return self._ask(written, column)

    def deleted(self) -> set[tuple[str, str]]:
        """Return the records whose delete the hub was told of, ever."""
        return set(self._ask("SELECT object, key FROM audit WHERE deleted"))

    def hidden(self, filters: Filters) -> set[tuple[str, str]]:
        """Return the living records that a device with these filters is not shown."""
        of_object = "SELECT key, data FROM record WHERE object = ? AND NOT deleted"
        return {
            (name, key)
            for name, wanted in filters.items()
            for key, data in self._ask(of_object, name)
            if not passes(key, data.encode(), wanted)
        }

    def texts(self) -> str:
        """Return everything that was ever written to any record, as one text."""
        return "\n".join(data for (data,) in self._ask("SELECT data FROM audit WHERE data IS NOT NULL"))

    def foreign(self, client: str) -> list[tuple[str, str, int, str | None]]:
        """Return (object, key, version, data) that others than ``client`` wrote; no data is a delete."""
        return self._ask("SELECT object, key, version, data FROM record WHERE writer <> ?", client)

    def close(self) -> None:
        """Close the hub."""
        self.hub.close()

    def _ask(self, query: str, *parameters: Any) -> list[Any]:
        with closing(sqlite3.connect(self._path)) as database:
            return database.execute(query, parameters).fetchall()


class WorldDevice:
    """One store on the user's models. The models are bound to it within ``bound()`` alone.

    ``disturbed`` are records that went without being deleted, so that they need not be as the hub has them;
    ``once_local`` are those of which a damaged page took that they are local only.
    ``clients`` are the names that hubs have known it by.
    """

    def __init__(self, name: str, path: Path, models: Sequence[type[peewee.Model]]) -> None:
        self.name = name
        self.path = path
        self.models: tuple[type[peewee.Model], ...] = tuple(models)
        self.objects: dict[str, TrackedObject] = {one.name: one for one in map(describe, models)}
        self.disturbed: set[tuple[str, str]] = set()
        self.once_local: set[tuple[str, str]] = set()
        self.clients: set[str] = set()
        self._look: sqlite3.Connection | None = None

    def open(self, hub: WorldHub, watch: Watch | None = None) -> None:
        """Open store and scope, as a program does when it starts."""
        self.store: Store = Store(self.path)
        self.remote: FaultyRemote = FaultyRemote(hub.remote(), rates={}, delay=0.001)
        if watch is not None:
            watch.database(self.store.database)
        self._set_up()
        self.scope: Scope = self.store.scope(watch.remote(self.remote) if watch else self.remote)

    def _set_up(self) -> None:
        with self.bound():
            for model in self.models:
                self.store.track(model)
            self.store.setup()

    def epoch(self) -> str | None:
        """Return the epoch that the device believes in."""
        with self.looking() as found:
            row = found.execute("SELECT epoch FROM statesync_space").fetchone()
        return None if row is None else row[0]

    def head(self) -> int:
        """Return the highest head of its hub that the device has been told of."""
        with self.looking() as found:
            row = found.execute("SELECT max(head) FROM statesync_space").fetchone()
        return int(row[0] or 0)

    def note_client(self) -> None:
        """Remember by which name the device is known now."""
        with self.looking() as found:
            self.clients |= {client for (client,) in found.execute("SELECT client FROM statesync_space")}

    def own(self, model: type[peewee.Model]) -> type[peewee.Model]:
        """Return the model as this device's program has it."""
        return model

    def record(self, name: str, key: str) -> peewee.Model:
        """Return what names a record to the store."""
        model = self.own(next(one for one in self.models if one.__name__ == name))
        made = model()
        setattr(made, key_of(model).name, key)
        return made

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Let the models mean this device's records for the length of the block."""
        with self.store.database.bind_ctx(self.models):
            yield

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def records(self) -> Known:
        """Return all records, as the database has them."""
        with self.looking() as found:
            return {
                (name, key): tracked.record_of(tuple(values))
                for name, tracked in self.objects.items()
                for key, *values in found.execute(_select_all(tracked))
            }

    def has_read(self, name: str, key: str, hub: WorldHub) -> bool:
        """Tell whether this device has seen what others have written last to a record."""
        with self.looking() as found:
            client = found.execute("SELECT client FROM statesync_space").fetchone()
            read = "SELECT object, max(cursor, coalesce(reread_from, 0)) FROM statesync_cursor"
            cursors = dict(found.execute(read))  # what is read again was read before
        written = hub.foreign(client[0] if client else "")
        return all(at <= cursors.get(name, 0) for of, which, at, _ in written if (of, which) == (name, key))

    @contextmanager
    def looking(self) -> Iterator[sqlite3.Connection]:
        """Look into the database by a plain connection; looks within a look are by the same one."""
        if self._look is not None:
            yield self._look
            return
        with closing(sqlite3.connect(self.path)) as found:
            self._look = found
            try:
                yield found
            finally:
                self._look = None

    def filters(self) -> Filters:
        """Return the filters with which the objects are read."""
        with self.looking() as found:
            rows = found.execute("SELECT object, filter FROM statesync_cursor WHERE filter IS NOT NULL")
            return {name: Filter.from_text(text) for name, text in rows}

    def set_aside(self) -> set[tuple[str, str]]:
        """Return the records that were changed here, and so need not be as the hub has them."""
        with self.looking() as found:
            changed = set(found.execute("SELECT object, key FROM statesync_change"))
            logged = {
                (name, key)
                for name, tracked in self.objects.items()
                for (key,) in found.execute(f"SELECT key FROM {quoted(tracked.log)}")
            }
        return changed | logged | self.local_keys() | self.disturbed

    def local_keys(self) -> set[tuple[str, str]]:
        """Return the records that are local only."""
        with self.looking() as found:
            return set(found.execute("SELECT object, key FROM statesync_local"))

    def held(self) -> dict[tuple[str, str], tuple[int, Record | None]]:
        """Return the version and the record of each that is in quarantine; None is a delete."""
        return {(one.object, one.key): (one.version, one.record) for one in self.store.quarantine()}

    def pending_keys(self) -> set[tuple[str, str]]:
        """Return the records of the world's models with a change that waits for the hub."""
        return set(self.pending())

    def pending(self) -> dict[tuple[str, str], PendingChange]:
        """Return the changes of the world's models that wait for the hub, by their records."""
        return {place: change for place, change in self.waiting().items() if place[0] in self.objects}

    def waiting(self) -> dict[tuple[str, str], PendingChange]:
        """Return the changes that wait for the hub, also those of a visitor's models, by their records."""
        return {(change.object, change.key): change for change in self.store.pending()}

    def refusals(self) -> Counter[tuple[str, str]]:
        """Return how often each change that waits was refused."""
        with self.looking() as found:
            rows = found.execute("SELECT object, key, refusals FROM statesync_change")
            return Counter({(name, key): count for name, key, count in rows})

    def descriptions(self) -> dict[str, str]:
        """Return what programs have said of each object."""
        with self.looking() as found:
            return dict(found.execute("SELECT name, description FROM statesync_object").fetchall())

    def has_doubt(self) -> bool:
        """Tell whether an upload has no answer yet."""
        with self.looking() as found:
            return found.execute("SELECT 1 FROM statesync_batch WHERE doubt = 1").fetchone() is not None

    def conflicts(self, name: str, key: str) -> list[tuple[Record | None, ...]]:
        """Return (base, local, remote, kept) of every conflict that was logged for a record."""
        with self.looking() as found:
            rows = found.execute(
                "SELECT base, local, remote, kept FROM statesync_conflict WHERE object = ? AND key = ?",
                (name, key),
            ).fetchall()
        return [tuple(map(record_of_image, row)) for row in rows]


def key_of(model: type[peewee.Model]) -> peewee.Field:
    """Return the key of a model that has one."""
    key = model._meta.primary_key
    assert isinstance(key, peewee.Field), f"{model.__name__} has no single key column"
    return key


def read_again(device: WorldDevice, why: str) -> None:
    """Let a device read everything from the start: tracking was off, or it has missed deletes."""
    parts = device.store._parts
    with parts.database.transaction() as connection:
        reread(connection, parts.objects, why)


def _select_all(tracked: TrackedObject) -> str:
    return tracked.sql.select_all
