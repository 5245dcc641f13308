"""Measure pages of scans beside pages of the feed: processor time, of the hub and of its database.

Run it by itself, on a machine that does nothing else:

    cd tests && python -m hub.scans.measure [records ...]
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from rig.postgres import empty_schema, postgres_server

from statesync.hub import Hub, HubLimits, prepare

RECORD = {
    "name": "Zürich Airport", "code": "LSZH", "latitude": 47.458056, "longitude": 8.548056,
    "elevation": 1416, "updated": "2026-01-01T12:00:00Z", "notes": "x" * 110,
}  # fmt: skip
PAGE, TIMES = 1000, 15
TICK = os.sysconf("SC_CLK_TCK")


def ask(hub: Hub, verb: str, **said: Any) -> dict[str, Any]:
    document = {"client": "me", "number": 0, "hub": None, "epoch": None, **said}
    answer: dict[str, Any] = json.loads(getattr(hub, verb)("space", json.dumps(document).encode()))
    return answer


def fill(hub: Hub, records: int, others: int) -> list[str]:
    """Write records with random keys in batches, and return the keys in their order."""
    chance = random.Random(records)
    keys = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(records)]
    for place in range(0, records, 10_000):
        changes = [
            {"object": "A", "key": key, "op": "upsert", "base": 0, "data": RECORD}
            for key in keys[place : place + 10_000]
        ]
        number = place // 10_000 + 1
        ask(hub, "push", client="writer", number=number, batch=str(number), changes=changes)
    small = [{"object": f"S{n}", "key": "k", "op": "upsert", "base": 0, "data": {}} for n in range(others)]
    ask(hub, "push", client="other", number=1, batch="1", changes=small)
    return sorted(keys)


def processor_of(server: int | None) -> Callable[[], float]:
    """Return what tells the seconds of processor that this process and the server's have used."""

    def used() -> float:
        seconds = time.process_time()
        for process in Path("/proc").iterdir() if server else ():
            try:
                fields = (process / "stat").read_text().rpartition(")")[2].split()
            except (OSError, ValueError):
                continue
            if int(fields[1]) == server or process.name == str(server):
                seconds += (int(fields[11]) + int(fields[12])) / TICK
        return seconds

    return used


def report(name: str, used: Callable[[], float], work: Callable[[], object], times: int = TIMES) -> None:
    work()
    begun, at = used(), time.perf_counter()
    for _ in range(times):
        work()
    wall = time.perf_counter() - at
    print(f"    {name:44} {1000 * (used() - begun) / times:7.2f} ms processor, {1000 * wall / times:7.2f} ms")


def measure(hub: Hub, records: int, server: int | None) -> None:
    used = processor_of(server)
    begun = used()
    keys = fill(hub, records, 30)
    print(f"  {records:,} records, written in {used() - begun:.1f} s of processor", flush=True)
    head = ask(hub, "pull", objects={"A": {"cursor": 0}}, limit=1)["head"]

    def feed(cursor: int) -> Callable[[], object]:
        return lambda: ask(hub, "pull", objects={"A": {"cursor": cursor}}, limit=PAGE)

    def scan(after: str | None) -> Callable[[], object]:
        said = {} if after is None else {"since": head, "after": after, "until": keys[-1]}
        return lambda: ask(hub, "pull", objects={"A": {"cursor": 0, "scan": said}}, limit=PAGE)

    times = TIMES * 10
    report("feed, from version 0", used, feed(0), times)
    report("feed, the last page", used, feed(max(1, records - PAGE)), times)
    report("scan, begun", used, scan(None), times)
    report("scan, from the first key on", used, scan(keys[0]), times)
    report("scan, in the middle", used, scan(keys[len(keys) // 2]), times)
    report("scan, the last page", used, scan(keys[-PAGE - 1]), times)
    small = {f"S{n}": {"cursor": 0} for n in range(30)}
    scans = {name: {"cursor": 0, "scan": {}} for name in small}
    report("30 objects of one record, feed", used, lambda: ask(hub, "pull", objects=small, limit=PAGE), times)
    report("30 objects of one record, scan", used, lambda: ask(hub, "pull", objects=scans, limit=PAGE), times)
    none = {f"N{n}": {"cursor": 0, "scan": {}} for n in range(200)}
    report(
        "200 objects without records, scan", used, lambda: ask(hub, "pull", objects=none, limit=PAGE), TIMES
    )
    one = {"A": {"cursor": 0, "scan": {}}}
    report("scan, begun, one record", used, lambda: ask(hub, "pull", objects=one, limit=1), times)


def whole(hub: Hub, used: Callable[[], float]) -> None:
    """Read all of an object, in either order."""

    def scan() -> None:
        feed: dict[str, Any] = {"cursor": 0, "scan": {}}
        while "scan" in feed:
            page = ask(hub, "pull", objects={"A": feed}, limit=PAGE)
            scanned = page["scans"]["A"]
            on = {"since": scanned["since"], "after": scanned["last"], "until": scanned["until"]}
            feed = {"cursor": 1} if scanned["done"] else {"cursor": 0, "scan": on}

    def follow() -> None:
        cursor, more = 0, True
        while more:
            page = ask(hub, "pull", objects={"A": {"cursor": cursor}}, limit=PAGE)
            cursor, more = page["cursors"]["A"], page["more"]

    report("everything, in the order of versions", used, follow, 1)
    report("everything, in the order of keys", used, scan, 1)


def run(url: str, records: int, server: int | None) -> None:
    prepare(url)
    hub = Hub(url, without_tokens=True, limits=HubLimits())
    measure(hub, records, server)
    whole(hub, processor_of(server))
    hub.close()


def main() -> None:
    sizes = [int(each) for each in sys.argv[1:]] or [10_000, 300_000]
    with tempfile.TemporaryDirectory() as folder, postgres_server() as address:
        for records in sizes:
            print("SQLite")
            run(f"sqlite:///{folder}/{records}.db", records, None)
            print("PostgreSQL")
            run(empty_schema(address), records, postmaster(address))


def postmaster(address: str) -> int:
    """Return the process of a server on this machine."""
    with psycopg.connect(address) as connection:
        ((folder,),) = connection.execute("SHOW data_directory").fetchall()
    return int((Path(folder) / "postmaster.pid").read_text().split()[0])


if __name__ == "__main__":
    main()
