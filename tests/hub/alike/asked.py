"""Requests that are made up from a seed: valid ones, nearly valid ones and hostile ones.

A request is told in words that fit every hub: ``HUB`` and ``EPOCH`` stand for what a hub is called and for
its epoch, and a token is named by what it is good for. Each request has a seed of its own, so that a history
can be shortened without changing what is left of it.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from attrs import define, field, frozen

HUB, EPOCH = "00000000-aaaa-4aaa-aaaa-000000000000", "00000000-eeee-4eee-eeee-000000000000"

CLIENTS = ["ann", "bob", "cas"]
OBJECTS = ["A", "B", "C"]
KEYS = ["1", "2", "3", "a", "é", "\U0001d11e", "\uffff", "k" * 255]
COLUMNS = ["f", "g", "h", ""]
TOKENS = ["all"] * 50 + ["reader", "writer", "some"] * 2
TOKENS += ["expired", "revoked", "elsewhere", "forged", "none", "odd"]


class Verbatim(str):
    """JSON text that is written as it is."""

    __slots__ = ()


VERSIONS = [0, 1, 2, 3, 5, -1, 2**31, 2**32, 2**53, 2**62, 2**62 + 1, 2**63 - 1, 2**63, 2**64, 10**30]
ODD_NUMBERS = [
    Verbatim(text)
    for text in (
        "1e400", "-1e400", "1e-400", "1e308", "-0", "-0.0", "1.0", "1E2", "1e19", "1e", "01", "NaN",
        "Infinity", "9" * 400, "9" * 4300, "9" * 4301, "9" * 5000, "-" + "9" * 5000, "9" * 5000 + ".5", "+1",
        "0." + "0" * 5000 + "1", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
        "18446744073709551616",
    )
]  # fmt: skip
ODD_TEXTS = [
    "", "\0", "a\0b", "\x01", "\x7f", "x" * 128, "x" * 129, "x" * 255, "x" * 256, "x" * 3000, "\u202e",
    "'; --", "%s", "?", "\U0001d11e" * 128, "*", "~", "../x", "{}", "null", "\ufeff", Verbatim(r'"\ud800"'),
    Verbatim(r'"\udc00\ud800"'), Verbatim(r'"\ud834\udd1e"'), Verbatim(r'"\u0000"'), Verbatim(r'"\x"'),
    Verbatim('"\x01"'), Verbatim("'a'"),
]  # fmt: skip
ODD_BYTES = [
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\0",
    b"\xef\xbb\xbf",
    b"{",
    b"]",
    b'"',
    b",",
    b"\\",
    b"[" * 300,
]


@frozen
class OverHttp:
    """How a request travels, where it is not given to the hub as bytes."""

    method: str
    space: str
    """Another space than the one under test; empty for that one."""
    path: str
    """What follows the space."""
    headers: dict[str, str]
    coding: str
    damage: str
    """What is wrong with the packed body: ``cut``, ``longer``, ``plain``, or nothing."""
    scheme: str


@frozen
class Request:
    """One request, or a ``purge`` up to the version ``number``."""

    verb: str
    token: str = "all"
    body: bytes = b""
    http: OverHttp | None = None
    client: str = ""
    number: int = 0


@define
class Known:
    """What is known of a space from the answers of both hubs, which were the same."""

    head: int = 0
    numbers: dict[str, int] = field(factory=dict)
    sent: dict[str, bytes] = field(factory=dict)
    """The last batch of each client."""

    def learn(self, request: Request, status: int, answer: dict[str, Any]) -> None:
        """Note what an answer tells."""
        if request.verb == "push" and status == 200:
            self.numbers[request.client] = request.number
            self.sent[request.client] = request.body
        error = answer.get("error", {})
        if isinstance(error.get("number"), int) and request.client:
            self.numbers[request.client] = error["number"]
        self.head = max(self.head, answer.get("head", 0))


def made_up(seed: str, known: Known) -> Request:
    """Return the request of ``seed``, as somebody would make it who knows that much."""
    return _Maker(Random(seed), known).request()


def written(value: object) -> str:
    """Return ``value`` as JSON; a list of pairs is an object that may have a name twice."""
    if isinstance(value, Verbatim):
        return str(value)
    if isinstance(value, dict):
        return written(list(value.items())) if value else "{}"
    if isinstance(value, list) and value and all(isinstance(each, tuple) for each in value):
        return "{" + ",".join(f"{written(name)}:{written(inner)}" for name, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


class _Maker:
    def __init__(self, random: Random, known: Known) -> None:
        self.random = random
        self.known = known
        self.oddity = random.choice([0, 0, 0, 0, 0, 1, 1, 1, 4])
        """How many times as likely as usual something odd is: half of the requests are plain."""

    def request(self) -> Request:
        verb = self.random.choices(["push", "pull", "survey", "purge"], [10, 8, 5, 1])[0]
        if verb == "purge":
            return Request("purge", number=self.version())
        token = self.random.choice(TOKENS)
        http = self.http(verb) if self.random.random() < 0.25 else None
        client = self.odd(self.random.choice(CLIENTS), 0.02)
        sent = self.known.sent.get(str(client))
        if verb == "push" and sent is not None and self.random.random() < 0.1:
            return Request("push", token, sent, http, str(client), self.known.numbers[str(client)])
        document = {"push": self.push, "pull": self.pull, "survey": self.survey}[verb](client)
        number = document.get("number", 0)
        body = self.damaged(written(self.changed(document)).encode())
        return Request(verb, token, body, http, str(client), number if isinstance(number, int) else 0)

    # -- documents -----------------------------------------------------------------------------------

    def push(self, client: object) -> dict[str, Any]:
        count = self.random.choices([0, 1, 2, 3, 8, 21], [1, 4, 4, 4, 3, self.oddity])[0]
        records = [(name, key) for name in OBJECTS for key in KEYS]
        return {
            **self.envelope(client, 1),
            "offers_again": self.rarely(self.random.random() < 0.7, [None, 1, "x"], 0.02),
            "batch": self.odd(f"b{self.random.randrange(1 << 32)}", 0.02),
            "changes": [
                self.change(*record)
                for record in self.rarely(self.random.sample(records, count), [records[:1] * 2], 0.02)
            ],
        }

    def pull(self, client: object) -> dict[str, Any]:
        count = self.random.choices([0, 1, 2, 3, 6], [1, 5, 5, 5, self.oddity])[0]
        names = self.random.sample([*OBJECTS, "D", "E", "F"], count)
        return {
            **self.envelope(client, 0),
            "objects": [(self.odd(name, 0.02), self.feed()) for name in names] or {},
            "limit": self.rarely(
                self.random.choice([0, 1, 2, 5, 50, 51, 1000]), [-1, *VERSIONS, *ODD_NUMBERS], 0.1
            ),
        }

    def survey(self, client: object) -> dict[str, Any]:
        bounds = sorted(self.some(["", *KEYS], 4, most=21))
        document = self.envelope(client, 0)
        del document["number"], document["head"]
        return {
            **document,
            "object": self.odd(self.random.choice(OBJECTS), 0.04),
            "columns": [self.odd(name, 0.02) for name in self.some(COLUMNS, 4, most=21)],
            "bounds": [self.odd(key, 0.01) for key in bounds] or [""],
            "until": self.odd(self.random.choice([None, None, *KEYS]), 0.03),
            "listed": self.random.random() < 0.5,
            "partial": self.random.random() < 0.5,
            "filter": self.filter(),
        }

    def envelope(self, client: object, ahead: int) -> dict[str, Any]:
        number = self.known.numbers.get(str(client), 0) + ahead
        return {
            "client": client,
            "number": self.rarely(number, [number - 1, number + 1, *VERSIONS, *ODD_NUMBERS], 0.06),
            "hub": self.believed(HUB),
            "epoch": self.believed(EPOCH),
            "head": self.rarely(self.known.head, [0, 1, self.known.head + 1, *VERSIONS, *ODD_NUMBERS], 0.06),
        }

    def change(self, name: str, key: str) -> dict[str, Any]:
        change: dict[str, Any] = {
            "object": self.rarely(name, [*OBJECTS, *ODD_TEXTS], 0.02),
            "key": self.odd(key, 0.02),
            "op": self.rarely(
                self.random.choice(["upsert", "upsert", "delete"]), ["replace", "", None], 0.01
            ),
            "base": self.rarely(self.version(), ODD_NUMBERS, 0.02),
        }
        if change["op"] != "delete" or self.random.random() < 0.1:
            change["data"] = self.record()
        if self.random.random() < 0.2:
            change["since"] = self.rarely(self.version(), ODD_NUMBERS, 0.02)
        return change

    def record(self) -> object:
        odd: list[object] = [
            None,
            1,
            [],
            "text",
            Verbatim("{"),
            [("f", 1), ("f", 2)],
            {"f": "x" * 2500},
            _deep(30),
        ]
        record = {name: self.value() for name in self.some(COLUMNS, 3)}
        if self.random.random() < 0.35:
            record["text"] = "é" * self.random.choice([100, 400])
        return self.rarely(record, odd, 0.04)

    def feed(self) -> object:
        feed = {"cursor": self.rarely(self.version(), ODD_NUMBERS, 0.02), "own": self.random.random() < 0.5}
        if self.random.random() < 0.4:
            feed["filter"] = self.filter()
        if self.random.random() < 0.3:
            feed["begun"] = self.rarely(self.version(), ODD_NUMBERS, 0.02)
        if self.random.random() < 0.3:
            feed["scan"] = self.scan()
        return self.rarely(feed, [None, [], 1, {}], 0.01)

    def scan(self) -> object:
        """Return a scan that begins, or one that goes on, at any key."""
        if self.random.random() < 0.5:
            return self.rarely({}, [None, [], 1, {"since": 0}, {"after": "1"}], 0.03)
        first, last = sorted(self.random.choices(KEYS, k=2))
        scan = {"since": self.rarely(self.version(), ODD_NUMBERS, 0.02), "until": self.odd(last, 0.02)}
        if self.random.random() < 0.8:
            scan["after"] = self.odd(first, 0.02)
        return scan

    def filter(self) -> object:
        if self.random.random() < 0.4:
            return None
        names = self.some(COLUMNS, 2, most=5)
        wanted = {name: self.rarely([self.value() for _ in range(self.random.choice([0, 1, 2, 3]))],
                                    [None, 1, [1] * 31, [[1]], [{}]], 0.04) for name in names}  # fmt: skip
        return self.rarely(wanted, [1, [], "f", {"f": 1}], 0.01)

    def value(self) -> object:
        plain: list[object] = [None, True, False, 0, 1, 2, 1.0, 1.5, "1", "", "x", "é"]
        odd = [*ODD_NUMBERS, *ODD_TEXTS, [], [1], {}, {"a": [1.0]}, _deep(3), _deep(30)]
        return self.rarely(self.random.choice(plain), odd, 0.08)

    def believed(self, name: str) -> object:
        believed = self.random.choice([None, name]) if self.known.head else None
        return self.rarely(believed, ["other", 1, "", *ODD_TEXTS], 0.03)

    def version(self) -> int:
        """Return a version of this space, mostly."""
        near = [0, 1, self.known.head, self.known.head, self.random.randint(0, self.known.head)]
        return int(self.rarely(self.random.choice(near), [self.known.head + 1, *VERSIONS], 0.03))

    # -- what may be wrong ---------------------------------------------------------------------------

    def rarely(self, usual: Any, odd: list[Any], how_often: float) -> Any:
        return self.random.choice(odd) if self.random.random() < self.oddity * how_often else usual

    def odd(self, usual: object, how_often: float) -> Any:
        return self.rarely(usual, [*ODD_TEXTS, None, 1, True, [], {}], how_often)

    def some(self, among: list[str], usual: int, most: int = 0) -> list[str]:
        """Return up to ``usual`` of these, or, rarely, ``most`` others."""
        if most and self.random.random() < self.oddity * 0.02:
            return [f"n{number}" for number in range(most)]
        return self.random.sample(among, self.random.randint(0, min(usual, len(among))))

    def changed(self, document: dict[str, Any]) -> object:
        """Return the document with a field gone, twice, unknown or of another kind; mostly as it is."""
        if self.random.random() > self.oddity * 0.06:
            return document
        pairs: list[tuple[Any, Any]] = list(document.items())
        place = self.random.randrange(len(pairs))
        name, value = pairs[place]
        odd: Any = self.random.choice([*ODD_TEXTS, *ODD_NUMBERS, None, True, [], {}, _deep(30)])
        return self.random.choice(
            [
                pairs[:place] + pairs[place + 1 :],
                [*pairs, (name, value)],
                [*pairs, (name, odd)],
                [*pairs, ("unknown", odd)],
                [*pairs[:place], (name, odd), *pairs[place + 1 :]],
                [document],
            ]
        )

    def damaged(self, body: bytes) -> bytes:
        """Return the body with a few bytes gone or come; mostly as it is."""
        if self.random.random() > self.oddity * 0.04:
            return body
        at = self.random.randrange(len(body) + 1)
        odd = self.random.choice(ODD_BYTES)
        return self.random.choice(
            [body[:at], body[:at] + odd + body[at:], body + odd, odd + body, b"", b" " * 200_001]
        )

    def http(self, verb: str) -> OverHttp:
        headers = {
            "Accept-Encoding": self.random.choice(
                [
                    "",
                    "gzip",
                    "zstd",
                    "gzip, zstd",
                    "br",
                    "*",
                    "gzip;q=0",
                    "GZIP;Q=1",
                    "gzip;q=1.2.3",
                    ";;q=,",
                    "x" * 500,
                ]
            )
        }
        if self.random.random() < 0.3:
            headers["Content-Type"] = self.random.choice(
                ["application/json", "text/plain", "x", "multipart/form-data"]
            )
        return OverHttp(
            method=self.rarely("POST", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"], 0.03),
            space=self.rarely("", ["a%20b", "%00", "x" * 65, "..", "%C3%A9", "~", "nobody", "a%2Fb"], 0.03),
            path=self.rarely(
                f"/{verb}", [f"/{verb}/", f"/{verb}?a=1", "", "/", "/none", f"//{verb}", f"/{verb}%00"], 0.04
            ),
            headers=headers,
            coding=self.random.choice(
                ["", "", "identity", "gzip", "zstd"] * 4 + ["br", "x-gzip", "gzip, gzip", "GZIP", "\xff"]
            ),
            damage=self.rarely("", ["cut", "longer", "plain"], 0.06),
            scheme=self.rarely("Bearer", ["bearer", "BEARER", "Basic", "", "Bearer Bearer"], 0.04),
        )


def _deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value
