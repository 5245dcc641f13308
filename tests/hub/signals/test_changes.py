"""The question for news: who waits is told as soon as the head of the space is another one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing

import pytest

from statesync.hub import Hub, HubLimits, Right, create_token, revoke_token, serving
from statesync.hub.http.waiting import room

from ..devices import Device, Service, upsert
from ..http.wires import wires
from ..served import wait_for
from .asking import Asker, pushed


@pytest.fixture
def waits(service: Service) -> Callable[..., Asker]:
    """Ask, and wait until the hub has it among those who wait."""

    def ask(space: str, since: int) -> Asker:
        asker = Asker(service, space, since)
        wait_for(lambda: service.hub.watch.count(space) == 1, "nobody waits")
        return asker

    return ask


# -- what is answered ----------------------------------------------------------------------------------------


def test_who_waits_is_told_as_soon_as_the_head_moves(device: Device, waits: Callable[..., Asker]) -> None:
    asker = waits(device.space, pushed(device))
    head = pushed(device, "b")
    assert asker.answer() == (200, {"epoch": device.epoch, "head": head})
    assert asker.took < 2.5, "before it would have looked by itself"


def test_who_asks_late_is_told_at_once(device: Device) -> None:
    """A head that is another one is news, be it higher or, after a backup was restored, lower."""
    head = pushed(device)
    for since in (0, head + 5):
        asker = Asker(device.service, device.space, since)
        assert asker.answer() == (200, {"epoch": device.epoch, "head": head})
        assert asker.took < 5


def test_nobody_is_told_before_there_is_news_and_then_that_there_is_none(device: Device) -> None:
    head = pushed(device)
    asker = Asker(device.service, device.space, head, wait=0.4)
    assert asker.answer() == (200, {"epoch": device.epoch, "head": head})
    assert asker.took >= 0.4


def test_who_does_not_want_to_wait_is_answered_at_once(device: Device) -> None:
    head = pushed(device)
    asker = Asker(device.service, device.space, head, wait=0)
    assert asker.answer() == (200, {"epoch": device.epoch, "head": head})
    assert asker.took < 5


def test_a_space_that_there_is_not_yet_can_be_waited_for(
    service: Service, device: Device, waits: Callable[..., Asker]
) -> None:
    assert Asker(service, device.space, 0, wait=0).answer() == (200, {"epoch": None, "head": 0})
    asker = waits(device.space, 0)
    pushed(device)
    assert asker.answer()[1]["head"] == 1


def test_what_happens_in_another_space_is_no_news(
    device: Device, service: Service, waits: Callable[..., Asker]
) -> None:
    asker = waits(device.space, pushed(device))
    pushed(service.device(device.space + "-other"))
    assert asker.has_no_answer_within(0.2)
    pushed(device, "b")
    assert asker.answer()[0] == 200


def test_a_new_epoch_is_news(service: Service, device: Device, waits: Callable[..., Asker]) -> None:
    asker = waits(device.space, pushed(device))
    service.hub.begin_epoch(device.space)
    status, said = asker.answer()
    assert status == 200
    assert said["epoch"] != device.epoch


def test_what_another_process_pushes_is_news(
    service: Service, device: Device, waits: Callable[..., Asker]
) -> None:
    """A hub of its own is told of nothing by this one: it sees the file, or is told by the server."""
    asker = waits(device.space, pushed(device))
    with closing(Hub(service.database, without_tokens=True)) as other:
        body = {"client": "c", "number": 1, "batch": "b", "hub": None, "epoch": None}
        other.push(device.space, json.dumps(body | {"changes": [upsert("x", {})]}).encode())
        assert asker.answer()[1]["head"] == 2
    assert asker.took < 2.5, "before it would have looked by itself"


def test_no_move_is_missed_however_it_falls_between_question_and_wait(device: Device) -> None:
    """Pushes race with questions: each question is answered by what came after its head."""
    head = pushed(device)
    for number in range(30):
        asker = Asker(device.service, device.space, head, wait=5)
        head = pushed(device, f"k{number}")
        assert asker.answer() == (200, {"epoch": device.epoch, "head": head})
        assert asker.took < 4


@pytest.mark.parametrize(
    "asked", ["since=-1", "since=x", "since=9223372036854775808", "wait=-1", "wait=61", "wait=nan", "wait="]
)
def test_what_makes_no_sense_is_refused(service: Service, space: str, asked: str) -> None:
    answer = service.ask("GET", f"/v1/spaces/{space}/changes?{asked}")
    assert (answer.status, answer.json()["error"]["code"]) == (400, "malformed")


def test_a_question_with_a_body_is_refused(service: Service, space: str) -> None:
    assert service.ask("GET", f"/v1/spaces/{space}/changes?wait=0", b"{}").status == 400


# -- who may ask ---------------------------------------------------------------------------------------------


def test_a_token_that_may_read_is_needed(new_database: Callable[[], str]) -> None:
    url = new_database()
    with closing(Hub(url)) as hub, serving(hub) as address, Service(address, hub, url) as service:
        good, blind = (
            create_token(hub.database, "acme", {"*": frozenset({right})})
            for right in (Right.READ, Right.WRITE)
        )
        ended = create_token(hub.database, "acme", {"*": frozenset({Right.READ})})
        revoke_token(hub.database, "acme", ended.split("~")[1])
        asked = [
            ("acme", ""),
            ("acme", "x"),
            ("acme", ended),
            ("acme", blind),
            ("other", good),
            ("acme", good),
        ]
        said = [Asker(service, space, token=token, wait=0).answer()[0] for space, token in asked]
        assert said == [401, 401, 401, 403, 403, 200]


def test_a_question_counts_for_the_rate(new_database: Callable[[], str]) -> None:
    url = new_database()
    limits = HubLimits(rate=0.1, burst=1)
    with (
        closing(Hub(url, limits=limits)) as hub,
        serving(hub) as address,
        Service(address, hub, url) as service,
    ):
        token = create_token(hub.database, "acme", {"*": frozenset({Right.READ})})
        said = [Asker(service, "acme", token=token, wait=0).answer()[0] for _ in range(2)]
    assert said == [200, 429]


# -- what it costs -------------------------------------------------------------------------------------------


def test_who_waits_has_a_limit_and_holds_none_of_what_others_need(new_database: Callable[[], str]) -> None:
    """Two may wait in a space of four; one request may be under way, and there is one connection."""
    url = new_database()
    limits = HubLimits(waiters=4, under_way=1)
    with ExitStack() as stack:
        hub = stack.enter_context(closing(Hub(url, without_tokens=True, limits=limits, connections=1)))
        service = stack.enter_context(Service(stack.enter_context(serving(hub)), hub, url))
        device = service.device("acme")
        head = pushed(device)
        threads = threading.active_count()
        askers = [Asker(service, "acme", head) for _ in range(2)]
        wait_for(lambda: hub.watch.count("acme") == 2, "two wait")
        assert threading.active_count() <= threads + 2 + 1, "the askers' own, and one for all that wait"
        late = Asker(service, "acme", head)
        assert (late.answer()[0], late.said["error"]["code"]) == (503, "busy")
        assert 5 <= int(late.headers["retry-after"]) <= 30
        assert Asker(service, "other", 0, wait=0).answer()[0] == 200
        pushed(device, "b")
        assert [asker.answer()[0] for asker in askers] == [200, 200]
        assert Asker(service, "acme", 0).answer()[0] == 200, "the places are free again"


def test_who_hangs_up_waits_no_longer(service: Service, device: Device) -> None:
    head = pushed(device)
    with wires(service.address) as [wire]:
        wire.ask(f"/v1/spaces/{device.space}/changes?since={head}&wait=30", method="GET")
        wait_for(lambda: service.hub.watch.count(device.space) == 1, "nobody waits")
    wait_for(lambda: service.hub.watch.count(device.space) == 0, "it still waits")


# -- the end of the hub --------------------------------------------------------------------------------------


def test_a_hub_that_ends_tells_those_who_wait_first_and_when_to_come_again(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_A_SECOND", 0.2)
    url = new_database()
    with closing(Hub(url, without_tokens=True)) as hub:
        with serving(hub) as address:
            service = Service(address, hub, url)
            askers = [Asker(service, "acme", 0) for _ in range(6)]
            wait_for(lambda: hub.watch.count("acme") == 6, "six wait")
        assert {asker.answer()[0] for asker in askers} == {503}
        assert all(asker.took < 10 for asker in askers)
        seconds = {int(asker.headers["retry-after"]) for asker in askers}
        assert len(seconds) > 1, "not all in one second"
        assert all(1 <= each <= 32 for each in seconds)
        service.http.clear()


def test_a_hub_that_is_closed_lets_go_of_those_who_wait(new_database: Callable[[], str]) -> None:
    url = new_database()
    hub = Hub(url, without_tokens=True)
    with serving(hub) as address, Service(address, hub, url) as service:
        asker = Asker(service, "acme", 0)
        wait_for(lambda: hub.watch.count("acme") == 1, "one waits")
        hub.close()
        assert asker.answer()[0] in (200, 503)
        assert asker.took < 10
        assert Asker(service, "acme", 0).answer()[0] == 503
