"""Whatever becomes of what hubs tell each other, of a database or of a process: it costs time."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext, suppress
from typing import Any

import psycopg
import pytest
from rig import TESTS
from rig.postgres import ReadySchemas

from statesync.hub import Hub, prepare, serving
from statesync.hub.signals import files, servers, watch
from statesync.hub.signals.watch import Watch

from ..devices import Device, Service, upsert
from ..served import running, wait_for
from .asking import Asker, pushed


def silent_push(url: str, space: str, number: int = 1) -> None:
    """Push to a hub that tells no other one."""
    with closing(Hub(url, without_tokens=True)) as hub:
        observer: Any = hub.watch._observer
        observer.tells_others = False
        body = {"client": "silent", "number": number, "batch": str(number), "hub": None, "epoch": None}
        hub.push(space, json.dumps(body | {"changes": [upsert(f"s{number}", {})]}).encode())


@pytest.fixture
def on_postgres(ready_schemas: ReadySchemas) -> Iterator[Service]:
    """A hub on PostgreSQL, behind HTTP."""
    with ExitStack() as stack:
        url = stack.enter_context(ready_schemas.lent())()
        hub = stack.enter_context(closing(Hub(url, without_tokens=True)))
        yield stack.enter_context(Service(stack.enter_context(serving(hub)), hub, url))


def waiting(service: Service, since: int) -> Asker:
    asker = Asker(service, "acme", since)
    wait_for(lambda: service.hub.watch.count("acme") == 1, "nobody waits")
    return asker


def listener(service: Service) -> psycopg.Connection[Any]:
    observer: Any = service.hub.watch._observer
    wait_for(lambda: observer._connection is not None, "nobody listens")
    connection: psycopg.Connection[Any] = observer._connection
    return connection


def test_what_nobody_has_told_is_found_by_a_look(
    on_postgres: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "LOOK_EVERY", 0.3)
    asker = waiting(on_postgres, 0)
    silent_push(on_postgres.database, "acme")
    assert asker.answer()[1]["head"] == 1
    assert asker.took < 10


def test_after_the_listeners_connection_was_lost_everything_counts_as_changed(
    on_postgres: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "LOOK_EVERY", 600.0)
    monkeypatch.setattr(watch, "_AFTER_A_FAILURE", 0.2)
    asker = waiting(on_postgres, 0)
    lost = listener(on_postgres)
    silent_push(on_postgres.database, "acme")
    assert asker.has_no_answer_within(0.3), "nobody has told, and it does not look by itself"
    with on_postgres.hub.database.connection():
        on_postgres.hub.database.run("SELECT pg_terminate_backend(?, 5000)", lost.info.backend_pid).fetchone()
    assert asker.answer()[1]["head"] == 1
    again = waiting(on_postgres, 1)
    assert listener(on_postgres) is not lost
    with closing(Hub(on_postgres.database, without_tokens=True)) as other:
        body = {"client": "c", "number": 1, "batch": "b", "hub": None, "epoch": None}
        other.push("acme", json.dumps(body | {"changes": [upsert("x", {})]}).encode())
        assert again.answer()[1]["head"] == 2, "it listens again"


def test_a_connection_that_cannot_listen_is_closed_and_no_server_that_hangs_is_waited_for(
    on_postgres: Service,
) -> None:
    pool: Any = on_postgres.hub.database.pool
    opened: list[psycopg.Connection[Any]] = []
    cut: list[psycopg.Connection[Any]] = []

    def failed() -> psycopg.Connection[Any]:
        opened.append(pool.open_apart())
        with suppress(psycopg.Error):
            opened[0].execute("BEGIN; SELECT 1 / 0")  # what follows is refused until it is rolled back
        return opened[0]

    def watched(connection: psycopg.Connection[Any]) -> AbstractContextManager[None]:
        cut.append(connection)
        return nullcontext()

    observer = servers.ServerObserver(failed, watched, lambda _connection: None)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        observer.heads(["acme"])
    assert (opened[0].closed, cut) == (True, opened)


def test_pushes_are_told_together_and_never_in_their_own_transaction(
    on_postgres: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    tell = servers.ServerObserver.tell

    def counted(self: servers.ServerObserver, spaces: Any) -> float:
        told.append(len(spaces))
        return tell(self, spaces)

    monkeypatch.setattr(servers.ServerObserver, "tell", counted)
    devices = [on_postgres.device(f"space-{number}") for number in range(3)]
    began = time.monotonic()
    for number in range(20):
        for device in devices:
            pushed(device, f"k{number}")
    took = time.monotonic() - began
    wait_for(lambda: not on_postgres.hub.watch._untold, "all is told")
    assert sum(told) >= 3
    assert len(told) <= took / servers._TELL_EVERY + 2


def test_who_only_pushes_has_one_connection_to_tell_by_and_sleeps_in_between(
    on_postgres: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    wait = servers.ServerObserver.wait

    def counted(self: servers.ServerObserver, seconds: float, *, watches: bool) -> Any:
        waits.append(seconds)
        return wait(self, seconds, watches=watches)

    monkeypatch.setattr(servers.ServerObserver, "wait", counted)
    device = on_postgres.device("acme")
    pushed(device)
    one = listener(on_postgres)
    for number in range(5):
        time.sleep(0.05)
        pushed(device, f"k{number}")
    assert listener(on_postgres) is one
    assert len(waits) < 50


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_more_names_than_fit_are_told_as_any(on_postgres: Service, seconds: float) -> None:
    asker = waiting(on_postgres, 0)
    with closing(Hub(on_postgres.database, without_tokens=True)) as other:
        silent_push(on_postgres.database, "acme")
        time.sleep(seconds)
        other.watch._observer.tell([f"{number:064}" for number in range(200)])
        assert asker.answer()[1]["head"] == 1
        other.watch._observer.rest()
    assert asker.took < 2.5


def test_a_database_that_fails_for_a_moment_is_asked_again(
    device: Device, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "_AFTER_A_FAILURE", 0.1)
    failures = [sqlite3.OperationalError("disk I/O error"), ZeroDivisionError("a defect")]
    for kind in (files.FileObserver, servers.ServerObserver):
        heads = kind.heads

        def broken(self: Any, spaces: Any, heads: Callable[..., Any] = heads) -> Any:
            if failures:
                raise failures.pop()
            return heads(self, spaces)

        monkeypatch.setattr(kind, "heads", broken)
    head = pushed(device)
    assert Asker(service, device.space, 0).answer()[1]["head"] == head
    assert "a look at the heads of the spaces failed" in caplog.text
    assert "the heads of the spaces cannot be looked at: disk I/O error" in caplog.text


def test_who_waits_for_a_database_that_does_not_answer_is_told_so(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: Any, _spaces: Any) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    for kind in (files.FileObserver, servers.ServerObserver):
        monkeypatch.setattr(kind, "heads", broken)
    url = new_database()
    with (
        closing(Hub(url, without_tokens=True, patience=0.5)) as hub,
        serving(hub) as address,
        Service(address, hub, url) as service,
    ):
        asker = Asker(service, "acme", 0, wait=0.1)
        assert (asker.answer()[0], asker.said["error"]["code"]) == (503, "database_unavailable")
        assert asker.headers["retry-after"] == "1"


def test_a_thread_that_has_ended_for_want_of_work_begins_again(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_LINGER", 0.05)
    url = new_database()
    with (
        closing(Hub(url, without_tokens=True)) as hub,
        serving(hub) as address,
        Service(address, hub, url) as service,
    ):
        device = service.device("acme")
        for number in range(3):
            asker = Asker(service, "acme", number)
            wait_for(lambda: hub.watch.count("acme") == 1, "nobody waits")
            pushed(device, f"k{number}")
            assert asker.answer()[1]["head"] == number + 1
            wait_for(lambda: hub.watch._task is None, "the thread stays")


FORK = """
import os, sys, threading
from statesync.hub import Hub, LocalRemote
from hub.db.preloaded import write
hub = Hub(sys.argv[1], without_tokens=True)
write(hub, "space", 1)
def ask(since):
    return LocalRemote(hub, "space").signals().ask(since, 20).head
