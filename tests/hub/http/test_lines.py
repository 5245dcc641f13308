"""Surveys stand in line: one is worked on at a time, spaces take turns, and nobody else waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import anyio
import pytest

from statesync.hub import Hub, HubLimits, Refused, serving
from statesync.hub.access.rights import ALL_RIGHTS, Rights
from statesync.hub.http.places import Door

from ..devices import Service, upsert
from ..served import wait_for


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
    """A hub whose surveys take until they are let go."""

    inside = 0
    most = 0
    let_go: threading.Event

    def survey(self, space: str, body: bytes, rights: Rights = ALL_RIGHTS) -> bytes:
        self.inside += 1
        self.most = max(self.most, self.inside)
        assert self.let_go.wait(30)
        self.inside -= 1
        return super().survey(space, body, rights)


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
