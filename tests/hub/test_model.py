"""The hub against the model of it that the proofs use: any requests of three clients, backups included.

``statesync.verify.modelled.hub`` is the one model of the hub. What the system model proves holds for the real
hub only as far as the two answer alike.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from attrs import asdict, define, evolve, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from rig.search import examples

from statesync.hub import Hub, HubLimits, Refused, Right, Rights
from statesync.hub.db.pages import feeds
from statesync.verify.modelled import hub as model
from statesync.verify.modelled.wire import (
    Accepted,
    Change,
    Conflict,
    Feed,
    Fields,
    Page,
    Pull,
    Push,
    PushAnswer,
    Refusal,
    Rejected,
    Scan,
    Scanned,
    Verdict,
    fields,
)
from statesync.wire import EPOCH_CHANGED

from .devices import apply

CLIENTS, OBJECTS, KEYS = ["ann", "bob", "cas"], ["A", "B"], ["1", "2", "3"]
READERS = [*CLIENTS, "dan"]
"""Dan has never uploaded anything, and may not."""
READ_ONLY = Rights({"*": frozenset({Right.READ})})
FAR = [1, 2, model.EPOCH_LEAP, model.MOST_LOST, model.MOST_LOST + 1, 1 << 62]
"""How far above the head a device may say that it has come."""
UNKNOWN = "unknown"
"""An object that the hub does not take."""
MOST = 60
"""Bytes that a record may have here."""
CARRIES = 20
"""Bytes after which an answer carries no further record: two of those that are usual here."""
FEW = 2
"""Records that any page may look at here, and no more for each that it may have than one."""
FILTER = (("f", (1,)),)


@define
class Client:
    """What one client remembers of the hub."""

    name: str
    number: int = 0
    epoch: int | None = None
    head: int = 0
    last: Push | None = None
    cursors: dict[str, int] = field(factory=lambda: dict.fromkeys(OBJECTS, 0))
    begun: int = 0
    """Where the hub's head was when it began to read."""
    held: dict[str, Any] = field(factory=dict)


RECORDS = st.dictionaries(st.sampled_from(["f", "g"]), st.integers(0, 2)) | st.just({"f": "x" * MOST})

CHANGES = st.lists(
    st.tuples(
        st.sampled_from([*OBJECTS, *OBJECTS, UNKNOWN]),
        st.sampled_from(KEYS),
        st.integers(0, 9),
        st.none() | RECORDS,
    ),
    max_size=4,
    unique_by=lambda change: change[:2],
)


