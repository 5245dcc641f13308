"""One budget of memory for all that a process holds: bodies, pages while they are made, unread answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from statesync.hub import Hub, HubLimits, Refused, create_token, serving
from statesync.hub.access.rights import Right
from statesync.hub.http.places import MADE, Door, Visit
from statesync.hub.limits import BEGIN

from ..devices import Device, Service, upsert
from ..served import running
from .wires import Wire, wires

FIRST = MADE * BEGIN
"""Bytes that a page takes before it is begun."""

PEAK = 120
"""Megabytes of a hub's process, whatever it is asked for."""


def visits(held: int, spaces: str, patience: float = 30.0) -> Iterator[Visit]:
    door = Door(HubLimits(held=held), patience)
    for space in spaces:
        yield door.visit(space, door.pull_lines(space))


# -- the rule ----------------------------------------------------------------------------------------------


def test_pages_count_while_they_are_made_and_give_back_what_they_did_not_need() -> None:
    first, second, third = visits(4 * FIRST, "aaa")
    assert first.make(BEGIN)
    assert second.make(BEGIN)
    assert not third.make(BEGIN), "a space has more than its half"
    first.finish(1000)
    assert not third.make(BEGIN), "an answer that is not read yet counts"
    second.finish(1000)
    assert third.make(BEGIN)


def test_the_pages_of_all_spaces_have_no_more_than_there_is() -> None:
    first, second, third = visits(2 * FIRST, "abc")
    assert [each.make(BEGIN) for each in (first, second, third)] == [True, True, False]


def test_a_page_grows_as_long_as_there_is_memory_and_is_whole_where_it_is_alone() -> None:
    limits = HubLimits()
    alone, other = visits(limits.held, "aa")
    assert alone.make(BEGIN)
    assert alone.make(limits.page_bytes), "the largest page cannot be made"
    alone.finish(1 << 20)
    assert other.make(BEGIN)
    assert not other.make(limits.page_bytes)


def test_who_finds_no_memory_lets_others_have_his_turn_and_goes_on_when_there_is_some() -> None:
    first, second, third = visits(2 * FIRST, "aaa")

    async def wait() -> None:
        assert first.step_up()
        assert first.make(BEGIN)
        first.end_turn()
        assert second.step_up()
        assert not second.make(BEGIN)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second.wait_for_turn)
            await anyio.wait_all_tasks_blocked()
            assert third.step_up(), "nobody of the space has a turn while one waits for memory"
            third.end_turn()
            first.finish(0)
        assert second.make(BEGIN)
        assert not third.make(BEGIN), "what he has waited for is given away"

    anyio.run(wait)


def test_who_waits_for_memory_waits_for_no_longer_than_the_hub_s_patience_and_takes_nothing() -> None:
    first, second, third = visits(2 * FIRST, "aaa", patience=0.01)

    async def wait() -> None:
        assert first.make(BEGIN)
        assert not second.make(BEGIN)
        with pytest.raises(
            Refused, match=r"has waited 0\.01 seconds for bytes of requests and answers"
        ) as told:
            await second.wait_for_turn()
        assert (told.value.status, told.value.retry_after) == (503, 1)
        first.finish(0)
        assert third.make(BEGIN)

    anyio.run(wait)


def test_who_waits_for_memory_of_his_space_keeps_no_other_space_from_it() -> None:
    first, second, other = visits(2 * FIRST, "aab")

    async def wait() -> None:
        assert first.make(BEGIN)
        assert not second.make(BEGIN)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second.wait_for_turn)
            await anyio.wait_all_tasks_blocked()
            assert other.make(BEGIN)
            first.finish(0)

    anyio.run(wait)


# -- over HTTP ---------------------------------------------------------------------------------------------


@contextmanager
def served(url: str, patience: float, **limits: int) -> Iterator[Service]:
    with (
        closing(Hub(url, without_tokens=True, limits=HubLimits(**limits), patience=patience)) as hub,
        serving(hub) as address,
        Service(address, hub, url) as service,
    ):
        yield service


def fill(device: Device, megabytes: int) -> None:
    """Put so many records of a megabyte into a space."""
    for number in range(megabytes):
        device.push(upsert(f"{number:03}", {"text": "x" * ((1 << 20) - 100)}))


def whole(service: Service, space: str) -> bytes:
    return json.dumps(service.device(space).pull_document({"Airport": {"cursor": 0}})).encode()


