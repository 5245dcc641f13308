"""What a device is told when the hub or its database is in trouble, and that the trouble passes."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from statesync.errors import RemoteError
from statesync.hub import Hub, HubLimits, LocalRemote, Refused, prepare, serving, spaces
from statesync.hub.errors import refused
from statesync.wire import Accepted, Change, Push

from .devices import Service, accepted, upsert


def push(hub: Hub, number: int = 1) -> int:
    """Push one record to the space acme as one and the same client; return the head."""
    envelope = {"client": "me", "number": number, "batch": f"{number}", "hub": None, "epoch": None}
    body = json.dumps(envelope | {"changes": [upsert(f"{number}", {})]})
    head: int = json.loads(hub.push("acme", body.encode()))["head"]
    return head


def kill_connection(hub: Hub, postgres: str) -> None:
    """End the open transaction's connection from outside, as a server that fails does."""
    process = hub.database.run("SELECT pg_backend_pid()").fetchone()[0]
    with psycopg.connect(postgres) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (process,))


def test_a_database_lost_before_the_commit_has_applied_nothing(
    postgres_hub: Hub, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = postgres_hub.database.dialect
    write = dialect.write

    def write_and_die(*arguments: Any) -> None:
        write(*arguments)
        kill_connection(postgres_hub, postgres)

    with monkeypatch.context() as patch:
        patch.setattr(dialect, "write", write_and_die)
        with pytest.raises(Refused) as caught:
            push(postgres_hub)
    assert (caught.value.status, caught.value.problem.code) == (503, "database_unavailable")
    assert caught.value.retry_after
    assert push(postgres_hub) == 1


def test_a_connection_that_died_in_the_pool_is_not_used(postgres_hub: Hub, postgres: str) -> None:
    with postgres_hub.database.connection():
        kill_connection(postgres_hub, postgres)
    assert push(postgres_hub) == 1


def test_a_database_lost_in_the_commit_leaves_the_outcome_unknown(postgres_hub: Hub, postgres: str) -> None:
    with pytest.raises(Refused) as caught, postgres_hub.database.writing():
        kill_connection(postgres_hub, postgres)
    assert (caught.value.status, caught.value.problem.code) == (503, "outcome_unknown")
    assert push(postgres_hub) == 1


_PASSES_OVER = {
    "sqlite": ["CREATE TRIGGER over BEFORE {event} ON record BEGIN SELECT RAISE(IGNORE); END"],
    "postgres": [
        "CREATE FUNCTION over() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER over BEFORE {event} ON record FOR EACH ROW EXECUTE FUNCTION over()",
    ],
}


@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
def test_what_a_database_passes_over_is_not_told_as_accepted(
    hub: Hub, database_kind: str, event: str
) -> None:
    """As a trigger of somebody else's lets it: to a database that is no error."""
    remote = LocalRemote(hub, "acme")
    before = remote.push(Push("me", 1, "first", None, None, changes("a")))
    with hub.database.connection():
        for statement in _PASSES_OVER[database_kind]:
            hub.database.run(statement.format(event=event))
    both = Push("me", 2, "second", before.hub, before.epoch, changes("a", "b"))
    with pytest.raises(RemoteError, match="not_applied"):
        remote.push(both)
    with hub.database.connection():
        assert [*hub.database.run("SELECT key, version FROM record")] == [("a", 1)]
        hub.database.run("DROP TRIGGER over" + " ON record" * (database_kind == "postgres"))
    assert remote.push(both).results == [Accepted(2), Accepted(3)]


def changes(*keys: str) -> msgspec.Raw:
    return msgspec.Raw(
        msgspec.json.encode([Change("A", key, "upsert", 1, msgspec.Raw(b"{}")) for key in keys])
    )


def test_a_database_that_another_program_holds_is_busy_and_then_free(tmp_path: Path) -> None:
    prepare(f"sqlite:///{tmp_path}/hub.db")
    hub = Hub(f"sqlite:///{tmp_path}/hub.db", without_tokens=True, patience=0.05)
    holder = sqlite3.connect(f"{tmp_path}/hub.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Refused) as caught:
        push(hub)
    assert (caught.value.status, caught.value.problem.code) == (503, "database_unavailable")
    holder.execute("ROLLBACK")
    holder.close()
    assert push(hub) == 1
    hub.close()


def test_a_push_that_waits_too_long_for_its_turn_is_told_to_come_again(
    new_database: Callable[[], str],
) -> None:
    hub = Hub(new_database(), without_tokens=True, connections=1, patience=1)
    with hub.database.writing(), ThreadPoolExecutor(1) as background, pytest.raises(Refused) as caught:
        background.submit(push, hub).result(30)
    assert (caught.value.status, caught.value.problem.code) == (503, "busy")
    assert push(hub) == 1
    hub.close()


def test_no_more_requests_are_under_way_than_the_limit(new_database: Callable[[], str]) -> None:
    url = new_database()
    hub = Hub(url, without_tokens=True, limits=HubLimits(under_way=1))
    with serving(hub) as address, Service(address, hub, url) as service, ThreadPoolExecutor(2) as background:
        with hub.database.writing():
            spaces.lock(hub.database, "acme", "test", 9)
            devices = [service.device("acme") for _ in range(2)]
            answers = [background.submit(one.send, "push", one.push_document()) for one in devices]
            refused = next(as_completed(answers, timeout=30)).result()
            assert (refused[0], refused[1]["error"]["code"]) == (503, "busy")
            assert "1" in refused[1]["error"]["message"]
        assert sorted(answer.result(30)[0] for answer in answers) == [200, 503]
    hub.close()


def test_a_busy_space_leaves_room_for_others(postgres_hub: Hub) -> None:
    hub = Hub(postgres_hub.url, without_tokens=True, connections=2)
    with serving(hub) as address, Service(address, hub, hub.url) as service:
        free, busy = (service.device(name) for name in ("free", "busy"))
        free.push()
        busy.push()
        with ThreadPoolExecutor(4) as background:
            with postgres_hub.database.writing():
                spaces.lock(postgres_hub.database, "busy", "test", 9)
                writers = [service.device("busy") for _ in range(4)]
                waiting = [background.submit(one.send, "push", one.push_document()) for one in writers]
                free.push(upsert("a", {}))
                assert free.read_all("Airport", own=True)[0] == {"Airport/a": {}}
                assert not any(one.done() for one in waiting)
            assert [one.result(30)[0] for one in waiting] == [200] * 4
    hub.close()


@pytest.mark.parametrize(
    ("verb", "expected"), [("push", (503, "outcome_unknown")), ("pull", (500, "internal_error"))]
)
def test_a_defect_of_the_hub_is_a_refusal_document_too(
    new_database: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    verb: str,
    expected: tuple[int, str],
) -> None:
    url = new_database()
    hub = Hub(url, without_tokens=True)

    def defect(*_arguments: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(hub, f"take_{verb}", lambda *_arguments: defect)
    with caplog.at_level(logging.CRITICAL), serving(hub) as address, Service(address, hub, url) as service:
        device = service.device("acme")
        status, answer = device.send(verb, device.push_document() | device.pull_document({}) | {"number": 1})
    hub.close()
    assert (status, answer["error"]["code"]) == expected
    assert "nothing was applied" not in answer["error"]["message"]


def defect_in(*_arguments: object) -> None:
    raise ZeroDivisionError


def no_room(*_arguments: object) -> None:
    raise refused(503, "busy", "there is no room for the answer", 1)


@pytest.mark.parametrize("failure", [defect_in, no_room])
def test_what_fails_after_a_push_was_applied_says_that_it_is_unknown_and_a_repeat_tells(
    service: Service,
    space: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Any,
) -> None:
    device = service.device(space)
    document = device.push_document(upsert("a", {"n": 1}))
    with caplog.at_level(logging.CRITICAL), monkeypatch.context() as patch:
        patch.setattr("statesync.hub.http.web.pack", failure)
        status, answer = device.send("push", document)
    assert (status, answer["error"]["code"]) == (503, "outcome_unknown")
    status, answer = device.send("push", document)
    assert (status, answer["results"]) == (200, [accepted(1)])
    assert service.device(space).read_all("Airport")[0] == {"Airport/a": {"n": 1}}
