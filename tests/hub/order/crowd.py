"""Writers and readers that run in processes of their own, over one hub database."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import msgspec

from statesync.hub import Hub, requests, spaces
from statesync.hub.access.rights import ALL_RIGHTS, Rights
from statesync.hub.db.database import Database, Written
from statesync.hub.limits import Ask, unbounded
from statesync.wire import Page

SPACE = "crowded"
LONGEST_HOLD = 0.004


class Dawdling(Database):
    """A database whose writing transactions are held open, now and then, before they are committed."""

    @contextmanager
    def writing(self, *, together: bool = False) -> Generator[None]:
        with super().writing(together=together):
            yield
            if random.random() < 0.3:
                time.sleep(random.uniform(0, LONGEST_HOLD))


class LateCommits(Hub):
    """A hub that is broken on purpose: it hands out versions before the transaction that writes them."""

    def push(self, space: str, body: bytes, rights: Rights = ALL_RIGHTS, ask: Ask = unbounded) -> bytes:
        assert ask(len(body))
        request = requests.read_push(body, self.limits)
        changes = request.changes
        with self.database.writing():
            head = spaces.lock(self.database, space, request.envelope.client, 10).head
            self.database.run("UPDATE space SET head = ? WHERE space = ?", head + len(changes), space)
        time.sleep(random.uniform(0, LONGEST_HOLD))
        with self.database.writing():
            records = [
                Written(change.object, change.key, head + place, False, b"{}")
                for place, change in enumerate(changes, 1)
            ]
            self.database.dialect.write(self.database.pool, space, request.envelope.client, records)
        return b""


def write(url: str, kind: type[Hub], name: str, batches: int, size: int) -> None:
    """Push ``batches`` batches of ``size`` new records, each named by its writer and its place."""
    hub = kind(url, without_tokens=True, connections=1, patience=60)
    hub.database = Dawdling(hub.database.pool, hub.database.dialect)
    for number in range(1, batches + 1):
        keys = range((number - 1) * size, number * size)
        changes = [
            {"object": "A", "key": f"{name}-{key}", "op": "upsert", "base": 0, "data": {}} for key in keys
        ]
        envelope = {"client": name, "number": number, "batch": str(number), "hub": None, "epoch": None}
        hub.push(SPACE, json.dumps(envelope | {"changes": changes}).encode())
    hub.close()


def read(url: str, name: str, finished: Event, report: Connection) -> None:
    """Follow the feed until the writers have finished and it is drained; report every key, as it came."""
    hub = Hub(url, without_tokens=True, connections=1, patience=60)
    cursor, keys, last = 0, [], False
    while True:
        page = _page(hub, name, cursor)
        keys += [entry.key for entry in page.changes]
        versions = [entry.version for entry in page.changes]
        assert versions == sorted(versions)
        assert not versions or cursor < versions[0] <= versions[-1] <= page.head
        cursor = page.cursors["A"]
        if not page.more:
            if last:
                break
            last = finished.wait(0.002)  # what was committed before this moment is in the next pages
    hub.close()
    report.send(keys)


def _page(hub: Hub, name: str, cursor: int) -> Page:
    envelope = {"client": name, "number": 0, "hub": None, "epoch": None, "limit": 2000}
    body = json.dumps(envelope | {"objects": {"A": {"cursor": cursor}}}).encode()
    return msgspec.json.decode(hub.pull(SPACE, body), type=Page)