def unread(stack: ExitStack, service: Service, space: str) -> Wire:
    """Ask for a page, and read no more of it than its status."""
    [wire] = stack.enter_context(wires(service.address, buffer=4096))
    body = whole(service, space)
    wire.ask(f"/v1/spaces/{space}/pull", f"Content-Length: {len(body)}", body=body)
    return wire


def test_small_requests_do_not_wait_while_large_pages_have_all_memory(
    new_database: Callable[[], str],
) -> None:
    """A page of the space waits meanwhile, and is answered as soon as there is room."""
    with served(new_database(), 20.0, held=2 * FIRST) as service, ExitStack() as stack:
        writer, reader = service.device("acme"), service.device("acme")
        fill(writer, 8)
        wire = unread(stack, service, "acme")
        assert wire.status() == 200
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(reader.pull, {"Airport": {"cursor": 0}})
            begun = time.monotonic()
            for number in range(5):
                writer.push(upsert("small", {"n": number}))
                head = writer.pull({})["head"]
                assert writer.pull({"Airport": {"cursor": head}})["changes"] == []
                assert len(writer.pull({"Airport": {"cursor": head - 1, "own": True}})["changes"]) == 1
            assert time.monotonic() - begun < 5
            assert not waiting.done()
            wire.link.close()
            assert waiting.result(10)["changes"]


def test_who_reads_while_others_have_the_memory_gets_smaller_pages_and_all_of_it(
    new_database: Callable[[], str],
) -> None:
    with served(new_database(), 20.0, held=8 * FIRST) as service, ExitStack() as stack:
        fill(service.device("acme"), 8)
        reader = service.device("acme")
        assert len(reader.pull({"Airport": {"cursor": 0}})["changes"]) == 8
        assert unread(stack, service, "acme").status() == 200
        assert len(reader.pull({"Airport": {"cursor": 0}})["changes"]) < 8
        held, _ = reader.read_all("Airport", own=True)
        assert len(held) == 8


# -- what the system says of a hub -------------------------------------------------------------------------


def peak(process: int) -> float:
    """Return the most megabytes that a process has had."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1000


@pytest.mark.exhaustive
@pytest.mark.timeout(180)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell the peak")
@pytest.mark.parametrize(
    ("text", "coding"),
    [("x" * 800, "gzip"), ("x" * 799 + "\N{GRINNING FACE}", "identity")],
    ids=["packed", "wide"],
)
def test_slow_readers_of_large_pages_leave_a_hub_under_120_mb(
    new_database: Callable[[], str], text: str, coding: str
) -> None:
    """Of two spaces, with devices beside them that read all there is, as fast as they can."""
    url = new_database()
    with closing(Hub(url)) as hub, running(url) as server, Service(server.address, hub, url) as service:
        tokens = {space: tokens_of(hub, space) for space in ("acme", "other")}
        for space, some in tokens.items():
            device = service.device(space)
            device.token = some[0]
            for number in range(10):
                device.push(*(upsert(f"{number}-{key}", {"text": text}) for key in range(1000)))
        with ExitStack() as stack:
            for space, some in tokens.items():
                for number, wire in enumerate(stack.enter_context(wires(server.address, 30, buffer=4096))):
                    document = service.device(space).pull_document({"Airport": {"cursor": 0}}, limit=10_000)
                    body, token = json.dumps(document).encode(), some[number % len(some)]
                    head = f"Content-Length: {len(body)}", f"Authorization: Bearer {token}"
                    wire.ask(f"/v1/spaces/{space}/pull", *head, f"Accept-Encoding: {coding}", body=body)
            stack.enter_context(reading(service, tokens))
            time.sleep(12)
        most = peak(server.process.pid)
        assert most < PEAK


def tokens_of(hub: Hub, space: str) -> list[str]:
    return [create_token(hub.database, space, {"*": frozenset(Right)}) for _ in range(6)]


@contextmanager
def reading(service: Service, tokens: dict[str, list[str]]) -> Iterator[None]:
    """Read both spaces again and again beside the block; a hub that is busy says so."""
    stop = threading.Event()

    def read(space: str, token: str) -> None:
        device = service.device(space)
        device.token = token
        while not stop.is_set():
            status, answer = device.send(
                "pull", device.pull_document({"Airport": {"cursor": 0}}, limit=10_000)
            )
            assert status in (200, 503), answer

    with ThreadPoolExecutor(8) as pool:
        tasks: list[Future[Any]] = [
            pool.submit(read, space, token) for space, some in tokens.items() for token in some[:4]
        ]
        try:
            yield
        finally:
            stop.set()
        for task in tasks:
            task.result()
