"""One simulated device: what it says to a hub and when it comes again, with no store beneath it.

It sends what a device sends, waits as one waits (``session.timers``), and keeps what it has been answered. So
thousands of them fit into a process, and still a hub that loses a change or gives it twice is found out.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from attrs import define, field

from statesync.session.timers import backoff

from ..sides.records import OBJECT, items

_ANSWER_WITHIN = 60.0
"""Seconds that a device waits for an answer."""

_COLUMNS = ["code", "name", "note", "quantity", "price", "active"]

COME_AGAIN = frozenset({429, 500, 502, 503, 504})


class Failed(Exception):
    """A sync that has come to no end: the hub has refused it for good, or time was up."""


@define(eq=False)
class Tally:
    """What a phase of all devices came to."""

    syncs: list[float] = field(factory=list)
    """Seconds that each sync took, with all that it waited."""
    spaces: dict[str, list[float]] = field(factory=dict)
    """The same, by space."""
    requests: int = 0
    refusals: Counter[str] = field(factory=Counter)
    """How often a device was told to come again, by the refusal's code."""
    lost: int = 0
    """How often a connection was refused, or ended without an answer."""
    failures: list[str] = field(factory=list)

    def end(self, space: str, seconds: float) -> None:
        """Count one sync that has ended well."""
        self.syncs.append(seconds)
        self.spaces.setdefault(space, []).append(seconds)


@define(eq=False)
class Device:
    """A device in a space; it knows what the hub last told it."""

    port: int
    space: str
    token: str
    seed: int
    client: str = field(factory=lambda: str(uuid.uuid4()))
    written: set[str] = field(factory=set)
    """The keys of the records that the hub has accepted from it."""
    _number: int = 0
    _cursor: int = 0
    _hub: str | None = None
    _epoch: str | None = None
    _link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    _turn: asyncio.Lock = field(factory=asyncio.Lock)

    async def sync(self, changes: int, tally: Tally, until: float) -> None:
        """Push so many new records in one batch, if any, then pull all that is new; give up at ``until``."""
        try:
            await self.sync_once(changes, tally, until)
        except Failed as error:
            tally.failures.append(str(error))

    async def sync_once(self, changes: int, tally: Tally, until: float) -> None:
        """Do the same; raise ``Failed`` where it comes to no end."""
        async with self._turn:
            began = time.monotonic()
            try:
                if changes:
                    await self._push(changes, tally, until)
                while (await self._pull(tally, until))["more"]:
                    pass
                tally.end(self.space, time.monotonic() - began)
            finally:
                self.hang_up()

    async def survey(self, tally: Tally, until: float) -> None:
        """Ask what the hub has of the whole space, as a comparison does, to the end."""
        said = {"client": self.client, "hub": None, "epoch": None, "object": OBJECT, "columns": _COLUMNS}
        begin: str | None = ""
        async with self._turn:
            while begin is not None:
                part = {"bounds": [begin], "partial": True}
                begin = (await self._ask("survey", said | part, tally, until)).get("goes_on_at")
            self.hang_up()

    async def read_all(self, tally: Tally, until: float) -> list[str]:
        """Read the whole space anew, as another device; return the keys of all its records."""
        reader = Device(self.port, self.space, self.token, self.seed)
        keys, more = [], True
        while more:
            page = await reader._pull(tally, until)
            keys += [entry["key"] for entry in page["changes"]]
            more = page["more"]
        reader.hang_up()
        return keys

    async def _push(self, count: int, tally: Tally, until: float) -> None:
        changes = list(islice(self._new_records(), count))
        said = {"number": self._number + 1, "batch": str(uuid.uuid4()), "changes": changes}
        answer = await self._ask("push", self._envelope() | said, tally, until)
        if any(result["status"] != "accepted" for result in answer["results"]):
            raise Failed(f"not accepted: {answer['results'][0]}")
        self._number += 1
        self.written.update(change["key"] for change in changes)

    async def _pull(self, tally: Tally, until: float) -> dict[str, Any]:
        said = {"number": self._number, "objects": {OBJECT: {"cursor": self._cursor}}, "limit": 0}
        page = await self._ask("pull", self._envelope() | said, tally, until)
        self._cursor = page["cursors"][OBJECT]
        return page

    @property
    def cursor(self) -> int:
        """How far it has read."""
        return self._cursor

    def _envelope(self) -> dict[str, Any]:
        return {"client": self.client, "hub": self._hub, "epoch": self._epoch}

    def _new_records(self) -> Iterator[dict[str, Any]]:
        for item in items(1 << 30, self.seed * 1_000_003 + self._number):
            yield {"object": OBJECT, "key": str(uuid.uuid4()), "op": "upsert", "base": 0, "data": item}

    async def _ask(self, verb: str, said: dict[str, Any], tally: Tally, until: float) -> dict[str, Any]:
        """Send the very same until it is answered for good, and return the answer."""
        body = msgspec.json.encode(said)
        attempt = 1
        while True:
            wait = None
            try:
                status, headers, answer = await asyncio.wait_for(
                    self.exchange("POST", verb, body), _ANSWER_WITHIN
                )
                wait = float(headers["retry-after"]) if "retry-after" in headers else None
                tally.requests += 1
                if status == 200:
                    self._hub, self._epoch = answer["hub"], answer["epoch"]
                    return answer
                if status not in COME_AGAIN:
                    raise Failed(f"{verb}: {status} {answer['error']}")
                tally.refusals[answer["error"]["code"]] += 1
            except (OSError, EOFError, asyncio.IncompleteReadError) as error:
                tally.lost += 1
                answer = {"error": repr(error)}
            self.hang_up()
            attempt += 1
            pause = backoff(attempt, wait)
            if time.monotonic() + pause > until:
                raise Failed(f"{verb}: no answer in time, after {attempt - 1} attempts: {answer['error']}")
            await asyncio.sleep(pause)

    async def exchange(
        self, method: str, asked: str, body: bytes
    ) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Ask something of the space, once; return the answer's status, head and body."""
        if self._link is None:
            self._link = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._link
        head = (
            f"{method} /v1/spaces/{self.space}/{asked} HTTP/1.1\r\nHost: hub\r\n"
            f"Authorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await reader.readexactly(int(headers["content-length"]))
        return int(first.split(" ")[1]), headers, msgspec.json.decode(content)

    def hang_up(self) -> None:
        """End the connection, if there is one."""
        if self._link is not None:
            self._link[1].close()
            self._link = None
