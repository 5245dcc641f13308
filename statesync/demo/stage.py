"""What the story is played with: a hub that counts what it sends, and devices.

Whatever is asked here is answered by a database or by the hub's count, never from memory of what was done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from attrs import field

from statesync.classes import define, frozen
from statesync.demo.airports import FIELDS, define_airport
from statesync.hub import Hub, prepare, serving
from statesync.hub.access.rights import Rights
from statesync.hub.limits import Ask, unbounded
from statesync.net.remote import HttpRemote
from statesync.scope import Scope, Store
from statesync.store.tracking.model import Model
from statesync.values import SessionInfo
from statesync.wire import Page, Pull

SPACE = "airports"
OBJECT = "Airport"

Records = dict[str, dict[str, Any]]
"""Records by key."""


@frozen
class Sent:
    """One page that the hub has sent: to which client, and the keys in it."""

    client: str
    keys: tuple[str, ...]


class CountingHub(Hub):
    """A hub that notes every record that it sends."""

    def __init__(self, url: str) -> None:
        super().__init__(url, without_tokens=True, objects=[OBJECT])
        self.sent: list[Sent] = []

    def take_pull(self, space: str, body: bytes, rights: Rights, ask: Ask = unbounded) -> Callable[[], bytes]:
        """Answer as a hub does, and note the page."""
        made = super().take_pull(space, body, rights, ask)

        def noted() -> bytes:
            answer = made()
            keys = tuple(entry.key for entry in msgspec.json.decode(answer, type=Page).changes)
            self.sent.append(Sent(msgspec.json.decode(body, type=Pull).client, keys))
            return answer

        return noted

    def keys_sent_to(self, device: Device, since: int = 0) -> list[str]:
        """Return the key of every record sent to ``device``, from the page with the number ``since`` on."""
        client = device.client()
        return [key for page in self.sent[since:] if page.client == client for key in page.keys]

    def records(self) -> Records:
        """Return the records that the hub's database holds."""
        with self.database.reading():
            rows = self.database.run(
                "SELECT key, data FROM record WHERE space = ? AND object = ? AND NOT deleted", SPACE, OBJECT
            ).fetchall()
        return {key: msgspec.json.decode(data) for key, data in rows}


@define(eq=False)
class Device:
    """A program with a database of its own, in this process."""

    name: str
    store: Store
    airports: type[Model]
    scope: Scope

    @classmethod
    def open(cls, name: str, path: Path, address: str) -> Device:
        """Open the device's database, or make it, as its program does when it starts."""
        store = Store(path)
        airports = define_airport(store)
        store.setup()
        return cls(name, store, airports, store.scope(HttpRemote(address, SPACE)))

    def count(self) -> int:
        """Return how many airports the database holds."""
        return self.airports.select().count()

    def records(self) -> Records:
        """Return the airports that the database holds."""
        rows = self._query(f"SELECT id, {', '.join(FIELDS)} FROM airport")
        return {key: dict(zip(FIELDS, values, strict=True)) for key, *values in rows}

    def sessions(self) -> list[SessionInfo]:
        """Return the sessions in the database's history, oldest first."""
        return self.store.sessions()

    def last_session(self) -> SessionInfo:
        """Return the newest session of the history."""
        return self.sessions()[-1]

    def airport(self, icao: str) -> Any:
        """Return the airport with this code, or None."""
        return self.airports.get_or_none(icao=icao)

    def client(self) -> str:
        """Return the name by which the hub knows this device."""
        return str(self._query("SELECT client FROM statesync_space")[0][0])

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.store.database.execute_sql(sql).fetchall()  # type: ignore[no-untyped-call]
        return rows


def digest(records: Records) -> str:
    """Return a checksum of records; equal records have equal ones."""
    text = json.dumps(sorted(records.items()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@define(eq=False)
class Stage:
    """The hub at ``address`` and the devices that have come up so far, with their files in ``folder``."""

    folder: Path
    hub: CountingHub
    address: str
    devices: dict[str, Device] = field(factory=dict)

    def device(self, name: str) -> Device:
        """Return the device with this name; it is opened when it is asked for first."""
        if name not in self.devices:
            self.devices[name] = Device.open(name, self.path(name), self.address)
        return self.devices[name]

    def path(self, name: str) -> Path:
        """Return where the database of the device with this name is."""
        return self.folder / f"device-{name.lower()}.db"


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Serve a new hub on loopback, its files in ``folder``; close it and every device at the end."""
    url = f"sqlite:///{folder / 'hub.db'}"
    prepare(url)
    with closing(CountingHub(url)) as hub, serving(hub) as address:
        stage = Stage(folder, hub, address)
        try:
            yield stage
        finally:
            for device in stage.devices.values():
                device.store.close()
