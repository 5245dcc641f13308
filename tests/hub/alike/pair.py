"""Two hubs side by side: both are asked the same, in bytes or over HTTP, and what they say is compared."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import msgspec
import peewee
import zstandard
from attrs import define, evolve, field, frozen
from rig.postgres import make_ready

from statesync.hub import Hub, HubLimits, Refused, Right, create_token, revoke_token, serving
from statesync.hub.access.rights import Rights
from statesync.hub.http.openapi import document
from statesync.wire import Refusal

from .asked import EPOCH, HUB, OBJECTS, Known, OverHttp, Request, made_up

LIMITS = HubLimits(
    body=200_000, record=2000, batch=20, page=50, default_page=10, page_bytes=1000, objects=5, nesting=20,
    columns=20, bounds=20, filter_fields=4, filter_values=30, survey_seconds=1000.0, spaces=10_000_000,
    epoch_pause=0.0,
)  # fmt: skip
SECONDS = 1.0
"""Of the processor, for one request within these limits: a hundred times what any needs."""
LARGEST = LIMITS.page_bytes + LIMITS.record + LIMITS.page * 400
"""Bytes of an answer: of its records, of one more record, and of keys and names."""

READ, WRITE = frozenset({Right.READ}), frozenset({Right.WRITE})
GRANTS = {
    "all": {"*": READ | WRITE}, "reader": {"*": READ}, "writer": {"*": WRITE},
    "some": {"A": READ | WRITE, "B": READ},
    "expired": {"*": READ | WRITE}, "revoked": {"*": READ | WRITE},
    "elsewhere": {"*": READ | WRITE},
}  # fmt: skip
DUMPS = [
    "SELECT hub, epoch, head, horizon FROM space WHERE space = ?",
    "SELECT object, key, version, writer, deleted, data FROM record WHERE space = ? ORDER BY version",
    "SELECT client, number, batch, answer FROM receipt WHERE space = ?",
    "SELECT head FROM mark WHERE space = ?",
]
DEFECTS = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, msgspec.MsgspecError,
    peewee.PeeweeException, sqlite3.Error,
)  # fmt: skip
"""What a hub that is called in the same process may raise where one behind HTTP answers 500."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@frozen
class Answer:
    """What a hub answered, with its own names for itself and its epochs taken out."""

    status: int
    body: str
    retry_after: str | None = None


@define(eq=False)
class Side:
    """One of the two hubs, and how it calls itself in the space that is under test."""

    name: str
    hub: Hub
    address: str
    space: str = ""
    tokens: dict[str, str | None] = field(factory=dict)
    told: dict[str, str] = field(factory=dict)
    """What the hub calls itself and its epochs, and what the tests do: in the order in which they came up."""
    seconds: float = 0.0
    largest: int = 0

    def begin(self, space: str) -> None:
        """Go on in a new space."""
        self.space, self.told = space, {}
        database = self.hub.database
        self.tokens = {
            name: create_token(
                database,
                f"{space}-2" if name == "elsewhere" else space,
                rights,
                expires=int(time.time()) - 5 if name == "expired" else None,
            )
            for name, rights in GRANTS.items()
        }
        good = str(self.tokens["all"])
        revoke_token(database, space, str(self.tokens["revoked"]).split("~")[1])
        forged = good[:-1] + ("A" if good[-1] != "A" else "B")
        self.tokens |= {"forged": forged, "none": None, "odd": f"{good} x"}

    def ask(self, request: Request) -> Answer:
        """Return what the hub answers to a request."""
        body = self.in_its_words(request.body)
        begun, self.largest = time.thread_time(), 0
        try:
            if request.verb == "purge":
                return Answer(200, str(self.hub.purge(self.space, request.number)))
            if request.http is not None:
                return self.over_http(request.http, self.tokens[request.token], body)
            return Answer(200, self.plain(self.directly(request, body)))
        except Refused as refused:
            body = msgspec.json.encode(Refusal(refused.problem))
            return Answer(refused.status, self.plain(body))
        except DEFECTS as error:
            return Answer(500, json.dumps({"error": {"code": type(error).__name__, "message": str(error)}}))
        finally:
            self.seconds = time.thread_time() - begun

    def directly(self, request: Request, body: bytes) -> bytes:
        right = Right.WRITE if request.verb == "push" else Right.READ
        rights = self.hub.admit(self.space, self.tokens[request.token], right)
        work: Callable[[str, bytes, Rights], bytes] = getattr(self.hub, request.verb)
        answer = work(self.space, body, rights)
        self.largest = len(answer)
        return answer

    def over_http(self, how: OverHttp, token: str | None, body: bytes) -> Answer:
        packed = _packed(body, how.coding.lower())
        sent = {"cut": packed[:-2], "longer": packed + b"more", "plain": body}.get(how.damage, packed)
        headers = how.headers | ({"Content-Encoding": how.coding} if how.coding else {})
        if token is not None:
            headers["Authorization"] = f"{how.scheme} {token}".strip()
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=30)
        try:
            connection.request(how.method, f"/v1/spaces/{how.space or self.space}{how.path}", sent, headers)
            answer = connection.getresponse()
            data, coding = answer.read(), answer.headers.get("Content-Encoding", "")
        finally:
            connection.close()
        if coding == "zstd":
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=1 << 24)
        elif coding == "gzip":
            data = gzip.decompress(data)
        self.largest = len(data)
        return Answer(answer.status, self.plain(data), answer.headers.get("Retry-After"))

    def state(self) -> str:
        """Return all that the hub's database has of the space."""
        with self.hub.database.reading():
            tables = [self.hub.database.run(dump, self.space).fetchall() for dump in DUMPS]
        rows = [sorted([list(map(_plain_value, row)) for row in rows], key=str) for rows in tables[2:]]
        ordered = [[list(map(_plain_value, row)) for row in rows] for rows in tables[:2]]
        return self.plain(json.dumps(ordered + rows).encode())

    def head(self) -> int:
        with self.hub.database.reading():
            row = self.hub.database.run("SELECT head FROM space WHERE space = ?", self.space).fetchone()
        return 0 if row is None else int(row[0])

    def stand_at(self, head: int) -> None:
        """Begin the epoch that has begun just now at ``head``: each hub leaps at random."""
        assert (self.head() >> 32 > 0) == (head >> 32 > 0), "only one of the hubs has begun an epoch"
        with self.hub.database.writing():
            self.hub.database.run("UPDATE space SET head = ? WHERE space = ?", head, self.space)

    def in_its_words(self, body: bytes) -> bytes:
        for name, mine in ((self._called(HUB), HUB), (self._called(EPOCH), EPOCH)):
            body = body.replace(mine.encode(), name.encode())
        return body

    def plain(self, body: bytes) -> str:
        """Return an answer in the words of the tests."""
        return _UUID.sub(
            lambda found: self.told.setdefault(found[0], f"name {len(self.told)}"), body.decode()
        )

    def _called(self, symbol: str) -> str:
        """Return the hub's own word: its name was told first, and its newest epoch last."""
        mine = [name for name in self.told if name not in (HUB, EPOCH)]
        if len(mine) < 2:
            return symbol
        return mine[0] if symbol == HUB else mine[-1]


