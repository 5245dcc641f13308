"""The limit: what a careful programmer would write by hand over sqlite3, http.client and msgspec.

None of the framework's code is used. The loop has the same durability (WAL, FULL, the cursor saved with the
page, an upload's payload saved before it is sent so that it can be sent again) and the same pragmas.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from statistics import median
from typing import Any

import msgspec

from .records import FIELDS, OBJECT, Item, Row

REST = 0.01
"""Seconds before a sync with nothing to do, on either side. A hub that has rested answers later than one that
is asked again at once: without a pause it rests for milliseconds before a sync's request, and not before a
bare one."""

_PRAGMAS = (
    "PRAGMA journal_mode = wal",
    "PRAGMA synchronous = full",
    "PRAGMA cache_size = -16000",
)
_COLUMNS = ", ".join(FIELDS)
_SCHEMA = """
CREATE TABLE item (id TEXT NOT NULL PRIMARY KEY, code TEXT NOT NULL, name TEXT NOT NULL, note TEXT NOT NULL,
    quantity INTEGER NOT NULL, price REAL NOT NULL, active INTEGER NOT NULL);
CREATE INDEX item_code ON item (code);
CREATE TABLE outbox (position INTEGER PRIMARY KEY, key TEXT NOT NULL, operation TEXT NOT NULL, image TEXT);
CREATE TABLE standing (client TEXT, number INTEGER, hub TEXT, epoch TEXT, cursor INTEGER, on_ INTEGER);
CREATE TABLE sending (batch TEXT, through INTEGER, payload BLOB);
"""
_IMAGE = f"json_object({', '.join(f'{name!r}, OLD.{name}' for name in FIELDS)})"
_ON = "WHEN (SELECT on_ FROM standing)"
TRIGGERS = (
    f"CREATE TRIGGER item_i AFTER INSERT ON item {_ON} BEGIN "
    "INSERT INTO outbox (key, operation) VALUES (NEW.id, 'insert'); END",
    f"CREATE TRIGGER item_u AFTER UPDATE ON item {_ON} BEGIN "
    f"INSERT INTO outbox (key, operation, image) VALUES (OLD.id, 'update', {_IMAGE}); END",
    f"CREATE TRIGGER item_d AFTER DELETE ON item {_ON} BEGIN "
    f"INSERT INTO outbox (key, operation, image) VALUES (OLD.id, 'delete', {_IMAGE}); END",
)
_UPSERT = (
    f"INSERT INTO item (id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in FIELDS)
)
_WAITING = (
    f"SELECT outbox.position, outbox.key, item.id, {', '.join(f'item.{name}' for name in FIELDS)} "
    "FROM outbox LEFT JOIN item ON item.id = outbox.key ORDER BY outbox.position LIMIT ?"
)


class _Entry(msgspec.Struct):
    key: str
    deleted: bool = False
    data: Item | None = None


class _Page(msgspec.Struct):
    hub: str
    epoch: str
    changes: list[_Entry]
    cursors: dict[str, int]
    more: bool


class _Verdict(msgspec.Struct):
    status: str


class _Answer(msgspec.Struct):
    hub: str
    epoch: str
    results: list[_Verdict]


class _Change(msgspec.Struct):
    object: str
    key: str
    op: str
    base: int
    data: Item | None = None


class _Push(msgspec.Struct):
    client: str
    number: int
    batch: str
    hub: str | None
    epoch: str | None
    changes: msgspec.Raw


_page = msgspec.json.Decoder(_Page)
_answer = msgspec.json.Decoder(_Answer)


def create(path: str) -> None:
    """Make the database of a device."""
    connection = connect(path)
    connection.executescript(_SCHEMA)
    connection.execute("INSERT INTO standing VALUES (?, 0, NULL, NULL, 0, 1)", (str(uuid.uuid4()),))
    for trigger in TRIGGERS:
        connection.execute(trigger)
    connection.close()


def connect(path: str) -> sqlite3.Connection:
    """Open a device's database as the framework does."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    return connection


