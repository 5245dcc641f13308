"""Requests stand in line: spaces and tokens take turns, and nobody waits for the many requests of others."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import anyio
import pytest

from statesync.hub import Hub, HubLimits, Refused, serving
from statesync.hub.access.rights import Right, Rights
from statesync.hub.http.places import Door
from statesync.hub.limits import Ask, unbounded
from statesync.hub.requests import LARGE

from ..devices import Service, upsert
from ..served import wait_for
from .wires import wires

pytestmark = pytest.mark.any_database


def in_order(door: Door, spaces: str) -> tuple[list[str], list[str]]:
    """Let surveys of ``spaces`` come at once; return whose were worked on, and what the others heard."""
    worked: list[str] = []
    heard: list[str] = []
    inside: list[str] = []

    async def survey(space: str) -> None:
        try:
            with door.visit(space, door.survey_lines(space)) as visit:
                if not visit.step_up():
                    await visit.wait_for_turn()
                inside.append(space)
                assert len(inside) == 1
                worked.append(space)
                await anyio.sleep(0.02)
                inside.clear()
        except Refused as error:
            heard.append(error.problem.message)

    async def crowd() -> None:
        async with anyio.create_task_group() as tasks:
            for space in spaces:
                tasks.start_soon(survey, space)

    anyio.run(crowd)
    return worked, heard


def test_surveys_are_worked_on_one_at_a_time_and_spaces_take_turns() -> None:
    worked, heard = in_order(Door(HubLimits(), 30.0), "aaaabc")
    assert (worked, heard) == (list("abcaaa"), [])


def test_nobody_waits_behind_many_surveys() -> None:
    worked, heard = in_order(Door(HubLimits(line=2), 30.0), "aaaabcd")
    assert worked == list("abcaa")
    assert heard == [
        "the space has 2 surveys that wait for their turn, which is the limit; try again",
        "the hub has 2 surveys that wait for their turn, which is the limit; try again",
    ]


def test_nobody_waits_for_surveys_for_long() -> None:
    worked, heard = in_order(Door(HubLimits(survey_seconds=0.01), 0.001), "ab")
    assert worked == ["a"]
    assert heard == ["the request has waited 0.011 seconds for the surveys before it; try again"]


class Held(Hub):
    """A hub whose surveys, large pushes, and pulls of the space "busy", take until they are let go."""

    inside = 0
    most = 0
    begun = 0
    asked = 0
    let_go: threading.Event

    def admit(self, space: str, token: str | None, right: Right, client: str | None = None) -> Rights:
        self.asked += 1
        return super().admit(space, token, right, client)

    def take_push(self, space: str, body: bytes, rights: Rights, ask: Ask = unbounded) -> Callable[[], bytes]:
        if len(body) > LARGE:
            self.wait()
        return super().take_push(space, body, rights, ask)

    def take_survey(
        self, space: str, body: bytes, rights: Rights, ask: Ask = unbounded
    ) -> Callable[[], bytes]:
        self.wait()
        return super().take_survey(space, body, rights, ask)

    def take_pull(self, space: str, body: bytes, rights: Rights, ask: Ask = unbounded) -> Callable[[], bytes]:
        if space == "busy":
            self.wait()
        return super().take_pull(space, body, rights, ask)

    def wait(self) -> None:
        self.begun += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        assert self.let_go.wait(30)
        self.inside -= 1


@pytest.mark.timeout(60)
def test_no_other_request_waits_for_surveys(new_database: Callable[[], str]) -> None:
    url = new_database()
    with (
        closing(Held(url, without_tokens=True, connections=2)) as hub,
        serving(hub) as address,
        Service(address, hub, url) as service,
        ThreadPoolExecutor(8) as pool,
    ):
        hub.let_go = threading.Event()
        devices = [service.device(f"space-{number}") for number in range(8)]
        for device in devices:
            device.push(upsert("a", {}))
        document: dict[str, Any] = {"client": "me", "hub": None, "epoch": None, "object": "Airport"}
        document |= {"columns": [], "bounds": [""]}
        asked = [pool.submit(device.send, "survey", document) for device in devices]
        wait_for(lambda: hub.inside == 1, "no survey came")
        for device in devices:
            device.push(upsert("b", {}))
            assert len(device.pull({"Airport": {"cursor": 0, "own": True}})["changes"]) == 2
        hub.let_go.set()
        answers = [future.result() for future in asked]
    assert [answer["tallies"][0]["count"] for _, answer in answers] == [2] * 8
    assert hub.most == 1


def test_the_tokens_of_a_space_take_turns_and_each_has_its_own_who_wait() -> None:
    worked: list[str] = []
    heard: list[str] = []
    door = Door(HubLimits(line=2), 30.0)

    async def push(holder: str) -> None:
        try:
            with door.visit("acme", door.push_lines("acme")) as visit:
                visit.introduce(Rights({}, holder))
                if not visit.step_up():
                    await visit.wait_for_turn()
                worked.append(holder)
                await anyio.sleep(0.02)
        except Refused as error:
            heard.append(f"{holder}: {error.problem.message}")

    async def crowd() -> None:
        async with anyio.create_task_group() as tasks:
            for holder in "aaaabbc":
                tasks.start_soon(push, holder)

    anyio.run(crowd)
    assert worked == list("aabcab")
    assert heard == ["a: the space has 2 pushes that wait for their turn, which is the limit; try again"]


@pytest.mark.parametrize(("connections", "at_once"), [(1, 1), (2, 1), (8, 4)])
def test_the_pulls_of_a_space_have_half_of_the_threads(connections: int, at_once: int) -> None:
    door = Door(HubLimits(), 30.0, connections)
    visits = [door.visit("acme", door.pull_lines("acme")) for _ in range(9)]
    assert [visit.step_up() for visit in visits].count(True) == at_once
    assert door.visit("other", door.pull_lines("other")).step_up()


@pytest.mark.timeout(60)
def test_nobody_waits_for_the_pulls_of_another_space(new_database: Callable[[], str]) -> None:
    url = new_database()
    with (
        closing(Held(url, without_tokens=True, connections=4)) as hub,
        serving(hub) as address,
        Service(address, hub, url) as service,
        ThreadPoolExecutor(20) as pool,
    ):
        hub.let_go = threading.Event()
        devices = [service.device("busy") for _ in range(20)]
        asked = [pool.submit(device.send, "pull", device.pull_document({})) for device in devices]
        wait_for(lambda: hub.inside == 2, "no pull came")
        other = service.device("other")
        for key in "abc":
            other.push(upsert(key, {}))
        assert len(other.pull({"Airport": {"cursor": 0, "own": True}})["changes"]) == 3
        service.device("busy").push(upsert("a", {}))
        hub.let_go.set()
        assert [future.result()[0] for future in asked] == [200] * 20
    assert hub.most == 2


@pytest.mark.timeout(60)
@pytest.mark.parametrize("verb", ["survey", "push"])
def test_nothing_is_done_for_who_hangs_up_while_he_waits_in_a_line(
    new_database: Callable[[], str], verb: str
) -> None:
    url = new_database()
    with (
        closing(Held(url, without_tokens=True)) as hub,
        serving(hub) as address,
        Service(address, hub, url) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        hub.let_go = threading.Event()
        device = service.device("busy")
        device.push(upsert("a", {}))
        # One large push of a space is worked on at a time.
        large = [upsert(f"{number}", {"x": "x" * 1000}) for number in range(1100)]
        document = device.push_document(*large)
        if verb == "survey":
            document = {"client": "me", "hub": None, "epoch": None, "object": "Airport"}
            document |= {"columns": [], "bounds": [""]}
        first = pool.submit(device.send, verb, document)
        wait_for(lambda: hub.inside == 1, "nobody is worked on")
        body = json.dumps(document | {"client": "gone"}).encode()
        asked = hub.asked
        with wires(address, 3) as gone:
            for wire in gone:
                wire.ask(f"/v1/spaces/busy/{verb}", f"Content-Length: {len(body)}", body=body)
            wait_for(lambda: hub.asked == asked + 3, "they do not ask")
            service.device("other").push(upsert("a", {}))  # what comes later is answered: they stand in line
        service.device("other").push(upsert("a", {}))  # and that they are gone was seen
        hub.let_go.set()
        assert first.result()[0] == 200
        assert device.send(verb, document | {"batch": "again"})[0] in (200, 409)
        assert hub.begun == 2


@pytest.mark.timeout(60)
def test_nobody_waits_for_a_thread_for_longer_than_the_hub_is_patient(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    with (
        closing(Held(url, without_tokens=True, connections=1, patience=0.2)) as hub,
        serving(hub) as address,
        Service(address, hub, url) as service,
        ThreadPoolExecutor(9) as pool,
    ):
        hub.let_go = threading.Event()
        devices = [service.device("busy"), *(service.device(f"space-{number}") for number in range(8))]
        for device in devices:
            device.push(upsert("a", {}))
        documents = [
            device.pull_document({"Airport": {"cursor": 0}}, client="new", number=0) for device in devices
        ]
        first = pool.submit(devices[0].send, "pull", documents[0])
        wait_for(lambda: hub.inside == 1, "no pull came")
        asked = [
            pool.submit(device.send, "pull", document)
            for device, document in zip(devices[1:], documents[1:], strict=True)
        ]
        for one in asked:
            status, answer = one.result(10)
            assert (status, answer["error"]["code"]) == (503, "busy")
            assert "has waited 0.2 seconds while others kept all threads" in answer["error"]["message"]
        hub.let_go.set()
        assert first.result()[0] == devices[1].send("pull", documents[1])[0] == 200
