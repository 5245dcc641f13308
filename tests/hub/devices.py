"""A device as the wire sees it: it speaks HTTP and JSON by itself, with nothing of the client's code."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import urllib3
from attrs import Factory, define

from statesync.hub import Hub

Answer = tuple[int, dict[str, Any]]


@define(eq=False)
class Service:
    """A running hub."""

    address: str
    hub: Hub
    database: str
    http: urllib3.PoolManager = Factory(lambda: urllib3.PoolManager(timeout=30.0, retries=False))

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.clear()

    def ask(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, **headers: str
    ) -> urllib3.BaseHTTPResponse:
        return self.http.request(
            method,
            self.address + path,
            body=body,
            headers=headers,
            chunked=not isinstance(body, bytes | None),
        )

    def device(self, space: str) -> Device:
        return Device(self, space)


@define(eq=False)
class Device:
    """One client in one space. It believes what the hub last told it and counts its batches."""

    service: Service
    space: str
    client: str = Factory(lambda: str(uuid.uuid4()))
    number: int = 0
    hub: str | None = None
    epoch: str | None = None
    token: str | None = None

    def send(self, verb: str, document: object) -> Answer:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        answer = self.service.ask("POST", f"/v1/spaces/{self.space}/{verb}", body, **headers)
        return answer.status, json.loads(answer.data)

    def push_document(self, *changes: dict[str, Any], **override: Any) -> dict[str, Any]:
        document = {
            "client": self.client,
            "number": self.number + 1,
            "batch": str(uuid.uuid4()),
            "hub": self.hub,
            "epoch": self.epoch,
            "changes": list(changes),
        }
        return document | override

    def pull_document(self, objects: dict[str, Any], limit: int = 0, **override: Any) -> dict[str, Any]:
        document = {
            "client": self.client,
            "number": self.number,
            "hub": self.hub,
            "epoch": self.epoch,
            "objects": objects,
            "limit": limit,
        }
        return document | override

    def push(self, *changes: dict[str, Any]) -> list[dict[str, Any]]:
        """Push a batch that has to be answered, and return its verdicts."""
        status, answer = self.send("push", self.push_document(*changes))
        assert status == 200, answer
        self.number += 1
        self.hub, self.epoch = answer["hub"], answer["epoch"]
        results: list[dict[str, Any]] = answer["results"]
        return results

    def pull(self, objects: dict[str, Any], limit: int = 0) -> dict[str, Any]:
        """Pull a page that has to be answered."""
        status, page = self.send("pull", self.pull_document(objects, limit))
        assert status == 200, page
        self.hub, self.epoch = page["hub"], page["epoch"]
        return page

    def read_all(self, *names: str, limit: int = 0, **feed: Any) -> tuple[dict[str, Any], dict[str, int]]:
        """Follow the feeds of ``names`` from the start; return what a device then holds, and the cursors."""
        cursors = dict.fromkeys(names, 0)
        held: dict[str, Any] = {}
        more, said = True, feed
        while more:
            page = self.pull({name: {"cursor": at, **said} for name, at in cursors.items()}, limit)
            apply(held, page)
            said = {"begun": page["head"]} | said
            cursors, more = page["cursors"], page["more"]
        return held, cursors


def apply(held: dict[str, Any], page: dict[str, Any]) -> None:
    """Do to ``held`` what a page says."""
    for entry in page["changes"]:
        name = f"{entry['object']}/{entry['key']}"
        if entry.get("deleted"):
            held.pop(name, None)
        else:
            held[name] = entry["data"]


def upsert(key: str, data: object, base: int = 0, name: str = "Airport") -> dict[str, Any]:
    return {"object": name, "key": key, "op": "upsert", "base": base, "data": data}


def delete(key: str, base: int = 0, name: str = "Airport") -> dict[str, Any]:
    return {"object": name, "key": key, "op": "delete", "base": base}


def accepted(version: int) -> dict[str, Any]:
    return {"status": "accepted", "version": version}
