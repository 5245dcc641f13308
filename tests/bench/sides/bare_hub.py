"""The limit for the hub: the least that a hand-written one does on the same stack, with the same durability.

Starlette on uvicorn over SQLite or PostgreSQL: a push compares versions, writes, and keeps a receipt in one
transaction; a pull splices the stored texts. No limits, no rights, no epochs, no filters, no refusals.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
import uvicorn
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from statesync.hub.http.serving import listen

_TABLES = (
    "CREATE TABLE IF NOT EXISTS space (space TEXT PRIMARY KEY, head BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS record (space TEXT, object TEXT, key TEXT, version BIGINT, writer TEXT, "
    "deleted BOOLEAN, data TEXT, PRIMARY KEY (space, object, key))",
    "CREATE UNIQUE INDEX IF NOT EXISTS record_feed ON record (space, object, version)",
    "CREATE TABLE IF NOT EXISTS receipt (space TEXT, client TEXT, number BIGINT, answer TEXT, "
    "PRIMARY KEY (space, client))",
)
_HEAD = "SELECT head FROM space WHERE space = ?"
_FIND = "SELECT version, writer FROM record WHERE space = ? AND object = ? AND key = ?"
_WRITE = (
    "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (space, object, key) DO UPDATE SET "
    "version = excluded.version, writer = excluded.writer, deleted = excluded.deleted, data = excluded.data"
)
_RECEIPT = (
    "INSERT INTO receipt VALUES (?, ?, ?, ?) ON CONFLICT (space, client) DO UPDATE SET "
    "number = excluded.number, answer = excluded.answer"
)
_PAGE = (
    "SELECT key, version, deleted, data FROM record WHERE space = ? AND object = ? AND version > ? "
    "AND version <= ? AND writer <> ? ORDER BY version LIMIT ?"
)
_FIND_ALL = (
    "SELECT record.key, record.version, record.writer FROM unnest(%s::text[]) AS wanted (key) "
    "JOIN record ON record.space = %s AND record.object = %s AND record.key = wanted.key"
)
_WRITE_ALL = (
    "INSERT INTO record SELECT %s, %s, key, version, %s, deleted, data "
    "FROM unnest(%s::text[], %s::bigint[], %s::boolean[], %s::text[]) AS new (key, version, deleted, data) "
    "ON CONFLICT (space, object, key) DO UPDATE SET "
    "version = excluded.version, writer = excluded.writer, deleted = excluded.deleted, data = excluded.data"
)


class _Change(msgspec.Struct):
    object: str
    key: str
    op: str
    base: int
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Push(msgspec.Struct):
    client: str
    number: int
    changes: list[_Change]


class _Feed(msgspec.Struct):
    cursor: int


class _Pull(msgspec.Struct):
    client: str
    objects: dict[str, _Feed]
    limit: int


class _Bare:
    """One connection a thread; every request is one transaction."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_sqlite = url.startswith("sqlite")
        self._local = threading.local()
        for statement in _TABLES:
            self._run(statement)

    def _connection(self) -> Any:
        if not hasattr(self._local, "connection"):
            if self._is_sqlite:
                connection: Any = sqlite3.connect(self._url.removeprefix("sqlite:///"), isolation_level=None)
                for pragma in ("journal_mode = wal", "synchronous = full", "wal_autocheckpoint = 8000",
                               "cache_size = -65536", "busy_timeout = 10000"):  # fmt: skip
                    connection.execute(f"PRAGMA {pragma}")
            else:
                connection = psycopg.connect(self._url, autocommit=True)
            self._local.connection = connection
        return self._local.connection

    def _run(self, sql: str, *values: object) -> Any:
        return self._connection().execute(sql if self._is_sqlite else sql.replace("?", "%s"), values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE" if self._is_sqlite else "BEGIN")
        yield
        self._run("COMMIT")

    def pull(self, space: str, body: bytes) -> bytes:
        asked = msgspec.json.decode(body, type=_Pull)
        ((name, feed),) = asked.objects.items()
        self._run("BEGIN" if self._is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ")
        (head,) = self._run(_HEAD, space).fetchone() or (0,)
        rows = []
        if feed.cursor < head:
            rows = self._run(_PAGE, space, name, feed.cursor, head, asked.client, asked.limit + 1).fetchall()
        self._run("COMMIT")
        more, rows = len(rows) > asked.limit, rows[: asked.limit]
        entries = [
            f'{{"object":"{name}","key":"{key}","version":{version},'
            + ('"deleted":true}' if deleted else f'"data":{data}}}')
            for key, version, deleted, data in rows
        ]
        cursor = rows[-1][1] if more else head
        return (
            f'{{"hub":"bare","epoch":"1","head":{head},"changes":[{",".join(entries)}],'
            f'"cursors":{{"{name}":{cursor}}},"more":{"true" if more else "false"}}}'
        ).encode()

    def push(self, space: str, body: bytes) -> bytes:
        offer = msgspec.json.decode(body, type=_Push)
        with self._transaction():
            self._run("INSERT INTO space VALUES (?, 0) ON CONFLICT DO NOTHING", space)
            (head,) = self._run(_HEAD + ("" if self._is_sqlite else " FOR UPDATE"), space).fetchone()
            before = head
            self._run("SELECT number FROM receipt WHERE space = ? AND client = ?", space, offer.client)
            known, verdicts, writes = self._find(space, offer.changes), [], []
            for change in offer.changes:
                version, writer = known.get(change.key, (0, ""))
                if version > change.base and writer != offer.client:
                    raise RuntimeError("the bare hub knows no conflicts")
                head += 1
                text = None if change.data is msgspec.UNSET else bytes(change.data).decode()
                writes.append((space, change.object, change.key, head, offer.client, text is None, text))
                verdicts.append(f'{{"status":"accepted","version":{head}}}')
            answer = f'{{"hub":"bare","epoch":"1","head":{head},"results":[{",".join(verdicts)}]}}'
            if head != before:
                self._write(space, offer, writes)
                self._run("UPDATE space SET head = ? WHERE space = ?", head, space)
            self._run(_RECEIPT, space, offer.client, offer.number, answer)
        return answer.encode()

    def _find(self, space: str, changes: list[_Change]) -> dict[str, tuple[int, str]]:
        keys = [change.key for change in changes]
        if not self._is_sqlite:
            rows = self._connection().execute(_FIND_ALL, (keys, space, changes[0].object))
            return {key: (version, writer) for key, version, writer in rows}
        found = ((key, self._run(_FIND, space, changes[0].object, key).fetchone()) for key in keys)
        return {key: row for key, row in found if row is not None}

    def _write(self, space: str, offer: _Push, writes: list[tuple[Any, ...]]) -> None:
        if self._is_sqlite:
            self._connection().executemany(_WRITE, writes)
        else:
            columns = [[row[at] for row in writes] for at in (2, 3, 5, 6)]
            self._connection().execute(_WRITE_ALL, (space, offer.changes[0].object, offer.client, *columns))


def application(url: str) -> Starlette:
    """Return the bare hub over the database at ``url``."""
    bare = _Bare(url)

    async def serve(request: Request) -> Response:
        work = bare.push if request.path_params["verb"] == "push" else bare.pull
        answer = await run_sync(work, request.path_params["space"], await request.body())
        return Response(answer, media_type="application/json")

    return Starlette(routes=[Route("/v1/spaces/{space}/{verb}", serve, methods=["POST"])])


@contextmanager
def serving_bare(url: str) -> Iterator[str]:
    """Serve the bare hub as ``statesync.hub.http.serving`` serves the hub, and give its address."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(application(url), lifespan="off", ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