def insert(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Write records as the program would: they are to be uploaded."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(_UPSERT, rows)
    connection.execute("COMMIT")


class Loop:
    """One device's loop over one kept-alive connection."""

    def __init__(self, path: str, port: int, space: str) -> None:
        self._device = connect(path)
        self._http = HTTPConnection("127.0.0.1", port)
        self._path = f"/v1/spaces/{space}/"
        standing = self._device.execute("SELECT client, number, hub, epoch, cursor FROM standing")
        self.client, self.number, self.hub, self.epoch, self.cursor = standing.fetchone()

    def upload(self, limit: int) -> int:
        """Send what waits in the outbox, ``limit`` records a batch; return how many there were."""
        sent = 0
        while waiting := self._device.execute(_WAITING, (limit,)).fetchall():
            self._upload_batch(waiting)
            sent += len(waiting)
        return sent

    def _upload_batch(self, waiting: list[Row]) -> None:
        payload = msgspec.json.encode([_change(row, self.cursor) for row in waiting])
        batch, through = str(uuid.uuid4()), waiting[-1][0]
        self._device.execute("BEGIN IMMEDIATE")
        self._device.execute("INSERT INTO sending VALUES (?, ?, ?)", (batch, through, payload))
        self._device.execute("COMMIT")
        body = _Push(self.client, self.number + 1, batch, self.hub, self.epoch, msgspec.Raw(payload))
        answer = _answer.decode(self.ask("push", msgspec.json.encode(body)))
        if any(verdict.status != "accepted" for verdict in answer.results):
            raise RuntimeError("the bare loop knows no conflicts")
        self.number, self.hub, self.epoch = self.number + 1, answer.hub, answer.epoch
        self._device.execute("BEGIN IMMEDIATE")
        self._device.execute("DELETE FROM outbox WHERE position <= ?", (through,))
        self._device.execute("DELETE FROM sending")
        self._save_standing()
        self._device.execute("COMMIT")

    def download(self, limit: int) -> int:
        """Fetch pages until there are no more; return how many records came."""
        came, more = 0, True
        while more:
            page = _page.decode(self.ask("pull", self.pull_body(limit)))
            self._store(page)
            came += len(page.changes)
            more = page.more
        return came

    def _store(self, page: _Page) -> None:
        living = [
            (entry.key, *msgspec.structs.astuple(entry.data))
            for entry in page.changes
            if entry.data is not None
        ]
        deleted = [(entry.key,) for entry in page.changes if entry.deleted]
        self.hub, self.epoch, self.cursor = page.hub, page.epoch, page.cursors[OBJECT]
        self._device.execute("BEGIN IMMEDIATE")
        self._device.execute("UPDATE standing SET on_ = 0")
        self._device.executemany(_UPSERT, living)
        self._device.executemany("DELETE FROM item WHERE id = ?", deleted)
        self._device.execute("UPDATE standing SET on_ = 1")
        self._save_standing()
        self._device.execute("COMMIT")

    def _save_standing(self) -> None:
        self._device.execute(
            "UPDATE standing SET number = ?, hub = ?, epoch = ?, cursor = ?",
            (self.number, self.hub, self.epoch, self.cursor),
        )

    def pull_body(self, limit: int) -> bytes:
        """Return the body of the next pull."""
        objects = {OBJECT: {"cursor": self.cursor}}
        body = {"client": self.client, "number": self.number, "hub": self.hub, "epoch": self.epoch}
        return msgspec.json.encode({**body, "objects": objects, "limit": limit})

    def ask(self, verb: str, body: bytes) -> bytes:
        """Post one request and return the answer's body."""
        self._http.request("POST", self._path + verb, body, {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{verb}: {answer.status} {content[:300]!r}")
        return content

    def close(self) -> None:
        """Release the connections."""
        self._http.close()
        self._device.close()


def _change(row: Row, cursor: int) -> dict[str, Any] | _Change:
    if row[2] is None:
        return {"object": OBJECT, "key": row[1], "op": "delete", "base": max(cursor, 1)}
    code, name, note, quantity, price, active = row[3:]
    item = Item(code, name, note, quantity, price, bool(active))
    return _Change(OBJECT, row[1], "upsert", cursor, item)


class Tuned(Loop):
    """The same loop, as fast as it can be made in the order of versions: with our caches, and fetching ahead.

    SQLite's log may become as long as a session's of ours, and is written back when the time is taken.
    """

    def __init__(self, path: str, port: int, space: str) -> None:
        super().__init__(path, port, space)
        self._device.execute("PRAGMA wal_autocheckpoint = 4000")

    def download(self, limit: int) -> int:
        """Fetch pages until there are no more, each while the one before it is stored."""
        came = 0
        with ThreadPoolExecutor(1) as ahead:
            page = self._page(limit)
            while True:
                self.cursor = page.cursors[OBJECT]
                coming = ahead.submit(self._page, limit) if page.more else None
                self._store(page)
                came += len(page.changes)
                if coming is None:
                    return came
                page = coming.result()

    def _page(self, limit: int) -> _Page:
        return _page.decode(self.ask("pull", self.pull_body(limit)))


# -- what a measured process runs ------------------------------------------------------------------


def download(path: str, port: int, space: str, limit: int) -> dict[str, float]:
    """Fetch everything into an empty device."""
    create(path)
    began, cpu = time.perf_counter(), time.process_time()
    loop = Loop(path, port, space)
    count = loop.download(limit)
    loop.close()
    return _figures(began, cpu, count)


def download_tuned(path: str, port: int, space: str, limit: int) -> dict[str, float]:
    """Fetch everything into an empty device, by the tuned loop."""
    create(path)
    began, cpu = time.perf_counter(), time.process_time()
    loop = Tuned(path, port, space)
    figures = _figures(began, cpu, loop.download(limit))
    loop.close()
    return figures


def upload(path: str, port: int, space: str, limit: int, order: str, count: int) -> dict[str, float]:
    """Send ``count`` records that were made on the device."""
    from .records import rows

    create(path)
    connection = connect(path)
    insert(connection, list(rows(order, count, seed=2)))
    connection.close()
    began, cpu = time.perf_counter(), time.process_time()
    loop = Loop(path, port, space)
    sent = loop.upload(limit)
    loop.close()
    return _figures(began, cpu, sent)


def exchange(
    path: str, port: int, space: str, limit: int, changes: int, among: int, seed: int
) -> dict[str, float]:
    """Change ``changes`` of the newest records of a device that has everything, then upload and download."""
    connection = connect(path)
    change_some(connection, changes, among, seed)
    connection.close()
    began, cpu = time.perf_counter(), time.process_time()
    loop = Loop(path, port, space)
    moved = loop.upload(limit) + loop.download(limit)
    loop.close()
    return _figures(began, cpu, moved)


def change_some(connection: sqlite3.Connection, changes: int, among: int, seed: int) -> None:
    """Change records here and there ``among`` the newest: not those that others change."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "UPDATE item SET quantity = quantity + 1, note = ? || substr(note, 5) WHERE rowid IN "
        "(SELECT rowid FROM item WHERE rowid % 2 = 0 AND rowid > (SELECT max(rowid) FROM item) - ? "
        "ORDER BY rowid * ? % 9973 LIMIT ?)",
        (f"{seed % 10_000:04d}", among, seed * 2 + 1, changes),
    )
    connection.execute("COMMIT")


def request(path: str, port: int, space: str, limit: int, repeat: int) -> dict[str, float]:
    """Ask again and again whether there is anything new: the medians of the request, and of two commits.

    Two commits are the least that a promise costs: what begins is written down, and what came of it.
    """
    create(path)
    loop = Loop(path, port, space)
    loop.download(limit)
    body = loop.pull_body(limit)
    times, commits = [], []
    for _ in range(repeat):
        commits.append(_two_commits(path))
        time.sleep(REST)
        began = time.perf_counter()
        _page.decode(loop.ask("pull", body))
        times.append(time.perf_counter() - began)
    loop.close()
    return {"seconds": median(times), "commits": median(commits)}


def _two_commits(path: str) -> float:
    connection = connect(path)
    began = time.perf_counter()
    for _ in range(2):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE standing SET number = number + 1")
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


def _figures(began: float, cpu: float, records: int) -> dict[str, float]:
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "records": records,
    }


def write_in_bulk(connection: sqlite3.Connection, rows: list[Row]) -> dict[str, float]:
    """Insert, update and delete records in bulk, one transaction each, and time them."""
    figures: dict[str, float] = {}
    works: dict[str, Callable[[], sqlite3.Cursor]] = {
        "insert": lambda: connection.executemany(_UPSERT, rows),
        "update": lambda: connection.execute("UPDATE item SET quantity = quantity + 1"),
        "delete": lambda: connection.execute("DELETE FROM item"),
    }
    for name, work in works.items():
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        work()
        connection.execute("COMMIT")
        figures[name] = time.perf_counter() - began
    return {**figures, "seconds": sum(figures.values())}


def writes(path: str, count: int) -> dict[str, float]:
    """Write records in bulk under hand-written triggers: key, operation and image."""
    from .records import rows

    create(path)
    connection = connect(path)
    figures = write_in_bulk(connection, list(rows("random", count)))
    connection.close()
    return figures
