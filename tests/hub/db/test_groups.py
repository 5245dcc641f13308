"""Pushes that wait for the disk of a hub on SQLite share its commits, each whole or not at all."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from statesync.hub import Hub, Refused, prepare, serving
from statesync.hub.db.groups import _LONGEST, Group, _Turn

from ..devices import Service, upsert
from ..served import wait_for

CROWD = 6


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    own = Hub(url, without_tokens=True, patience=20.0)
    for name in range(CROWD):
        push(own, name, 1)
    yield own
    own.close()


def push(hub: Hub, name: int, number: int, size: int = 1, space: str = "") -> int:
    """Push one record as a client of its own; return the head."""
    envelope = {"client": f"{name}", "number": number, "batch": f"{number}", "hub": None, "epoch": None}
    body = json.dumps(envelope | {"changes": [upsert(f"{name}-{number}", {"x": "x" * size})]})
    head: int = json.loads(hub.push(space or f"space-{name}", body.encode()))["head"]
    return head


def keys(hub: Hub, space: str) -> set[str]:
    """Return the keys of a space, as another program reads them from the file."""
    with sqlite3.connect(hub.url.removeprefix("sqlite:///")) as other:
        found = {row[0] for row in other.execute("SELECT key FROM record WHERE space = ?", (space,))}
    other.close()
    return found


@contextmanager
def gathered(hub: Hub, tasks: Sequence[Callable[[], int]]) -> Iterator[list[Future[int]]]:
    """Let pushes wait until all of them are there, behind the first, which waits for the file."""
    group: Any = hub.database.group
    with ThreadPoolExecutor(len(tasks)) as threads:
        with hub.database.writer_lock:
            futures = [threads.submit(tasks[0])]
            wait_for(lambda: group._is_led, "nobody leads")
            for place, task in enumerate(tasks[1:], 1):
                futures.append(threads.submit(task))
                wait_for(lambda at=place: len(group._waiting) == at, "nobody waits")  # type: ignore[misc]
        yield futures


@pytest.fixture
def commits(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every commit of the hub."""
    seen: list[str] = []
    pool: Any = hub.database.pool
    commit = pool.commit

    def counted() -> None:
        seen.append("commit")
        commit()

    monkeypatch.setattr(pool, "commit", counted)
    return seen


def test_pushes_that_wait_in_line_share_one_commit(hub: Hub, commits: list[str]) -> None:
    tasks = [partial(push, hub, name, 2) for name in range(CROWD)]
    with gathered(hub, tasks) as futures:
        assert [one.result(30) for one in futures] == [2] * CROWD
    assert len(commits) == 1
    for name in range(CROWD):
        assert keys(hub, f"space-{name}") == {f"{name}-1", f"{name}-2"}


def test_pushes_to_one_space_that_share_a_commit_follow_each_other(hub: Hub, commits: list[str]) -> None:
    tasks = [partial(push, hub, name, 1, space="one") for name in range(CROWD)]
    with gathered(hub, tasks) as futures:
        assert [one.result(30) for one in futures] == [*range(1, CROWD + 1)]
    assert len(commits) == 1


def test_pushes_over_http_share_commits(hub: Hub, commits: list[str]) -> None:
    group: Any = hub.database.group
    with serving(hub) as address, Service(address, hub, hub.url) as service:
        devices = [service.device("one") for _ in range(CROWD)]
        with ThreadPoolExecutor(CROWD) as threads:
            with hub.database.writer_lock:
                pushes = [threads.submit(device.push, upsert("a", {})) for device in devices]
                wait_for(lambda: len(group._waiting) == CROWD - 1, "they do not wait together")
            answers = [one.result(30)[0]["status"] for one in pushes]
    assert sorted(answers) == ["accepted"] + ["conflict"] * (CROWD - 1)
    assert len(commits) == 1


def test_a_crowd_of_readers_and_writers_has_few_connections(hub: Hub) -> None:
    pool: Any = hub.database.pool
    with (
        serving(hub) as address,
        Service(address, hub, hub.url) as service,
        ThreadPoolExecutor(16) as threads,
    ):
        devices = [service.device(f"space-{name}") for name in range(16)]
        for done in [threads.submit(device.push, upsert("b", {})) for device in devices]:
            done.result(30)
        for read in [threads.submit(device.read_all, "Airport", own=True) for device in devices]:
            assert "Airport/b" in read.result(30)[0]
        connections = pool.held_connections()
        assert len(connections) <= 4
        assert {one.execute("PRAGMA cache_size").fetchone()[0] for one in connections} == {-8192}


