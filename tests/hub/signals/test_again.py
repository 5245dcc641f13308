"""The same question again on the same connection: not read anew, and answered as the first was."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import peewee
import pytest

from statesync.hub import Hub, HubLimits, Right, create_token, revoke_token, serving
from statesync.hub.http.waiting import again, room
from statesync.hub.http.waiting.again import Question
from statesync.hub.signals.waiters import NOWHERE, Head, Waiter, Waiters

from ..devices import Device, Service
from ..http.wires import Wire, wires
from ..served import wait_for
from .asking import pushed


class Taken:
    """Counts the questions that were not read anew."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        begin = Question.begin

        def counted(question: Question) -> None:
            self.count += 1
            begin(question)

        monkeypatch.setattr(Question, "begin", counted)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    return Taken(monkeypatch)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take questions that wait for less than a second, too."""
    monkeypatch.setattr(again, "_LONG_ENOUGH", 0.1)


@pytest.fixture
def wire(service: Service) -> Iterator[Wire]:
    with wires(service.address) as [one]:
        yield one


def ask(wire: Wire, space: str, since: int, *headers: str, wait: float = 20) -> None:
    wire.ask(f"/v1/spaces/{space}/changes?since={since}&wait={wait:g}", *headers, method="GET")


def said(wire: Wire) -> tuple[int, dict[str, Any]]:
    status, _, body = wire.answer()
    return status, json.loads(body)


def waits(hub: Hub, space: str, count: int = 1) -> None:
    wait_for(lambda: hub.watch.count(space) == count, f"{count} wait")


@contextmanager
def hub_behind_http(url: str, **options: Any) -> Iterator[tuple[Hub, Service]]:
    with ExitStack() as stack:
        hub = stack.enter_context(closing(Hub(url, **options)))
        yield hub, stack.enter_context(Service(stack.enter_context(serving(hub)), hub, url))


# -- what is answered ----------------------------------------------------------------------------------------


def test_each_question_is_told_of_its_own_news(
    service: Service, device: Device, wire: Wire, taken: Taken
) -> None:
    head = pushed(device)
    for number in range(4):
        ask(wire, device.space, head)
        waits(service.hub, device.space)
        head = pushed(device, f"k{number}")
        assert said(wire) == (200, {"epoch": device.epoch, "head": head})
    assert taken.count == 3, "all but the first"


def test_the_answer_is_the_same_as_to_the_first_question(device: Device, wire: Wire, taken: Taken) -> None:
    pushed(device)
    answers = []
    for _ in range(2):
        ask(wire, device.space, 0)
        status, headers, body = wire.answer()
        assert headers.pop("date").endswith(" GMT")
        answers.append((status, headers, body))
    assert answers[0] == answers[1]
    assert taken.count == 1


def test_who_has_waited_long_enough_is_told_that_there_is_no_news(
    device: Device, wire: Wire, taken: Taken, short_waits: None
) -> None:
    head = pushed(device)
    for _ in range(2):
        began = time.monotonic()
        ask(wire, device.space, head, wait=0.2)
        assert said(wire) == (200, {"epoch": device.epoch, "head": head})
        assert time.monotonic() >= began + 0.2
    assert taken.count == 1


def test_it_holds_no_task_and_no_thread(service: Service, device: Device, taken: Taken) -> None:
    """A task would hold the frame of its coroutine: of those there is one for each first question alone."""
    head = pushed(device)
    with wires(service.address, 5) as some:
        for wire in some:
            ask(wire, device.space, 0)
            assert said(wire)[0] == 200
        threads = threading.active_count()
        for wire in some:
            ask(wire, device.space, head)
        waits(service.hub, device.space, 5)
        assert threading.active_count() <= threads + 1, "one for all that wait"
        assert taken.count == 5
        pushed(device, "b")
        assert [said(wire)[1]["head"] for wire in some] == [head + 1] * 5


@pytest.mark.parametrize(
    ("headers", "wait"), [((), 19), (("Accept: */*",), 20), (("X-Forwarded-For: 10.0.0.1",), 20)]
)
def test_another_question_is_read(
    device: Device, wire: Wire, taken: Taken, headers: tuple[str, ...], wait: float
) -> None:
    pushed(device)
    ask(wire, device.space, 0)
    assert said(wire)[0] == 200
    ask(wire, device.space, 0, *headers, wait=wait)
    assert said(wire)[0] == 200
    assert taken.count == 0


@pytest.mark.parametrize("since", ["-1", "x", "", "9223372036854775808", "1" * 30])
def test_what_makes_no_sense_is_refused_the_second_time_too(
    device: Device, wire: Wire, taken: Taken, since: str
) -> None:
    pushed(device)
    ask(wire, device.space, 0)
    assert said(wire)[0] == 200
    wire.ask(f"/v1/spaces/{device.space}/changes?since={since}&wait=20", method="GET")
    assert said(wire)[0] == 400
    assert taken.count == 0


def test_heads_that_come_in_pieces_or_together_are_answered_one_after_the_other(
    device: Device, wire: Wire
) -> None:
    pushed(device)
    head = f"GET /v1/spaces/{device.space}/changes?since=0&wait=20 HTTP/1.1\r\nHost: hub\r\n\r\n".encode()
    for parts in ([head], [head[:30], head[30:]], [head * 3], [head, head[:-2], head[-2:]], [head]):
        for part in parts:
            wire.send(part)
        for _ in range(b"".join(parts).count(b"GET ")):
            assert said(wire)[0] == 200


def test_a_head_within_another_head_is_no_question(device: Device, wire: Wire, taken: Taken) -> None:
    pushed(device)
    head = f"GET /v1/spaces/{device.space}/changes?since=0&wait=20 HTTP/1.1\r\nHost: hub\r\n\r\n".encode()
    wire.send(head)
    assert said(wire)[0] == 200
    wire.send(b"GET /healthz HTTP/1.1\r\nX-Said: ")
    time.sleep(0.2)  # so that the hub has it before the rest
    wire.send(head)
    assert said(wire) == (200, {"status": "ok"})
    assert taken.count == 0


def test_what_comes_while_it_waits_is_answered_after_it(
    service: Service, device: Device, wire: Wire, taken: Taken
) -> None:
    head = pushed(device)
    ask(wire, device.space, 0)
    assert said(wire)[0] == 200
    ask(wire, device.space, head)
    wire.ask("/healthz", method="GET")
    waits(service.hub, device.space)
    head = pushed(device, "b")
    assert said(wire) == (200, {"epoch": device.epoch, "head": head})
    assert said(wire) == (200, {"status": "ok"})
    assert taken.count == 1
    ask(wire, device.space, 0)
    assert said(wire)[0] == 200, "and so on"


# -- who may ask ---------------------------------------------------------------------------------------------


def test_a_token_that_has_ended_meanwhile_is_refused(new_database: Callable[[], str], taken: Taken) -> None:
    with hub_behind_http(new_database()) as (hub, service), wires(service.address) as [wire]:
        token = create_token(hub.database, "acme", {"*": frozenset({Right.READ})})
        for _ in range(2):
            ask(wire, "acme", 1, f"Authorization: Bearer {token}")
            assert said(wire) == (200, {"epoch": None, "head": 0})
        revoke_token(hub.database, "acme", token.split("~")[1])
        ask(wire, "acme", 1, f"Authorization: Bearer {token}")
        status, headers, _ = wire.answer()
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert taken.count == 2, "it was asked who it is, each time"


def test_it_counts_for_the_rate(new_database: Callable[[], str], taken: Taken) -> None:
    limits = HubLimits(rate=0.1, burst=2)
    with hub_behind_http(new_database(), limits=limits) as (hub, service), wires(service.address) as [wire]:
        token = create_token(hub.database, "acme", {"*": frozenset({Right.READ})})
        found = []
        for _ in range(3):
            ask(wire, "acme", 1, f"Authorization: Bearer {token}")
            found.append(said(wire)[0])
    assert found == [200, 200, 429]
    assert taken.count == 2


def test_it_takes_a_place_of_those_who_wait_and_gives_it_back(
    new_database: Callable[[], str], taken: Taken
) -> None:
    """Two may wait in a space of four."""
    limits = HubLimits(waiters=4)
    with (
        hub_behind_http(new_database(), without_tokens=True, limits=limits) as (hub, service),
        wires(service.address, 3) as some,
    ):
        device = service.device("acme")
        head = pushed(device)
        for wire in some:
            ask(wire, "acme", 0)
            assert said(wire)[0] == 200
        for wire in some[:2]:
            ask(wire, "acme", head)
        waits(hub, "acme", 2)
        ask(some[2], "acme", head)
        status, headers, _ = some[2].answer()
        assert status == 503
        assert 5 <= int(headers["retry-after"]) <= 30
        some[0].link.close()
        waits(hub, "acme", 1)
        ask(some[2], "acme", head)
        waits(hub, "acme", 2)
        head = pushed(device, "b")
        assert [said(wire)[1]["head"] for wire in some[1:]] == [head, head]
    assert taken.count >= 3


def test_one_more_connection_takes_the_place_of_none_that_waits(
    new_database: Callable[[], str], taken: Taken
) -> None:
    limits = HubLimits(sockets=2)
    with (
        hub_behind_http(new_database(), without_tokens=True, limits=limits) as (hub, service),
        wires(service.address) as [waiting],
    ):
        ask(waiting, "acme", 1)
        assert said(waiting)[0] == 200
        ask(waiting, "acme", 0)
        waits(hub, "acme")
        for _ in range(4):
            with wires(service.address) as [other]:
                other.ask("/healthz", method="GET")
                assert other.status() == 200
        assert pushed(service.device("acme")) == 1
        assert said(waiting)[1]["head"] == 1
    assert taken.count == 1


# -- when something ends -------------------------------------------------------------------------------------


def test_a_hub_that_ends_tells_who_waits_when_to_come_again(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch, taken: Taken
) -> None:
    monkeypatch.setattr(room, "_A_SECOND", 0.2)
    with ExitStack() as stack:
        hub = stack.enter_context(closing(Hub(new_database(), without_tokens=True)))
        with serving(hub) as address:
            some = stack.enter_context(wires(address, 6))
            for wire in some:
                ask(wire, "acme", 1)
                assert said(wire)[0] == 200
                ask(wire, "acme", 0)
            waits(hub, "acme", 6)
        answers = [wire.answer() for wire in some]
        assert all(wire.is_cut() for wire in some)
    assert {status for status, _, _ in answers} == {503}
    assert len({headers["retry-after"] for _, headers, _ in answers}) > 1, "not all in one second"
    assert taken.count == 6


def test_who_has_waited_for_a_database_that_does_not_answer_is_told_so(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch, taken: Taken, short_waits: None
) -> None:
    with (
        hub_behind_http(new_database(), without_tokens=True) as (hub, service),
        wires(service.address) as [wire],
    ):
        monkeypatch.setattr(hub, "patience", 0.3)
        ask(wire, "acme", 1, wait=0.2)
        assert said(wire)[0] == 200

        def fail(_observer: object, _spaces: object) -> None:
            raise peewee.OperationalError("the database is away")

        monkeypatch.setattr(type(hub.watch._observer), "heads", fail)
        ask(wire, "acme", 1, wait=0.2)
        status, _, body = wire.answer()
    assert (status, json.loads(body)["error"]["code"]) == (503, "database_unavailable")
    assert taken.count == 1


# -- whom a head is told -------------------------------------------------------------------------------------


def waiter(since: int, told: list[int], space: str = "acme") -> Waiter:
    return Waiter(space, since, lambda wakes: [wake() for wake in wakes], lambda: told.append(since))


def test_a_head_that_was_read_before_somebody_came_is_not_told_to_it() -> None:
    """Otherwise a device that has just pushed would be told that the hub is where it was before."""
    waiters, told = Waiters(), list[int]()
    waiters.add(waiter(3, told))
    waiters.take_doubted(all_of_them=False)
    waiters.add(late := waiter(4, told))
    waiters.note(["acme"], {"acme": Head("e", 3)})
    assert (told, late.head) == ([], None)
    assert waiters.take_doubted(all_of_them=False) == {"acme"}, "it is read again"
    waiters.note(["acme"], {"acme": Head("e", 4)})
    assert told == [3]
    assert late.head == Head("e", 4)


def test_who_waits_and_knows_the_head_is_not_looked_at_for_each_who_comes() -> None:
    waiters, told = Waiters(), list[int]()
    known = waiter(0, told)
    waiters.add(known)
    waiters.take_doubted(all_of_them=False)
    waiters.note(["acme"], {})
    mark = known.head = Head(None, 0)
    waiters.add(waiter(0, told))
    waiters.take_doubted(all_of_them=False)
    waiters.note(["acme"], {"acme": NOWHERE})
    assert known.head is mark, "it was not looked at"
    assert waiters.count("acme") == 2
    waiters.note(["acme"], {"acme": Head("e", 1)})
    assert told == [0, 0]
    assert len(waiters) == 0
