"""Hubs for the workloads: started in processes of their own, and filled as devices fill them."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import islice

import msgspec
from attrs import define, field

from .runner import ROOT, module
from .sides.records import OBJECT, items, keys

_BATCH = 5000


class _Verdict(msgspec.Struct):
    status: str


class _Answer(msgspec.Struct):
    results: list[_Verdict]


@contextmanager
def hub(url: str, kind: str = "hub") -> Iterator[int]:
    """Serve the database at ``url`` and give the port; ``kind`` is ``hub``, or ``bare`` for the limit."""
    process = subprocess.Popen(
        module("serve", url, kind),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError(f"the {kind} at {url} did not start")
        yield int(line)
    finally:
        process.communicate(timeout=30)  # closes its input, which ends it


@define
class Writer:
    """Another device, reduced to its pushes."""

    port: int
    space: str
    client: str = field(factory=lambda: str(uuid.uuid4()))
    number: int = 0

    def fill(self, order: str, count: int, seed: int = 0) -> None:
        """Push ``count`` new records."""
        source = zip(keys(order, count, seed), items(count, seed), strict=True)
        while batch := [
            {"object": OBJECT, "key": key, "op": "upsert", "base": 0, "data": item}
            for key, item in islice(source, _BATCH)
        ]:
            self.push(batch)

    def change(self, known: list[str], seed: int) -> None:
        """Push another version of each of the ``known`` records: what ``bare.change_some`` changes too."""
        self.push(
            [
                {
                    "object": OBJECT,
                    "key": key,
                    "op": "upsert",
                    "base": 1 << 40,
                    "data": {"note": item.note, "quantity": item.quantity},
                }
                for key, item in zip(known, items(len(known), seed), strict=True)
            ]
        )

    def push(self, changes: list[dict[str, object]]) -> None:
        """Push one batch; every change has to be accepted."""
        body = {
            "client": self.client,
            "number": self.number + 1,
            "batch": str(uuid.uuid4()),
            "hub": None,
            "epoch": None,
            "changes": changes,
        }
        answer = self._post(msgspec.json.encode(body))
        if any(verdict.status != "accepted" for verdict in answer.results):
            raise RuntimeError("the hub did not accept what the benchmark filled it with")
        self.number += 1

    def _post(self, body: bytes) -> _Answer:
        http = HTTPConnection("127.0.0.1", self.port, timeout=120)
        http.request("POST", f"/v1/spaces/{self.space}/push", body, {"Content-Type": "application/json"})
        answer = http.getresponse()
        content = answer.read()
        http.close()
        if answer.status != 200:
            raise RuntimeError(f"push: {answer.status} {content[:300]!r}")
        return msgspec.json.decode(content, type=_Answer)