asked = threading.Thread(target=lambda: print(ask(1), flush=True))
asked.start()
while not hub.watch.count("space"):
    pass
import time
time.sleep(0.3)
child = os.fork()
if child == 0:
    write(hub, "space", 2)
    os._exit(0 if ask(1) == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
asked.join()
hub.close()
"""


def test_a_process_that_forks_while_somebody_waits_goes_on_and_its_child_too(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    command = [sys.executable, "-W", "ignore:.*fork:DeprecationWarning", "-c", FORK, url]
    ran = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "2\n", "")


@pytest.mark.exhaustive
@pytest.mark.parametrize("workers", [1, 3])
def test_several_processes_are_one_hub_to_those_who_wait(
    empty_database: Callable[[], str], workers: int
) -> None:
    """Whoever of them takes the question or the push: it is told long before anybody looks by itself."""
    url = empty_database()
    prepare(url)
    with ExitStack() as stack:
        server = stack.enter_context(running(url, "--open", workers=workers))
        hub = stack.enter_context(closing(Hub(url, without_tokens=True)))
        service = stack.enter_context(Service(server.address, hub, url))
        device = service.device("acme")
        head = pushed(device)
        for number in range(10):
            askers = [Asker(service, "acme", head) for _ in range(6)]
            time.sleep(0.3)
            head = pushed(device, f"k{number}")
            assert {asker.answer()[1]["head"] for asker in askers} == {head}
            assert max(asker.took for asker in askers) < 2.0
        askers = [Asker(service, "acme", head) for _ in range(6)]
        time.sleep(0.3)
        server.process.terminate()
        assert {asker.answer()[0] for asker in askers} == {503}
        assert all("retry-after" in asker.headers for asker in askers)


def test_a_watch_that_was_closed_takes_nobody(new_database: Callable[[], str]) -> None:
    hub = Hub(new_database(), without_tokens=True)
    hub.close()
    assert isinstance(hub.watch, Watch)
    hub.watch.moved("acme")
    assert hub.watch._task is None
