"""A hub whose process has no thread or no descriptor left for a moment tells of news again when it has."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from statesync.errors import RemoteError
from statesync.hub import Hub, LocalRemote
from statesync.hub.signals import watch
from statesync.hub.signals.watch import Observer
from statesync.threads import Task, Threads

from ..devices import upsert


@pytest.fixture
def hub(new_database: Callable[[], str]) -> Iterator[Hub]:
    with closing(Hub(new_database(), without_tokens=True)) as hub:
        yield hub


def push(hub: Hub, number: int) -> int:
    body = {"client": "c", "number": number, "batch": str(number), "hub": None, "epoch": None}
    answer = hub.push("acme", json.dumps(body | {"changes": [upsert(f"k{number}", {})]}).encode())
    head: int = json.loads(answer)["head"]
    return head


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none for who looks at the heads."""
    start = Threads.start

    def crowded(self: Threads, task: Task) -> None:
        if task.name == "statesync-signals":
            raise RuntimeError("can't start new thread")
        start(self, task)

    monkeypatch.setattr(Threads, "start", crowded)


def test_who_waits_where_no_thread_can_be_started_is_told_to_come_again_and_is_served_then(
    hub: Hub, no_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = LocalRemote(hub, "acme").signals()
    with pytest.raises(RemoteError, match="too many threads") as raised:
        signals.ask(7, 0.0)
    assert raised.value.retryable
    assert len(hub.watch._waiters) == 0, "nobody is kept that nobody answers"
    monkeypatch.undo()
    assert signals.ask(7, 0.0).head == 0


def test_a_push_is_answered_where_no_thread_can_be_started_to_tell_of_it(hub: Hub, no_threads: None) -> None:
    hub.watch._observer.tells_others = True
    assert push(hub, 1) == 1
    assert not hub.watch._untold, "no later push takes it for told by a thread"


def test_a_watch_that_had_no_descriptor_to_wait_by_tells_of_news_as_soon_as_it_has_one(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_AFTER_A_FAILURE", 0.02)
    kind: Any = type(hub.watch._observer)
    wait, failed = kind.wait, list[bool]()
    has_failed = threading.Event()

    def crowded(self: Observer, seconds: float, *, watches: bool) -> Any:
        if len(failed) < 2:
            failed.append(watches)
            raise OSError(errno.EMFILE, "Too many open files")
        has_failed.set()
        return wait(self, seconds, watches=watches)

    monkeypatch.setattr(kind, "wait", crowded)
    heads: list[int] = []
    asking = threading.Thread(target=lambda: heads.append(LocalRemote(hub, "acme").signals().ask(0, 10).head))
    asking.start()
    assert has_failed.wait(10), "its thread has ended"
    push(hub, 1)
    asking.join(10)
    assert heads == [1]