class SpaceMachine(RuleBasedStateMachine):
    """Asks a space of the real hub and the model the same, and compares every answer."""

    hub: Hub

    def __init__(self) -> None:
        super().__init__()
        self.space = f"space-{uuid.uuid4().hex}"
        self.model = model.Hub(
            takes=tuple(OBJECTS), most=MOST, carries=CARRIES, paces=True, few=FEW, looks=1, scans=True
        )
        self.clients = {name: Client(name) for name in READERS}
        self.ids: dict[object, str] = {}
        """What the model calls the hub and its epochs, and what the real hub does."""

    # -- what devices do -----------------------------------------------------------------------------

    @rule(name=st.sampled_from(CLIENTS), changes=CHANGES, offers_again=st.booleans())
    def push(
        self,
        name: str,
        changes: list[tuple[str, str, int, dict[str, Any] | None]],
        offers_again: bool = True,
    ) -> None:
        client = self.clients[name]
        offered = tuple(
            Change(of, key, self.version(base), None if data is None else fields(data))
            for of, key, base, data in changes
        )
        batch = self.batch(client, client.number + 1, offered)
        self.offer(client, evolve(batch, offers_again=offers_again))

    @rule(name=st.sampled_from(CLIENTS), changes=CHANGES, since=st.integers(0, 9))
    def push_of_another_epoch(
        self, name: str, changes: list[tuple[str, str, int, dict[str, Any] | None]], since: int
    ) -> None:
        """The bases say nothing of edits, and something of deletes; or a hub may have had what was new."""
        client = self.clients[name]
        offered = tuple(
            Change(of, key, min(base, 1), None if data is None else fields(data), self.version(since))
            for of, key, base, data in changes
        )
        self.offer(client, self.batch(client, client.number + 1, offered))

    @rule(name=st.sampled_from(CLIENTS), offers_again=st.booleans(), may_write=st.booleans())
    def repeat(self, name: str, offers_again: bool = True, may_write: bool = True) -> None:
        """The answer was lost; the device may be of another version by now, or may only read."""
        client = self.clients[name]
        if client.last is not None:
            repeated = evolve(client.last, offers_again=offers_again)
            self.offer(client, repeated, may_write=may_write)

    @rule(name=st.sampled_from(CLIENTS))
    def push_of_who_may_only_read(self, name: str) -> None:
        """It is no repeat, whatever else it is."""
        client = self.clients[name]
        self.offer(client, self.batch(client, client.number + 1, ()), may_write=False)

    @rule(
        name=st.sampled_from(READERS),
        cursors=st.fixed_dictionaries({name: st.integers(0, 9) for name in OBJECTS}),
        own=st.booleans(),
        filtered=st.booleans(),
        limit=st.integers(1, 4),
        begun=st.integers(0, 9),
    )
    def pull(
        self, name: str, cursors: dict[str, int], own: bool, filtered: bool, limit: int, begun: int = 0
    ) -> None:
        """Whoever says nothing of where it began is a device of an older version."""
        wanted, began = FILTER if filtered else None, self.version(begun)
        feeds = [Feed(key, self.version(at), own, wanted, began) for key, at in cursors.items()]
        self.ask(self.clients[name], feeds, limit)

    @rule(name=st.sampled_from(READERS), pages=st.integers(1, 4), limit=st.integers(1, 3))
    def follow(self, name: str, pages: int, limit: int) -> None:
        """Some pages on: what a device holds changes by pages alone, and is in the end what the hub has."""
        client = self.clients[name]
        for _ in range(pages):
            cursors = client.cursors.items()
            page = self.ask(client, [Feed(key, at, True, None, client.begun) for key, at in cursors], limit)
            if isinstance(page, Refusal):
                client.cursors, client.held = dict.fromkeys(OBJECTS, 0), {}
                return
            for entry in page.entries:
                told = {"object": entry.object, "key": entry.key}
                apply(client.held, {"changes": [told | _data(entry.data)]})
            client.begun = client.begun if any(client.cursors.values()) else page.head
            client.cursors = dict(page.cursors)
            if not page.more:
                living = {f"{each.object}/{each.key}": each.data for each in self.model.records}
                assert client.held == {at: dict(data) for at, data in living.items() if data is not None}

    # -- copied devices and restored hubs --------------------------------------------------------------

    @precondition(lambda self: len(self.ids) < 4 and self.model.head > 3)
    @rule(name=st.sampled_from(CLIENTS), number=st.integers(-2, 2), head=st.sampled_from([0, *FAR]))
    def push_from_another_state(self, name: str, number: int, head: int) -> None:
        """The device or the hub was restored from a backup: the counts do not fit. Or it is all made up."""
        client = self.clients[name]
        batch = self.batch(client, max(0, client.number + 1 + number), ())
        self.offer(client, evolve(batch, head=head and self.model.head + head))

    @rule(name=st.sampled_from(CLIENTS), of=st.sampled_from(OBJECTS), key=st.sampled_from(KEYS))
    def push_from_above(self, name: str, of: str, key: str) -> None:
        """A device says that it has read further than there is, and only of one record."""
        client = self.clients[name]
        change = Change(of, key, self.model.head + 1, fields({"f": 1}))
        self.offer(client, self.batch(client, client.number + 1, (change,)))

    @precondition(lambda self: len(self.ids) < 4 and self.model.head > 3)
    @rule(name=st.sampled_from(READERS), number=st.integers(-1, 1), head=st.sampled_from([0, *FAR]))
    def pull_from_another_state(self, name: str, number: int, head: int) -> None:
        client = self.clients[name]
        ahead = evolve(client, number=max(0, client.number + number))
        self.ask(ahead, [Feed("A", self.model.head + head)], 1)
        self.clients[name] = ahead if ahead.epoch != client.epoch else client

    @rule()
    def let_time_pass(self) -> None:
        """The pause between two epochs is over."""
        self.model = evolve(self.model, pauses=False)
        with self.hub.database.writing():
            self.hub.database.run("UPDATE space SET begun = 0 WHERE space = ?", self.space)

    @precondition(lambda self: len(self.ids) < 4 and self.model.head > 3)
    @rule()
    def begin_epoch(self) -> None:
        """Whoever runs the hub begins an epoch."""
        self.model = model.with_epoch(self.model)
        self.hub.begin_epoch(self.space)
        self.learn_how_far_it_leapt()

    # -- what people do ------------------------------------------------------------------------------

    @rule(at=st.integers(0, 9))
    def purge(self, at: int) -> None:
        through = self.version(at)
        self.model, gone = model.purge(self.model, through)
        assert self.hub.purge(self.space, through) == gone

    @rule(name=st.sampled_from(CLIENTS), of=st.sampled_from(OBJECTS), key=st.sampled_from(KEYS))
    def delete_and_forget(self, name: str, of: str, key: str) -> None:
        """What is deleted now is forgotten at once: whoever has read less has missed it."""
        client, head = self.clients[name], self.model.head
        self.offer(client, self.batch(client, client.number + 1, (Change(of, key, head, None),)))
        self.model, gone = model.purge(self.model, self.model.head)
        assert self.hub.purge(self.space, self.model.head) == gone

    @rule(name=st.sampled_from(CLIENTS))
    def forget_what_the_hub_said(self, name: str) -> None:
        """A device that is reset, or a copy of one from before it had heard of an epoch."""
        client = self.clients[name]
        client.epoch, client.head = None, 0

    # -- one request ---------------------------------------------------------------------------------

    def version(self, at: int) -> int:
        """Return one of the versions at which answers may change."""
        of_records = [each.version for each in self.model.records]
        known = sorted({0, 1, *of_records, self.model.purged_through, self.model.head})
        return known[at % len(known)]

    def living(self, name: str) -> int:
        return sum(each.object == name and each.data is not None for each in self.model.records)

    def batch(self, client: Client, number: int, changes: tuple[Change, ...]) -> Push:
        hub = None if client.epoch is None else self.model.id
        return Push(client.name, number, str(uuid.uuid4()), hub, client.epoch, changes, client.head)

    def learn_how_far_it_leapt(self) -> None:
        """Let the model begin its epoch where the hub has begun it, at random."""
        with self.hub.database.reading():
            row = self.hub.database.run("SELECT head FROM space WHERE space = ?", self.space).fetchone()
        assert 0 <= row[0] - self.model.head < model.EPOCH_LEAP
        self.model = evolve(self.model, head=row[0])

    def offer(self, client: Client, request: Push, *, may_write: bool = True) -> None:
        before = self.model.epochs
        self.model, expected = model.push(self.model, request, may_write=may_write)
        body: dict[str, Any] = {
            "batch": request.batch,
            "changes": [_change(each) for each in request.changes],
        }
        if request.offers_again:
            body["offers_again"] = True
        ask = self.hub.push if may_write else partial(self.hub.push, rights=READ_ONLY)
        answer = self.answer(ask, request, body)
        if self.model.epochs > before:
            self.learn_how_far_it_leapt()
        self.compare(client, answer, expected)
        if isinstance(expected, PushAnswer):
            assert answer["results"] == [
                _verdict(verdict, found)
                for verdict, found in zip(expected.verdicts, answer["results"], strict=True)
            ]
            client.last, client.number = request, request.number

    def ask(self, client: Client, feeds: list[Feed], limit: int) -> Page | Refusal:
        hub = None if client.epoch is None else self.model.id
        request = Pull(client.name, client.number, hub, client.epoch, tuple(feeds), limit, client.head)
        before, may_write = self.model.epochs, client.name in CLIENTS
        self.model, expected = model.pull(self.model, request, may_write=may_write)
        body = {"objects": {each.object: _feed(each) for each in feeds}, "limit": limit}
        ask = self.hub.pull if may_write else partial(self.hub.pull, rights=READ_ONLY)
        page = self.answer(ask, request, body)
        if self.model.epochs > before:
            self.learn_how_far_it_leapt()
        self.compare(client, page, expected)
        if isinstance(expected, Page):
            assert page["changes"] == [
                {"object": each.object, "key": each.key, "version": each.version} | _data(each.data)
                for each in expected.entries
            ]
            assert (page["cursors"], page["more"]) == (dict(expected.cursors), expected.more)
            begun = {each.object for each in feeds if each.scan is not None and not each.scan.since}
            assert page.get("scans", {}) == {
                name: _scanned(each) | ({"count": self.living(name)} if name in begun else {})
                for name, each in expected.scans
            }
        return expected

    def answer(
        self, ask: Callable[[str, bytes], bytes], request: Push | Pull, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what the hub answers, or the problem that it has with the request."""
        asked = {
            "client": request.client,
            "number": request.number,
            "hub": self.ids.get(request.hub),
            "epoch": self.ids.get(request.epoch),
            "head": request.head,
            **body,
        }
        try:
            found: dict[str, Any] = json.loads(ask(self.space, _json(asked)))
        except Refused as error:
            problem = error.problem
            found = {name: getattr(problem, name) for name in ("code", "epoch", "number", "highest")}
        return found

    def compare(self, client: Client, answer: dict[str, Any], expected: PushAnswer | Page | Refusal) -> None:
        """Hold against the model what every answer says, and let the client learn from it."""
        if isinstance(expected, Refusal):
            epoch = None if expected.epoch is None else self.known(expected.epoch, answer.get("epoch"))
            told = {"code": expected.code, "number": expected.number, "highest": expected.highest}
            assert answer == told | {"epoch": epoch}
            if expected.code == EPOCH_CHANGED:
                client.epoch, client.head = expected.epoch, 0
                client.number, client.cursors = expected.number or 0, dict.fromkeys(OBJECTS, 0)
                client.held, client.last = {}, None
            return
        assert answer["hub"] == self.known(expected.hub, answer["hub"])
        assert answer["epoch"] == self.known(expected.epoch, answer["epoch"])
        assert answer["head"] == expected.head
        client.epoch, client.head = expected.epoch, max(client.head, expected.head)

    def known(self, name: object, told: str | None) -> str:
        """Return what the real hub calls ``name``, which is what it was ``told`` the first time."""
        assert told is not None
        assert list(self.ids.values()).count(told) == (name in self.ids)
        return self.ids.setdefault(name, told)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _change(change: Change) -> dict[str, Any]:
    op: dict[str, Any] = (
        {"op": "delete"} if change.data is None else {"op": "upsert", "data": dict(change.data)}
    )
    since = {"since": change.since} if change.since else {}
    return {"object": change.object, "key": change.key, "base": change.base} | since | op


def _feed(feed: Feed) -> dict[str, Any]:
    wanted = {name: list(values) for name, values in feed.filter or ()}
    begun = {"begun": feed.begun} if feed.begun else {}
    scan = {} if feed.scan is None else {"scan": _said(feed.scan)}
    told = {"cursor": feed.cursor, "own": feed.own} | ({"filter": wanted} if feed.filter else {})
    return told | begun | scan


def _said(scan: Scan) -> dict[str, Any]:
    """A scan that begins says nothing."""
    return {name: value for name, value in asdict(scan).items() if value}


def _scanned(scanned: Scanned) -> dict[str, Any]:
    stubs = {"stubs": list(scanned.stubs)} if scanned.stubs else {}
    return {name: value for name, value in asdict(scanned).items() if name != "stubs"} | stubs


def _data(data: Fields | None) -> dict[str, Any]:
    return {"deleted": True} if data is None else {"data": dict(data)}


def _verdict(verdict: Verdict, found: dict[str, Any]) -> dict[str, Any]:
    match verdict:
        case Accepted():
            return {"status": "accepted", "version": verdict.version}
        case Conflict() if verdict.lacks_record:
            return {"status": "conflict", "version": verdict.version, "deleted": False}
        case Conflict():
            living = {"deleted": False} if "deleted" in found else {}
            return {"status": "conflict", "version": verdict.version, **living} | _data(verdict.data)
        case Rejected():
            again = {"retry_after": 0.0} if verdict.code == "conflict" else {}
            return {"status": "rejected", "code": verdict.code, "message": found["message"]} | again


@pytest.fixture(scope="module")
def shared_hub(lasting_database: Any) -> Any:
    yield from hub_like_the_model(lasting_database)


def hub_like_the_model(new_database: Any) -> Iterator[Hub]:
    """A hub with the limits of the model."""
    limits = HubLimits(record=MOST, page_bytes=CARRIES)
    hub = Hub(new_database(), without_tokens=True, objects=OBJECTS, limits=limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeds, "FEW", FEW)
        patch.setattr(feeds, "LOOKS", 1)
        yield hub
    hub.close()


def test_a_space_answers_as_its_model_does(shared_hub: Hub) -> None:
    class Machine(SpaceMachine):
        hub = shared_hub

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples(8, 72),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )


def a_first_read_that_a_purge_does_not_hurt(space: SpaceMachine) -> None:
    space.push("ann", [("A", key, 0, {"f": 1}) for key in KEYS])
    space.delete_and_forget("ann", "A", "1")
    for _ in range(4):
        space.follow("dan", pages=1, limit=1)


def a_purge_in_the_middle_of_a_first_read(space: SpaceMachine) -> None:
    space.push("ann", [("A", key, 0, {"f": 1}) for key in KEYS])
    space.follow("dan", pages=1, limit=1)
    space.delete_and_forget("ann", "A", "3")
    space.follow("dan", pages=2, limit=1)


def a_reader_that_has_uploaded_before_it_read(space: SpaceMachine) -> None:
    space.push("ann", [("A", "1", 0, {"f": 1})])
    space.push("bob", [("B", "1", 0, {})])
    space.delete_and_forget("bob", "B", "1")
    space.pull("ann", dict.fromkeys(OBJECTS, 0), own=False, filtered=False, limit=4)
    space.pull("dan", dict.fromkeys(OBJECTS, 0), own=False, filtered=True, limit=4)


def a_new_record_over_a_tombstone(space: SpaceMachine) -> None:
    space.push("ann", [("A", "1", 0, {"f": 1})])
    space.push("ann", [("A", "1", 9, None)])
    space.push("bob", [("A", "1", 0, {"f": 2})])


def an_edit_of_what_was_purged(space: SpaceMachine) -> None:
    space.push("ann", [("A", "1", 0, {"f": 1}), ("A", "2", 0, {})])
    space.delete_and_forget("ann", "A", "1")
    space.push("bob", [("A", "1", 1, {"f": 2})])
    space.push("bob", [("A", "1", 0, {"f": 2})])


def a_device_that_has_seen_more_of_the_hub(space: SpaceMachine) -> None:
    space.push("ann", [("A", "1", 0, {"f": 1})])
    space.push_from_another_state("ann", number=0, head=1)
    space.follow("dan", pages=1, limit=1)


def a_reader_that_counts_more_batches(space: SpaceMachine) -> None:
    space.push("ann", [("A", "1", 0, {"f": 1})])
    space.pull_from_another_state("ann", number=1, head=0)
    space.follow("ann", pages=1, limit=1)


def a_copy_of_a_device(space: SpaceMachine) -> None:
    space.push("ann", [("A", "1", 0, {"f": 1})])
    space.push_from_another_state("ann", number=-1, head=0)
    space.pull_from_another_state("ann", number=-1, head=0)


def a_reader_of_what_it_wrote_itself(space: SpaceMachine) -> None:
    space.push("ann", [(of, key, 0, {"f": 1}) for key in KEYS for of in OBJECTS])
    space.push("bob", [("A", "1", 9, {"f": 2})])
    for at in range(7):
        space.pull("ann", {"A": at, "B": 0}, own=False, filtered=False, limit=1)


def a_first_reader_of_what_is_deleted(space: SpaceMachine) -> None:
    space.push("ann", [("A", key, 0, {"f": 1}) for key in KEYS])
    space.push("ann", [("A", key, 9, None) for key in KEYS])
    space.push("ann", [("B", "1", 0, {"f": 1})])
    space.pull("dan", dict.fromkeys(OBJECTS, 0), own=False, filtered=False, limit=1)
    space.pull("dan", dict.fromkeys(OBJECTS, 0), own=False, filtered=True, limit=2)


def more_in_conflict_than_an_answer_carries(space: SpaceMachine) -> None:
    taken = [(of, key, 0, {"f": 1, "g": 1}) for of in OBJECTS for key in KEYS[:2]]
    space.push("ann", taken)
    space.push("bob", [(of, key, 0, {"f": 2}) for of, key, _, _ in taken])
    space.repeat("bob")
    space.repeat("bob", offers_again=False)
    space.push("cas", [(of, key, 0, {"f": 2}) for of, key, _, _ in taken], offers_again=False)
    space.push("cas", [("A", "1", 0, {"f": 2}), ("A", "2", 0, {"f": 2})], offers_again=False)
    space.repeat("cas", offers_again=False)


def a_record_that_grows_past_its_limit(space: SpaceMachine) -> None:
    space.push("ann", [("A", "1", 0, {"f": "x" * (MOST - 10)})])
    space.push("ann", [("A", "1", 0, {"g": 1})])
    space.push("ann", [("A", "1", 0, {"f": "x"}), ("A", "2", 0, {"f": 1})])


@pytest.mark.parametrize(
    "happens",
    [
        a_reader_of_what_it_wrote_itself,
        a_first_reader_of_what_is_deleted,
        more_in_conflict_than_an_answer_carries,
        a_record_that_grows_past_its_limit,
        a_first_read_that_a_purge_does_not_hurt,
        a_purge_in_the_middle_of_a_first_read,
        a_reader_that_has_uploaded_before_it_read,
        a_new_record_over_a_tombstone,
        an_edit_of_what_was_purged,
        a_device_that_has_seen_more_of_the_hub,
        a_reader_that_counts_more_batches,
        a_copy_of_a_device,
    ],
)
def test_a_space_answers_as_its_model_does_where_chance_seldom_leads(
    shared_hub: Hub, happens: Callable[[SpaceMachine], None]
) -> None:
    happens(type("Machine", (SpaceMachine,), {"hub": shared_hub})())
