"""The same work by statesync: what a measured process runs, on the public API alone."""

from __future__ import annotations

import random
import sqlite3
import time
from typing import Any

from attrs import evolve
from peewee import BooleanField, CharField, FloatField, IntegerField

from statesync import HttpRemote, Scope, Store, SyncOptions
from statesync.session import loading

from .bare import REST, change_some, insert, write_in_bulk
from .records import FIELDS, rows


def open_store(path: str, keep: int = 1000) -> tuple[Store, Any]:
    """Open a device's store with its one model; ``keep`` is how many sessions its history keeps."""
    store = Store(path, keep_sessions=keep)

    class Item(store.Model):  # type: ignore[misc, name-defined]
        code = CharField(index=True)
        name = CharField()
        note = CharField()
        quantity = IntegerField()
        price = FloatField()
        active = BooleanField()

    store.setup()
    return store, Item


def scope_of(store: Store, port: int, space: str) -> Scope:
    """Return everything in the store, to be synced with ``space``."""
    loading.load()  # what a session has inside is imported, and measured as an import
    return store.scope(HttpRemote(f"http://127.0.0.1:{port}", space=space))


def options(limit: int) -> SyncOptions:
    """Return the options of a measured session; 0: as a program has them that says nothing."""
    return SyncOptions(download_batch_size=limit, upload_batch_size=limit) if limit else SyncOptions()


def raw(store: Store) -> sqlite3.Connection:
    """Return the store's connection without Peewee around it."""
    connection: sqlite3.Connection = store.database.connection()  # type: ignore[no-untyped-call]
    return connection


def _timed_sync(store: Store, port: int, space: str, limit: int, **more: Any) -> dict[str, float]:
    scope, chosen = scope_of(store, port, space), evolve(options(limit), get_sync_stats=True, **more)
    began, cpu = time.perf_counter(), time.process_time()
    stats = scope.sync(chosen).stats
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "records": stats.uploaded + stats.downloaded,
        "longest": max((batch.storing for batch in stats.batches), default=0.0),
    }
    store.close()
    return figures


def download(path: str, port: int, space: str, limit: int) -> dict[str, float]:
    """Fetch everything into an empty device."""
    store, _ = open_store(path)
    return _timed_sync(store, port, space, limit)


def download_again(path: str, port: int, space: str, limit: int) -> dict[str, float]:
    """Fetch everything once more, after ``clear()``."""
    store, _ = open_store(path)
    store.clear()
    return _timed_sync(store, port, space, limit)


def read_again(path: str, port: int, space: str, limit: int) -> dict[str, float]:
    """Read everything from the start on a device that has it: its cursor says that it missed deletes.

    That is what it says once a hub has told that its horizon is passed.
    """
    store, _ = open_store(path)
    raw(store).execute(
        "UPDATE statesync_cursor SET rereading = 'horizon', reread_from = cursor, missed_from = cursor, "
        "cursor = 0"
    )
    return _timed_sync(store, port, space, limit)


def upload(path: str, port: int, space: str, limit: int, order: str, count: int) -> dict[str, float]:
    """Send ``count`` records that were made on the device, and fetch nothing, as the bare loop does."""
    store, _ = open_store(path)
    insert(raw(store), list(rows(order, count, seed=2)))
    return _timed_sync(store, port, space, limit, sync_type="upload_only")


def exchange(
    path: str, port: int, space: str, limit: int, changes: int, among: int, seed: int
) -> dict[str, float]:
    """Change ``changes`` of the newest records of a device that has everything, then upload and download."""
    store, _ = open_store(path)
    change_some(raw(store), changes, among, seed)
    return _timed_sync(store, port, space, limit)


def nothing(path: str, port: int, space: str, limit: int, repeat: int, keep: int = 1000) -> dict[str, float]:
    """Sync again and again with nothing to do: the median of one sync."""
    store, _ = open_store(path, keep)
    scope, chosen = scope_of(store, port, space), options(limit)
    scope.sync(chosen)
    times = []
    for _ in range(repeat):
        time.sleep(REST)
        began = time.perf_counter()
        scope.sync(chosen)
        times.append(time.perf_counter() - began)
    store.close()
    return {"seconds": sorted(times)[len(times) // 2]}


def upload_at(path: str, port: int, space: str, count: int, seed: int, start: float) -> dict[str, float]:
    """Send ``count`` records in batches of 100, beginning at the time ``start``."""
    store, _ = open_store(path)
    insert(raw(store), list(rows("random", count, seed)))
    scope = scope_of(store, port, f"{space}-{count}")
    time.sleep(max(0.0, start - time.time()))
    began = time.time()
    stats = scope.sync(SyncOptions(upload_batch_size=100, sync_type="upload_only")).stats
    ended = time.time()
    store.close()
    return {"began": began, "ended": ended, "records": stats.uploaded}


def cancels(path: str, port: int, space: str, limit: int, times: int) -> dict[str, Any]:
    """Cancel downloads at random moments: seconds from each cancel to the end, and those of whole batches.

    A batch's commit is not among them: its statistics are committed with it.
    """
    chosen = options(limit)
    source = random.Random(4)
    store, _ = open_store(f"{path}-0")
    stats = scope_of(store, port, space).sync(evolve(chosen, get_sync_stats=True)).stats
    whole = [batch.request + batch.parsing + batch.storing for batch in stats.batches]
    latencies: list[float] = []
    outcomes = {"cancelled": 0, "done": 0}
    while len(latencies) < times:
        store.close()
        store, _ = open_store(f"{path}-{len(latencies) + 1}")
        scope, is_done = scope_of(store, port, space), False
        while not is_done and len(latencies) < times:
            session = scope.start_sync(chosen)
            time.sleep(source.uniform(0.0, 0.15))
            asked = time.perf_counter()
            session.cancel()
            session.wait()
            is_done = session.phase == "done"
            outcomes[str(session.phase)] += 1
            if not is_done:
                latencies.append(time.perf_counter() - asked)
    store.close()
    return {"latencies": latencies, "batches": whole, **outcomes}


def cancels_building(path: str, port: int, space: str, times: int) -> dict[str, Any]:
    """Cancel sessions at random moments while they build the index of a device that has everything.

    Gives seconds from each cancel to the end. A session that was done first does not count.
    """
    store, _ = open_store(path)
    scope, chosen = scope_of(store, port, space), SyncOptions()
    scope.sync(chosen)
    source, longest = random.Random(5), _build_again(store, scope)
    latencies: list[float] = []
    done = 0
    while len(latencies) < times:
        _drop_index(store)
        session = scope.start_sync(chosen)
        time.sleep(source.uniform(0.0, longest))
        asked = time.perf_counter()
        session.cancel()
        session.wait()
        if session.phase == "cancelled":
            latencies.append(time.perf_counter() - asked)
        done += session.phase == "done"
    store.close()
    return {"latencies": latencies, "done": done, "longest": longest}


def _build_again(store: Store, scope: Scope) -> float:
    _drop_index(store)
    began = time.perf_counter()
    scope.sync()
    return time.perf_counter() - began


def _drop_index(store: Store) -> None:
    """Leave a device as a crash does that ends a first read before its index is built."""
    connection, wanted = raw(store), "type = 'index' AND name = 'item_code'"
    connection.execute(
        f"INSERT OR IGNORE INTO statesync_index SELECT name, tbl_name, sql FROM sqlite_master WHERE {wanted}"
    )
    connection.execute("DROP INDEX IF EXISTS item_code")


def writes(path: str, count: int) -> dict[str, float]:
    """Write records in bulk under tracking: seconds of the inserts, updates and deletes."""
    store, _ = open_store(path)
    figures = write_in_bulk(raw(store), list(rows("random", count)))
    store.close()
    return figures


def saves(path: str, count: int, tracked: bool) -> dict[str, float]:
    """Save ``count`` records one by one by Peewee, new and changed, in one transaction each."""
    store, model = open_store(path)
    if not tracked:
        connection = raw(store)
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
    records = [dict(zip(FIELDS, row[1:], strict=True)) for row in rows("random", count)]
    began = time.perf_counter()
    with store.database.atomic():
        made = [model(**values) for values in records]
        for one in made:
            one.save(force_insert=True)
    with store.database.atomic():
        for one in made:
            one.quantity += 1
            one.save()
    seconds = time.perf_counter() - began
    store.close()
    return {"seconds": seconds}


def opening(path: str) -> dict[str, float]:
    """Open and set up a store that exists."""
    began = time.perf_counter()
    store, _ = open_store(path)
    seconds = time.perf_counter() - began
    store.close()
    return {"seconds": seconds}


def fill_history(path: str, sessions: int) -> dict[str, float]:
    """Give a store ``sessions`` past sessions, by copying the last one's rows."""
    store, _ = open_store(path)
    connection = raw(store)
    (last,) = connection.execute("SELECT max(id) FROM statesync_session").fetchone()
    with store.database.atomic():
        for table, column in (
            ("statesync_session", "id"),
            ("statesync_batch", "session"),
            ("statesync_transition", "session"),
        ):
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            new = ", ".join(
                "'00' || printf('%06d', n) || substr(:last, 9)" if n == column else f'"{n}"' for n in names
            )
            connection.execute(
                "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
                "WHERE n < :many) "
                f"INSERT INTO {table} SELECT {new} FROM {table}, numbers WHERE {column} = :last",
                {"last": last, "many": sessions},
            )
    store.close()
    return {"sessions": sessions}
