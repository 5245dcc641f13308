"""How often a hub asks its PostgreSQL: what is far away costs by the round trip, not by the byte."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from rig.postgres import empty_schema
from rig.trips import Wire, wired

from statesync.hub import Hub, create_token, prepare, serving
from statesync.hub.access.rights import Right
from statesync.hub.db.server import pool as pool_of_server

from ..devices import Service, accepted, delete, upsert

PREPARED = 8
"""Requests after which every statement is prepared, which is one round trip for each, once a connection."""


@pytest.fixture
def wire(postgres: str) -> Iterator[Wire]:
    url = empty_schema(postgres)
    prepare(url)
    with wired(url) as wire:
        yield wire


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def ask(wire: Wire, stack: ExitStack) -> Iterator[Callable[..., dict[str, Any]]]:
    """Ask a hub over HTTP, with a token; what a first request needs more is over."""
    hub = Hub(wire.address)
    stack.callback(hub.close)
    observer: Any = hub.watch._observer
    observer.tells_others = False  # that goes beside the pushes, on a connection of its own
    token = create_token(hub.database, "acme", {"*": frozenset(Right)})
    with serving(hub) as address, Service(address, hub, wire.address) as service:

        def ask(verb: str, **rest: Any) -> dict[str, Any]:
            document = {"client": "me", "number": 0, "hub": None, "epoch": None, **rest}
            body = json.dumps(document).encode()
            answer = service.ask("POST", f"/v1/spaces/acme/{verb}", body, Authorization=f"Bearer {token}")
            assert answer.status == 200, answer.data
            answered: dict[str, Any] = answer.json()
            return answered

        for number in range(1, PREPARED + 1):
            push(ask, number)
            ask("pull", number=number, objects={"Airport": {"cursor": number}}, limit=500)
        yield ask


def push(ask: Callable[..., dict[str, Any]], number: int, *changes: dict[str, Any]) -> dict[str, Any]:
    changes = changes or (upsert(str(number), {"x": number}),)
    return ask("push", number=number, batch=str(uuid.uuid4()), changes=changes)


def fewest(wire: Wire, request: Callable[[int], object]) -> int:
    """Return the round trips of a request, the fewest of five like it, whose numbers are 0 to 4.

    Under load a question may be read in two pieces; an answer that comes between them makes two trips of one.
    What is sent before an answer has come may make one of two, so fewer than usual are no failure.
    """
    trips = []
    for number in range(5):
        with wire.counted() as counted:
            request(number)
        trips += counted
    return min(trips)


def test_a_pull_with_nothing_new_is_one_round_trip_with_its_token(
    ask: Callable[..., dict[str, Any]], wire: Wire
) -> None:
    def pull(_: int) -> None:
        page = ask("pull", number=PREPARED, objects={"Airport": {"cursor": PREPARED}}, limit=500)
        assert (page["changes"], page["head"]) == ([], PREPARED)

    assert fewest(wire, pull) == 1


def test_a_push_is_at_most_three_round_trips_with_its_token(
    ask: Callable[..., dict[str, Any]], wire: Wire
) -> None:
    def one_more(number: int) -> None:
        answer = push(ask, PREPARED + 1 + number)
        assert answer["head"] == PREPARED + 1 + number

    assert fewest(wire, one_more) <= 3


def test_a_push_of_deletes_is_one_round_trip_more_at_most(
    ask: Callable[..., dict[str, Any]], wire: Wire
) -> None:
    def one_less(number: int) -> None:
        answer = push(ask, last + 1 + number, delete(str(number + 1), base=last))
        assert answer["results"] == [accepted(last + 1 + number)]

    more = range(PREPARED + 1, 2 * PREPARED + 1)
    for number in more:
        push(ask, number)
    last = more[-1] + PREPARED
    for number in more:
        push(ask, PREPARED + number, delete(str(number), base=more[-1]))
    assert fewest(wire, one_less) <= 4


def test_a_push_of_many_changes_asks_for_what_is_stored_only_once_it_wants_it(
    ask: Callable[..., dict[str, Any]], wire: Wire
) -> None:
    """A repeat of it reads no record, for which nobody would pay."""

    def many_more(number: int) -> None:
        batch = [upsert(f"new {number} {record}", {}) for record in range(101)]
        answer = push(ask, PREPARED + 1 + number, *batch)
        assert answer["head"] == PREPARED + 101 * (number + 1)

    assert fewest(wire, many_more) <= 4


def test_a_push_of_many_bytes_writes_some_when_the_server_has_those_before(
    ask: Callable[..., dict[str, Any]], wire: Wire
) -> None:
    """What is on its way is in memory: of 9 MB the second half waits for the first."""
    batch = [upsert(f"large {number}", {"x": "x" * 900_000}) for number in range(10)]
    with wire.counted() as trips:
        answer = push(ask, PREPARED + 1, *batch)
    assert answer["head"] == PREPARED + 10
    assert trips[0] >= 4


def test_a_connection_that_dies_while_nobody_uses_it_costs_no_request(
    ask: Callable[..., dict[str, Any]], wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It dies behind the look at it.
    monkeypatch.setattr(pool_of_server, "_has_news", lambda _connection: False)
    wire.cut()
    page = ask("pull", number=PREPARED, objects={"Airport": {"cursor": PREPARED}}, limit=500)
    assert page["head"] == PREPARED
