"""The threads of a hub: so many of them work for an event loop, in its order, and tell whoever waits."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

import pytest

from statesync.hub.errors import Refused
from statesync.hub.http import workers
from statesync.hub.http.workers import Workers

PATIENCE = 10.0

_Outcome = TypeVar("_Outcome")


@pytest.fixture(autouse=True)
def soon_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "IDLE", 0.05)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Hold back what waits for it, until the test opens it or ends."""
    opened = threading.Event()
    yield opened
    opened.set()


def in_a_loop(work: Callable[[], Awaitable[_Outcome]]) -> _Outcome:
    async def whole() -> _Outcome:
        async with asyncio.timeout(10):
            return await work()

    return asyncio.run(whole())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


def test_work_is_done_in_another_thread_and_its_outcome_returned() -> None:
    async def work() -> tuple[int, int]:
        return await Workers(1, PATIENCE).run(threading.get_ident), threading.get_ident()

    there, here = in_a_loop(work)
    assert there != here


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_what_work_fails_by_is_raised_where_it_is_waited_for(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as met:
        in_a_loop(lambda: Workers(1, PATIENCE).run(fail))
    assert met.value is error


def test_an_error_that_no_coroutine_may_raise_leaves_nobody_waiting() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        in_a_loop(lambda: Workers(1, PATIENCE).run(lambda: next(iter(()))))


def test_a_thread_goes_on_after_work_that_failed() -> None:
    async def work() -> int:
        threads = Workers(1, PATIENCE)
        with suppress(ZeroDivisionError):
            await threads.run(lambda: 1 // 0)
        return await threads.run(lambda: 7)

    assert in_a_loop(work) == 7


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_is_done_at_once_than_there_are_threads_and_the_rest_in_its_order(
    gate: threading.Event, most: int
) -> None:
    begun: list[int] = []

    def one(number: int) -> None:
        begun.append(number)
        gate.wait()

    async def work() -> list[int]:
        threads = Workers(most, PATIENCE)
        asked = [asyncio.ensure_future(threads.run(partial(one, number))) for number in range(6)]
        await until(lambda: len(begun) == most)
        await asyncio.sleep(0.02)
        first = sorted(begun)
        gate.set()
        await asyncio.gather(*asked)
        return first

    assert in_a_loop(work) == [*range(most)]
    assert sorted(begun) == [*range(6)]
    assert most > 1 or begun == [*range(6)], "two threads may begin in either order"


def test_one_after_the_other_needs_one_thread() -> None:
    async def work() -> set[int]:
        threads = Workers(8, PATIENCE)
        return {await threads.run(threading.get_ident) for _ in range(50)}

    assert len(in_a_loop(work)) == 1


def test_who_is_cancelled_before_its_turn_is_not_worked_for(gate: threading.Event) -> None:
    done: list[str] = []

    async def work() -> None:
        threads = Workers(1, PATIENCE)
        holds = asyncio.ensure_future(threads.run(gate.wait))
        given_up = asyncio.ensure_future(threads.run(lambda: done.append("given up")))
        await asyncio.sleep(0)
        given_up.cancel()
        gate.set()
        await holds
        await threads.run(lambda: done.append("next"))
        assert given_up.cancelled()

    in_a_loop(work)
    assert done == ["next"]


def test_who_is_cancelled_amid_its_work_waits_no_longer_and_the_thread_is_used_again(
    gate: threading.Event,
) -> None:
    async def work() -> int:
        threads = Workers(1, PATIENCE)
        began = threading.Event()
        asked = asyncio.ensure_future(threads.run(partial(begin, began, gate)))
        await until(began.is_set)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        gate.set()
        return await threads.run(lambda: 7)

    assert in_a_loop(work) == 7


def test_work_that_outlives_its_loop_harms_nobody(gate: threading.Event) -> None:
    threads = Workers(1, PATIENCE)
    left = asyncio.new_event_loop()
    asked = left.create_task(threads.run(gate.wait))
    left.run_until_complete(asyncio.sleep(0))
    asked.cancel()
    left.run_until_complete(asyncio.sleep(0))
    left.close()
    gate.set()
    assert in_a_loop(lambda: threads.run(lambda: 7)) == 7


def test_threads_that_have_nothing_to_do_end() -> None:
    async def work() -> None:
        thread = await Workers(2, PATIENCE).run(threading.current_thread)
        await until(lambda: not thread.is_alive())

    in_a_loop(work)


def test_threads_that_end_and_work_that_comes_do_not_miss_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "IDLE", 0.0005)

    async def work() -> int:
        threads, done = Workers(2, PATIENCE), 0
        for number in range(300):
            await asyncio.sleep(0.0005 * (number % 3))
            done += await threads.run(lambda: 1)
        return done

    assert in_a_loop(work) == 300


def test_work_sees_the_variables_of_whoever_asks() -> None:
    asker = ContextVar("asker", default="nobody")

    async def work() -> str:
        asker.set("somebody")
        return await Workers(1, PATIENCE).run(asker.get)

    assert in_a_loop(work) == "somebody"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    threads = Workers(1, PATIENCE)
    in_a_loop(lambda: threads.run(lambda: None))
    child = os.fork()
    if child == 0:
        os._exit(7 if in_a_loop(lambda: threads.run(lambda: True)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def begin(began: threading.Event, gate: threading.Event) -> bool:
    began.set()
    return gate.wait(PATIENCE)


def test_who_waits_too_long_for_a_thread_is_refused_and_its_work_is_not_done(gate: threading.Event) -> None:
    done: list[str] = []
    began = threading.Event()

    async def work() -> None:
        threads = Workers(1, 0.05)
        first = asyncio.ensure_future(threads.run(partial(begin, began, gate)))
        await until(began.is_set)
        with pytest.raises(Refused, match=r"has waited 0\.05 seconds"):
            await threads.run(lambda: done.append("late"))
        gate.set()
        assert await first
        await threads.run(lambda: done.append("next"))

    in_a_loop(work)
    assert done == ["next"]


def test_where_the_system_has_no_thread_left_the_others_take_the_work_or_it_is_refused(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    began = threading.Event()

    async def work() -> str:
        threads = Workers(2, PATIENCE)
        first = asyncio.ensure_future(threads.run(partial(begin, began, gate)))
        await until(began.is_set)
        monkeypatch.setattr(threading.Thread, "start", no_more)
        second = asyncio.ensure_future(threads.run(lambda: "by the one that is there"))
        await asyncio.sleep(0)
        gate.set()
        await first
        with pytest.raises(Refused, match="gets no thread"):
            await Workers(1, PATIENCE).run(lambda: None)
        return await second

    assert in_a_loop(work) == "by the one that is there"