def test_a_push_that_fails_takes_no_other_along(
    hub: Hub, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = hub.database.dialect
    write = dialect.write

    def write_and_fail(pool: Any, space: str, *rest: Any) -> None:
        write(pool, space, *rest)
        if space == "space-2":
            raise ZeroDivisionError

    monkeypatch.setattr(dialect, "write", write_and_fail)
    tasks = [partial(push, hub, name, 2) for name in range(CROWD)]
    with gathered(hub, tasks) as futures:
        with pytest.raises(Refused, match="not_applied"):
            futures[2].result(30)
        assert [one.result(30) for one in futures if one is not futures[2]] == [2] * (CROWD - 1)
    assert len(commits) == 1
    assert keys(hub, "space-2") == {"2-1"}
    assert keys(hub, "space-3") == {"3-1", "3-2"}
    monkeypatch.undo()
    assert push(hub, 2, 2) == 2


def test_a_push_that_undoes_the_whole_transaction_takes_no_other_along(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = hub.database.dialect
    write = dialect.write

    def write_or_lose_all(pool: Any, space: str, *rest: Any) -> None:
        write(pool, space, *rest)
        if space == "space-3":  # as SQLite does where a disk is full
            pool.execute_sql("ROLLBACK", ())
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(dialect, "write", write_or_lose_all)
    tasks = [partial(push, hub, name, 2) for name in range(CROWD)]
    with gathered(hub, tasks) as futures:
        with pytest.raises(Refused):
            futures[3].result(30)
        assert [one.result(30) for one in futures if one is not futures[3]] == [2] * (CROWD - 1)
    for name in range(CROWD):
        assert keys(hub, f"space-{name}") == {f"{name}-1"} | ({f"{name}-2"} if name != 3 else set())


def test_a_commit_that_fails_leaves_the_outcome_of_all_unknown(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool: Any = hub.database.pool

    def broken() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    tasks = [partial(push, hub, name, 2) for name in range(CROWD)]
    monkeypatch.setattr(pool, "commit", broken)
    with gathered(hub, tasks) as futures:
        for one in futures:
            with pytest.raises(Refused, match="outcome_unknown"):
                one.result(30)
    monkeypatch.undo()
    assert push(hub, 0, 2) == 2


def test_nobody_is_answered_before_the_commit(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pool: Any = hub.database.pool
    commit, reached, let_go = pool.commit, threading.Event(), threading.Event()

    def held() -> None:
        reached.set()
        assert let_go.wait(30)
        commit()

    monkeypatch.setattr(pool, "commit", held)
    tasks = [partial(push, hub, name, 2) for name in range(CROWD)]
    with gathered(hub, tasks) as futures:
        assert reached.wait(30)
        assert not any(one.done() for one in futures)
        let_go.set()
        assert [one.result(30) for one in futures] == [2] * CROWD


def test_who_has_waited_too_long_for_the_file_is_told_to_come_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    impatient = Hub(url, without_tokens=True, patience=0.2)
    with ThreadPoolExecutor(2) as threads, impatient.database.writer_lock:
        futures = [threads.submit(push, impatient, name, 1) for name in range(2)]
        for one in futures:
            with pytest.raises(Refused, match="busy"):
                one.result(30)
    assert push(impatient, 0, 1) == 1
    impatient.close()


def test_who_is_interrupted_while_it_waits_to_lead_leaves_that_to_another() -> None:
    """A Ctrl-C in the main thread of a program with a hub in its own process."""

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            super().wait(10)
            raise KeyboardInterrupt

    class Whole:
        """Has no parts to undo."""

        def begin_part(self) -> None: ...
        def end_part(self) -> None: ...
        def undo_part(self) -> bool:
            return True

    group = Group(nullcontext, Whole(), 10.0)
    began, go = threading.Event(), threading.Event()

    def lead() -> str:
        began.set()
        assert go.wait(10)
        return "led"

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(group.run, lead)
        assert began.wait(10)
        called = Interrupted()
        turn = _Turn(lambda: None, called)
        group._waiting.append(turn)
        third = threads.submit(group.run, lambda: "ran")
        wait_for(lambda: len(group._waiting) == 2, "nobody waits")
        threading.Timer(2 * _LONGEST, go.set).start()  # the first takes no further step then
        with pytest.raises(KeyboardInterrupt):
            group._wait(turn, called)
        assert [first.result(10), third.result(10)] == ["led", "ran"]
