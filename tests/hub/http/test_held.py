"""One budget of memory for all that a process holds: bodies, pages while they are made, unread answers."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from statesync.hub import Hub, HubLimits, Refused, create_token, serving
from statesync.hub.access.rights import Right
from statesync.hub.http.places import MADE, Door, Visit
from statesync.hub.http.shares import Share
from statesync.hub.http.workers import Workers
from statesync.hub.limits import BEGIN

from ..devices import Device, Service, upsert
from ..served import running
from .wires import Wire, wires

pytestmark = pytest.mark.any_database

FIRST = MADE * BEGIN
"""Bytes that a page takes before it is begun."""

PEAK = 120
"""Megabytes of a hub's process, whatever it is asked for."""


PEAK_OF_ONE = 200
"""Megabytes, where one request alone looks at all that one may look at: what is too large is given to it."""


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


MB = 1 << 20


def test_bodies_that_wait_for_memory_to_be_read_do_not_wait_for_each_other() -> None:
    """Those that wait have all there is: the first of them is read, and then the next one."""
    first, second, late = visits(8 * MB, "abc")

    async def wait() -> None:
        assert first.has_room(3 * MB)
        assert second.has_room(3 * MB)
        assert not first.has_room(12 * MB)
        assert not second.has_room(12 * MB)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second.wait_for_turn)
            await first.wait_for_turn()
            assert not late.make(BEGIN), "one is worked on: there is nothing left"
            first.finish(0)
        assert not late.make(BEGIN)
        second.finish(0)
        assert late.make(BEGIN)

    anyio.run(wait)


def test_those_of_a_token_that_wait_do_not_let_it_have_more_and_more() -> None:
    share = Share(32, "bytes", patience=30.0)

    async def wait() -> None:
        share.take("other", "theirs", 10)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):  # the first is within the token's quarter, and the second is the one too many
                share.take("acme", "mine", 7)
                tasks.start_soon(share.wait, "acme", "mine", 30, 7)
                await anyio.wait_all_tasks_blocked()
            with pytest.raises(Refused, match="the token has 8 bytes"):
                share.take("acme", "mine", 7)
            tasks.cancel_scope.cancel()

    anyio.run(wait)


@pytest.mark.parametrize("has_begun", [True, False])
def test_who_is_cancelled_amid_its_work_holds_what_that_takes_until_it_has_ended(has_begun: bool) -> None:
    door, threads = Door(HubLimits(held=FIRST, under_way=1), 30.0), Workers(1, 30.0)
    begun, gate = threading.Event(), threading.Event()

    def work(visit: Visit) -> None:
        begun.set()
        visit.let_in()
        assert visit.step_up()
        assert visit.make(BEGIN)
        gate.wait(30.0)

    async def ask(visit: Visit, what: Callable[[], object]) -> None:
        with visit:
            visit.begin_work()
            await threads.run(what, visit.end_work)

    async def cancel() -> None:
        visit = door.visit("a", door.push_lines("a"))
        async with anyio.create_task_group() as tasks:
            if not has_begun:
                tasks.start_soon(ask, door.visit("b"), partial(gate.wait, 30.0))
                await anyio.wait_all_tasks_blocked()
                visit.let_in()
            tasks.start_soon(ask, visit, partial(work, visit))
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(begun.wait, 0 if not has_begun else 30.0)
            tasks.cancel_scope.cancel()
        if has_begun:
            assert not door.visit("b").make(BEGIN), "what a thread has is given away"
        else:
            with door.visit("c") as third:
                third.let_in()  # who only waited for a thread has nothing any more
        gate.set()
        other = door.visit("a", door.push_lines("a"))
        with anyio.fail_after(30.0):
            while not (other.make(BEGIN) and other.step_up()):
                await anyio.sleep(0.01)
        other.let_in()

    anyio.run(cancel)


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


@pytest.mark.parametrize("packed", [False, True])
def test_a_push_waits_for_the_memory_that_others_have(new_database: Callable[[], str], packed: bool) -> None:
    with served(new_database(), 20.0, held=2 * FIRST) as service, ExitStack() as stack:
        writer, other = service.device("acme"), service.device("acme")
        fill(other, 8)
        wire = unread(stack, service, "acme")
        assert wire.status() == 200
        text = "".join(map(str, range(180_000)))
        body = json.dumps(writer.push_document(upsert("a", {"text": text}))).encode()
        path, coding = "/v1/spaces/acme/push", {"Content-Encoding": "gzip"} if packed else {}
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                service.ask, "POST", path, gzip.compress(body) if packed else body, **coding
            )
            time.sleep(0.5)
            assert not waiting.done(), waiting.result().data
            wire.link.close()
            assert waiting.result(10).status == 200


def test_a_small_push_that_changes_large_records_waits_for_the_memory_that_these_take(
    new_database: Callable[[], str],
) -> None:
    with served(new_database(), 20.0, held=2 * FIRST) as service, ExitStack() as stack:
        writer = service.device("acme")
        fill(writer, 8)
        wire = unread(stack, service, "acme")
        assert wire.status() == 200
        changes = [upsert(f"{number:03}", {"n": number}) for number in range(8)]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(writer.push, *changes)
            time.sleep(0.5)
            assert not waiting.done(), waiting.result()
            wire.link.close()
            assert [verdict["status"] for verdict in waiting.result(10)] == ["accepted"] * 8
        found, _ = service.device("acme").read_all("Airport")
        assert [found[f"Airport/{number:03}"]["n"] for number in range(8)] == list(range(8))
        assert all(len(record["text"]) > MB // 2 for record in found.values())


def test_a_survey_waits_for_the_memory_that_it_takes(new_database: Callable[[], str]) -> None:
    with served(new_database(), 20.0, held=2 * FIRST) as service, ExitStack() as stack:
        device = service.device("acme")
        fill(device, 8)
        wire = unread(stack, service, "acme")
        assert wire.status() == 200
        document = {
            "client": device.client,
            "hub": device.hub,
            "epoch": device.epoch,
            "object": "Airport",
            "columns": ["text"],
            "bounds": [""],
        }
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(device.send, "survey", document)
            time.sleep(0.5)
            assert not waiting.done(), waiting.result()
            wire.link.close()
            status, answer = waiting.result(10)
        assert (status, answer["tallies"][0]["count"]) == (200, 8)


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


@pytest.mark.exhaustive
@pytest.mark.timeout(180)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell the peak")
@pytest.mark.parametrize("is_conflict", [True, False])
def test_small_pushes_that_look_at_much_leave_a_hub_under_its_peak(
    new_database: Callable[[], str], is_conflict: bool
) -> None:
    """Those of six spaces at once; each may look at 32 MB, and is told all of it, or writes all of it."""
    url = new_database()
    text, changes = "x" * 900_000, [upsert(f"{number:03}", {"n": 1}) for number in range(32)]
    with closing(Hub(url)) as hub, running(url) as server, Service(server.address, hub, url) as service:
        devices = []
        for number in range(6):
            owner, other = service.device(f"s{number}"), service.device(f"s{number}")
            owner.token, other.token = tokens_of(hub, owner.space)[:2]
            for key in range(32):
                owner.push(upsert(f"{key:03}", {"text": text}))
            devices.append(other if is_conflict else owner)
        with ThreadPoolExecutor(6) as pool:
            documents = [each.push_document(*changes, offers_again=True) for each in devices]
            said = {status for status, _ in pool.map(Device.send, devices, ["push"] * 6, documents)}
        assert said <= {200, 503}
        assert 200 in said
        assert peak(server.process.pid) < PEAK_OF_ONE


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
