"""What a measured process does to a hub: many requests over a few connections at once."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from http.client import HTTPConnection

import msgspec

from .records import OBJECT, items, keys

_CONNECTIONS = 3


def pulls(port: int, space: str, count: int, cursor: int, limit: int) -> dict[str, float]:
    """Ask for the page that follows ``cursor``, ``count`` times in all."""
    body = msgspec.json.encode(
        {
            "client": str(uuid.uuid4()),
            "number": 0,
            "hub": None,
            "epoch": None,
            "objects": {OBJECT: {"cursor": cursor}},
            "limit": limit,
        }
    )
    return _together(port, f"/v1/spaces/{space}/pull", lambda _: [body] * (count // _CONNECTIONS))


def pushes(port: int, space: str, count: int, size: int) -> dict[str, float]:
    """Push ``count`` batches of ``size`` new records."""
    return _together(
        port, f"/v1/spaces/{space}/push", lambda number: _batches(number, count // _CONNECTIONS, size)
    )


def _batches(connection: int, count: int, size: int) -> list[bytes]:
    client = str(uuid.uuid4())
    source = zip(keys("random", count * size, seed=100 + connection), items(count * size), strict=True)
    return [
        msgspec.json.encode(
            {
                "client": client,
                "number": number,
                "batch": str(uuid.uuid4()),
                "hub": None,
                "epoch": None,
                "changes": [
                    {"object": OBJECT, "key": key, "op": "upsert", "base": 0, "data": item}
                    for key, item in (next(source) for _ in range(size))
                ],
            }
        )
        for number in range(1, count + 1)
    ]


def _together(port: int, path: str, bodies: Callable[[int], list[bytes]]) -> dict[str, float]:
    """Send every connection's bodies one after the other, all connections at once."""
    work = [bodies(number) for number in range(_CONNECTIONS)]
    failures: list[bytes] = []

    def send(mine: list[bytes]) -> None:
        http = HTTPConnection("127.0.0.1", port)
        for body in mine:
            http.request("POST", path, body, {"Content-Type": "application/json"})
            answer = http.getresponse()
            content = answer.read()
            if answer.status != 200:
                failures.append(content)
                break
        http.close()

    threads = [threading.Thread(target=send, args=(mine,)) for mine in work]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if failures:
        raise RuntimeError(f"the hub refused: {failures[0]!r}")
    return {"seconds": seconds, "requests": sum(map(len, work))}