@define(eq=False)
class Pair:
    """Both hubs. ``seen`` counts what they answered."""

    sides: tuple[Side, Side]
    described: dict[str, Any] = field(factory=lambda: json.loads(document()))
    validators: dict[str, Any] = field(factory=dict)
    seen: dict[str, int] = field(factory=dict)

    def run(self, seeds: list[str]) -> str | None:
        """Ask both what the seeds say, in a space of its own; return what is wrong with the answers."""
        space, known = f"s-{uuid.uuid4().hex}", Known()
        for side in self.sides:
            side.begin(space)
        for seed in seeds:
            request = made_up(seed, known)
            answers = [side.ask(request) for side in self.sides]
            if fault := self._fault(request, answers):
                return f"{seed}: {fault}\n{_shown(request)}\n" + "\n".join(map(str, answers))
            if "epoch_changed" in answers[0].body:
                self.sides[1].stand_at(self.sides[0].head())
            self._count(request, answers[0])
            if request.verb != "purge":
                known.learn(request, answers[0].status, json.loads(answers[0].body))
        states = [side.state() for side in self.sides]
        return None if states[0] == states[1] else "the databases differ:\n" + "\n".join(states)

    def shortest(self, seeds: list[str]) -> list[str]:
        """Return a history that fails, with nothing in it that can be left out."""
        for seed in list(seeds):
            shorter = [each for each in seeds if each != seed]
            if self.run(shorter):
                seeds = shorter
        return seeds

    def _fault(self, request: Request, answers: list[Answer]) -> str | None:
        if answers[0] != answers[1]:
            return "the answers differ"
        if any(side.seconds > SECONDS for side in self.sides):
            return f"it took {[side.seconds for side in self.sides]} seconds of the processor"
        if any(side.largest > max(LARGEST, 2 * len(request.body)) for side in self.sides):
            return f"the answers have {[side.largest for side in self.sides]} bytes"
        return None if request.verb == "purge" else self._undescribed(request, answers[0])

    def _undescribed(self, request: Request, answer: Answer) -> str | None:
        """Return what the OpenAPI document does not know of an answer."""
        described = self.described["paths"][f"/v1/spaces/{{space}}/{request.verb}"]["post"]["responses"]
        if answer.status >= 500 or str(answer.status) not in described:
            return f"no such status is to be expected: {answer.status}"
        if answer.status != 200 and f"`{_code(answer)}`" not in described[str(answer.status)]["description"]:
            return f"the document has no {_code(answer)}"
        schema = described[str(answer.status)]["content"]["application/json"]["schema"]["$ref"]
        try:
            self._validator(schema).validate(json.loads(answer.body))
        except jsonschema_rs.ValidationError as error:
            return f"the answer is not as the document says: {error.message}"
        return None

    def _validator(self, reference: str) -> Any:
        if reference not in self.validators:
            schema = {"$ref": reference, "components": self.described["components"]}
            self.validators[reference] = jsonschema_rs.validator_for(schema)
        return self.validators[reference]

    def _count(self, request: Request, answer: Answer) -> None:
        what = f"{request.verb} {answer.status} {_code(answer)}".strip()
        self.seen[what] = self.seen.get(what, 0) + 1


@contextmanager
def opened(urls: dict[str, str]) -> Iterator[Pair]:
    """Open the hubs on two empty databases, and serve them."""
    with ExitStack() as stack:
        sides = []
        for name, url in urls.items():
            make_ready(url)
            hub = Hub(url, limits=LIMITS, objects=[*OBJECTS, "D"])
            stack.callback(hub.close)
            sides.append(Side(name, hub, stack.enter_context(serving(hub))))
        yield Pair((sides[0], sides[1]))


def seeds_of(round_seed: int, count: int) -> list[str]:
    """Return the seeds of a history."""
    return [f"{round_seed}/{number}" for number in range(count)]


def _code(answer: Answer) -> str:
    return "" if answer.status == 200 else str(json.loads(answer.body)["error"]["code"])


def _packed(body: bytes, coding: str) -> bytes:
    if coding == "gzip":
        return gzip.compress(body, mtime=0)
    return zstandard.ZstdCompressor().compress(body) if coding == "zstd" else body


def _plain_value(value: object) -> object:
    return int(value) if isinstance(value, bool) else value


def _shown(request: Request) -> str:
    return str(evolve(request, body=request.body[:2000]))
