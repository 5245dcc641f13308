"""A space against a model of it in a few lines: any sequence of pushes and pulls by three clients."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from statesync.hub import Hub, Refused

from .devices import apply

CLIENTS, OBJECTS, KEYS = ["ann", "bob", "cas"], ["A", "B"], ["1", "2", "3"]
FILTER = {"f": [1]}


@define
class Record:
    version: int
    writer: str
    data: dict[str, Any] | None


@define
class Model:
    """What section 6 of the design says, with a dictionary for a database."""

    head: int = 0
    purged_through: int = 0
    records: dict[tuple[str, str], Record] = field(factory=dict)

    def verdict(self, client: str, change: dict[str, Any]) -> dict[str, Any]:
        name = change["object"], change["key"]
        old = self.records.get(name)
        gone = old is None or old.data is None
        if change["op"] == "delete" and gone:
            return {"status": "accepted", "version": self.head}
        if old is None and 0 < change["base"] < self.purged_through:
            return {"status": "conflict", "version": self.purged_through, "deleted": True}
        if old and old.version > change["base"] and old.writer != client:
            found = {"status": "conflict", "version": old.version, "deleted": gone}
            if not gone:
                return found | {"data": old.data}
            if change["base"]:
                return found
        self.head += 1
        data = None if change["op"] == "delete" else ((old and old.data) or {}) | change["data"]
        self.records[name] = Record(self.head, client, data)
        return {"status": "accepted", "version": self.head}

    def page(
        self, client: str, number: int, feeds: dict[str, Any], limit: int
    ) -> tuple[list[Any], dict[str, int], bool]:
        for feed in feeds.values():
            feed["nothing_there"] = feed["cursor"] == 0 and not feed["own"] and number == 0
        rows = sorted(
            (record.version, name)
            for name, record in self.records.items()
            if name[0] in feeds
            and record.version > feeds[name[0]]["cursor"]
            and (record.writer != client or feeds[name[0]]["own"])
            and (record.data is not None or not feeds[name[0]]["nothing_there"])
        )
        more = len(rows) > limit
        end = rows[limit - 1][0] if more else self.head
        entries = [entry for _, name in rows[:limit] if (entry := self.entry(name, feeds[name[0]]))]
        return entries, {name: max(feed["cursor"], end) for name, feed in feeds.items()}, more

    def purge(self, through: int) -> int:
        gone = [
            name for name, record in self.records.items() if record.data is None and record.version <= through
        ]
        self.purged_through = max([self.purged_through, *(self.records.pop(name).version for name in gone)])
        return len(gone)

    def entry(self, name: tuple[str, str], feed: dict[str, Any]) -> dict[str, Any] | None:
        record = self.records[name]
        found = {"object": name[0], "key": name[1], "version": record.version}
        wanted = "filter" not in feed or (record.data or {}).get("f") == 1
        if record.data is not None and wanted:
            return found | {"data": record.data}
        return None if record.data is not None and feed["nothing_there"] else found | {"deleted": True}


@define
class Client:
    name: str
    number: int = 0
    last: bytes = b""
    answer: bytes = b""
    cursors: dict[str, int] = field(factory=lambda: dict.fromkeys(OBJECTS, 0))
    held: dict[str, Any] = field(factory=dict)
    began: int = 0
    """How far deletes were purged when the device began to read."""


changes = st.lists(
    st.fixed_dictionaries(
        {
            "object": st.sampled_from(OBJECTS),
            "key": st.sampled_from(KEYS),
            "op": st.sampled_from(["upsert", "delete"]),
            "base": st.sampled_from(["none", "known", "head"]),
            "data": st.dictionaries(st.sampled_from(["f", "g"]), st.integers(0, 2)),
        }
    ),
    max_size=4,
    unique_by=lambda change: (change["object"], change["key"]),
)


class SpaceMachine(RuleBasedStateMachine):
    hub: Hub

    def __init__(self) -> None:
        super().__init__()
        self.space = f"space-{uuid.uuid4().hex}"
        self.model = Model()
        self.clients = {name: Client(name) for name in CLIENTS}

    @rule(name=st.sampled_from(CLIENTS), batch=changes)
    def push(self, name: str, batch: list[dict[str, Any]]) -> None:
        client = self.clients[name]
        bases = {"none": 0, "head": self.model.head}
        sent = [
            change | {"base": bases.get(change["base"], client.cursors[change["object"]])} for change in batch
        ]
        body = self.envelope(client.number + 1, name, batch=str(uuid.uuid4()), changes=sent)
        client.last, client.answer = body, self.hub.push(self.space, body)
        client.number += 1
        answer = json.loads(client.answer)
        assert answer["results"] == [self.model.verdict(name, change) for change in sent]
        assert answer["head"] == self.model.head

    @rule(name=st.sampled_from(CLIENTS))
    def repeat(self, name: str) -> None:
        client = self.clients[name]
        if client.last:
            assert self.hub.push(self.space, client.last) == client.answer

    @rule(name=st.sampled_from(CLIENTS), lag=st.integers(1, 3))
    def fork(self, name: str, lag: int) -> None:
        client = self.clients[name]
        if client.number:
            body = self.envelope(client.number + 1 - lag, name, batch="stale", changes=[])
            with pytest.raises(Refused, match="client_forked"):
                self.hub.push(self.space, body)

    @rule(
        name=st.sampled_from(CLIENTS),
        cursors=st.fixed_dictionaries({name: st.floats(0, 1) for name in OBJECTS}),
        own=st.booleans(),
        filtered=st.booleans(),
        limit=st.integers(1, 4),
    )
    def pull(self, name: str, cursors: dict[str, float], own: bool, filtered: bool, limit: int) -> None:
        extra = {"own": own} | ({"filter": FILTER} if filtered else {})
        feeds: dict[str, Any] = {
            key: {"cursor": round(part * self.model.head), **extra} for key, part in cursors.items()
        }
        if any(0 < feed["cursor"] < self.model.purged_through for feed in feeds.values()):
            return  # whether it may is a matter of what it has read before: see follow
        number = self.clients[name].number
        unread = not own and any(feed["cursor"] == 0 for feed in feeds.values())
        behind = any(feed["cursor"] < self.model.head for feed in feeds.values())
        if self.model.purged_through and unread and number and behind:
            with pytest.raises(Refused, match="horizon_passed"):
                self.ask(name, feeds, limit)
            return
        page = self.ask(name, feeds, limit)
        found = page["changes"], page["cursors"], page["more"]
        assert found == self.model.page(name, number, feeds, limit)

    @rule(name=st.sampled_from(CLIENTS), limit=st.integers(1, 3))
    def follow(self, name: str, limit: int) -> None:
        """One page on: what a device holds changes by pages alone."""
        client = self.clients[name]
        if min(client.cursors.values()) == 0:
            client.cursors, client.held = dict.fromkeys(OBJECTS, 0), {}
            client.began = self.model.purged_through
        feeds = {key: {"cursor": at, "own": True} for key, at in client.cursors.items()}
        if min(client.cursors.values()) < self.model.purged_through != client.began:
            with pytest.raises(Refused, match="horizon_passed"):
                self.ask(name, feeds, limit)
            client.cursors = dict.fromkeys(OBJECTS, 0)
            return
        page = self.ask(name, feeds, limit)
        apply(client.held, page)
        client.cursors = page["cursors"]
        if not page["more"]:
            live = {
                f"{name}/{key}": r.data for (name, key), r in self.model.records.items() if r.data is not None
            }
            assert client.held == live

    @rule(part=st.floats(0, 1))
    def purge(self, part: float) -> None:
        through = round(part * self.model.head)
        assert self.hub.purge(self.space, through) == self.model.purge(through)

    def ask(self, name: str, feeds: dict[str, Any], limit: int) -> dict[str, Any]:
        body = self.envelope(self.clients[name].number, name, objects=feeds, limit=limit)
        page: dict[str, Any] = json.loads(self.hub.pull(self.space, body))
        return page

    def envelope(self, number: int, client: str, **rest: Any) -> bytes:
        return json.dumps({"client": client, "number": number, "hub": None, "epoch": None, **rest}).encode()


@pytest.fixture(scope="module")
def shared_hub(new_database: Any) -> Any:
    hub = Hub(new_database(), without_tokens=True)
    yield hub
    hub.close()


def test_a_space_answers_as_its_model_does(shared_hub: Hub) -> None:
    class Machine(SpaceMachine):
        hub = shared_hub

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )
