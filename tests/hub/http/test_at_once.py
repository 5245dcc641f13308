"""A pull that finds nothing new is answered without a thread; whatever it meets, it is answered as by one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rig.trips import wired

from statesync.hub import Hub, create_token, prepare, revoke_token, serving
from statesync.hub.access.rights import Right, Rights
from statesync.hub.db.server import glances
from statesync.hub.limits import Ask, unbounded

from ..devices import Service, upsert
from ..served import wait_for

pytestmark = pytest.mark.any_database


class Counted(Hub):
    """A hub that counts the pulls that took a thread."""

    pulls = 0

    def take_pull(self, space: str, body: bytes, rights: Rights, ask: Ask = unbounded) -> Callable[[], bytes]:
        self.pulls += 1
        return super().take_pull(space, body, rights, ask)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def service(new_database: Callable[[], str], stack: ExitStack) -> Service:
    url = new_database()
    hub = Counted(url, connections=1)
    stack.callback(hub.close)
    body = {"client": "writer", "number": 1, "batch": "1", "hub": None, "epoch": None}
    hub.push("acme", json.dumps(body | {"changes": [upsert("a", {"x": 1})]}).encode())
    return stack.enter_context(Service(stack.enter_context(serving(hub)), hub, url))


@pytest.fixture
def token(service: Service) -> str:
    return create_token(service.hub.database, "acme", {"*": frozenset({Right.READ})})


def pull(
    service: Service, token: str, cursor: int = 1, space: str = "acme", limit: int = 10
) -> tuple[int, dict[str, Any]]:
    document = {"client": "reader", "number": 0, "hub": None, "epoch": None, "limit": limit}
    body = json.dumps(document | {"objects": {"Airport": {"cursor": cursor}}}).encode()
    answer = service.ask("POST", f"/v1/spaces/{space}/pull", body, Authorization=f"Bearer {token}")
    return answer.status, answer.json()


def takes_no_thread(service: Service, token: str) -> bool:
    hub: Any = service.hub
    before = hub.pulls
    status, page = pull(service, token)
    assert (status, page["head"], page["changes"]) == (200, 1, [])
    return bool(hub.pulls == before)


def ready(service: Service, token: str) -> None:
    """Wait for the connection by which an event loop asks; SQLite's is there at once."""
    wait_for(lambda: takes_no_thread(service, token), "every pull takes a thread")


def test_a_pull_with_nothing_new_takes_no_thread(service: Service, token: str) -> None:
    ready(service, token)
    assert all(takes_no_thread(service, token) for _ in range(5))


def test_a_pull_of_something_new_reads_it(service: Service, token: str) -> None:
    ready(service, token)
    status, page = pull(service, token, cursor=0)
    assert (status, [entry["key"] for entry in page["changes"]]) == (200, ["a"])


class CountedGlances:
    """Counts how often the event loop asks the database."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.count = inner, 0

    async def ask(self, sql: str, parameters: Sequence[str]) -> Sequence[Any] | None:
        self.count += 1
        rows: Sequence[Any] | None = await self._inner.ask(sql, parameters)
        return rows


def test_who_is_amid_a_read_is_not_looked_for_by_the_event_loop(service: Service, token: str) -> None:
    """Its next pull takes a thread in any case: the look was a twentieth of a page of a thousand."""
    ready(service, token)
    body = {"client": "writer", "number": 2, "batch": "2", "hub": None, "epoch": None}
    service.hub.push("acme", json.dumps(body | {"changes": [upsert("b", {"x": 1})]}).encode())
    counted = CountedGlances(service.hub.database.glances)
    service.hub.database.glances = counted
    assert pull(service, token, cursor=0, limit=1)[1]["more"]
    assert counted.count == 1
    assert not pull(service, token, cursor=1, limit=1)[1]["more"]
    assert counted.count == 1
    assert pull(service, token, cursor=2)[1]["changes"] == []
    assert counted.count == 2
    service.hub.database.glances = counted._inner


def test_a_token_ends_at_once_for_what_takes_no_thread(service: Service, token: str) -> None:
    ready(service, token)
    assert pull(service, token[:-1] + ("A" if token[-1] != "A" else "B"))[0] == 401
    assert pull(service, token, space="other")[0] == 403
    write_only = create_token(service.hub.database, "acme", {"*": frozenset({Right.WRITE})})
    assert pull(service, write_only)[0] == 403
    other = create_token(service.hub.database, "acme", {"Country": frozenset({Right.READ})})
    assert pull(service, other)[0] == 403
    revoke_token(service.hub.database, "acme", token.split("~")[1])
    assert pull(service, token)[0] == 401


def test_what_another_hub_has_pushed_is_seen_at_once(service: Service, token: str) -> None:
    ready(service, token)
    other = Hub(service.database, without_tokens=True)
    body = {"client": "writer", "number": 2, "batch": "2", "hub": None, "epoch": None}
    other.push("acme", json.dumps(body | {"changes": [upsert("b", {"x": 1})]}).encode())
    other.close()
    status, page = pull(service, token)
    assert (status, [entry["key"] for entry in page["changes"]]) == (200, ["b"])


def test_a_connection_that_is_doubted_is_not_asked_again(service: Service, token: str) -> None:
    ready(service, token)
    service.hub.database.pool.distrust()
    assert pull(service, token)[0] == 200
    ready(service, token)


def test_a_device_that_is_somewhere_else_is_told_so_without_a_thread(service: Service, token: str) -> None:
    ready(service, token)
    document = {"client": "reader", "number": 0, "hub": "another", "epoch": None, "limit": 10}
    body = json.dumps(document | {"objects": {"Airport": {"cursor": 1}}}).encode()
    answer = service.ask("POST", "/v1/spaces/acme/pull", body, Authorization=f"Bearer {token}")
    assert (answer.status, answer.json()["error"]["code"]) == (409, "wrong_hub")


def served_with_a_record(hub: Hub, stack: ExitStack) -> tuple[Service, str]:
    """Serve a hub that has a record in the space acme; return it, and a token that has read it."""
    token = create_token(hub.database, "acme", {"*": frozenset({Right.READ})})
    body = {"client": "writer", "number": 1, "batch": "1", "hub": None, "epoch": None}
    hub.push("acme", json.dumps(body | {"changes": [upsert("a", {"x": 1})]}).encode())
    service = stack.enter_context(Service(stack.enter_context(serving(hub)), hub, hub.url))
    ready(service, token)
    return service, token


def test_a_server_that_ends_the_connection_costs_no_pull(postgres_hub: Hub, stack: ExitStack) -> None:
    hub = Counted(postgres_hub.url, connections=1)
    stack.callback(hub.close)
    service, token = served_with_a_record(hub, stack)
    pool: Any = hub.database.pool
    process = pool.glances._wire.connection.info.backend_pid
    with postgres_hub.database.connection():
        postgres_hub.database.run("SELECT pg_terminate_backend(?, 5000)", process).fetchone()
    assert [pull(service, token)[0] for _ in range(3)] == [200] * 3
    ready(service, token)


@pytest.mark.parametrize("ends", [False, True], ids=["hangs", "ends"])
def test_a_server_that_hangs_or_ends_with_a_question_is_left_to_a_thread(
    postgres_hub: Hub, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    monkeypatch.setattr(glances, "_LONGEST", 600.0 if ends else 0.1)
    wire = stack.enter_context(wired(postgres_hub.url))
    hub = Counted(wire.address)
    stack.callback(hub.close)
    service, token = served_with_a_record(hub, stack)
    pool: Any = hub.database.pool
    asked = pool.glances._wire
    with ThreadPoolExecutor(1) as background:
        with wire.frozen():
            answer = background.submit(pull, service, token)
            if ends:
                wait_for(lambda: len(asked._asked) > 0, "nothing was asked")
                wire.hang_up()
            wait_for(lambda: asked.is_closed, "the event loop still waits")
        assert answer.result(20)[0] == 200
    ready(service, token)


def test_a_pull_waits_in_a_thread_where_no_connection_is_free(tmp_path: Path, stack: ExitStack) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    hub = Counted(url, without_tokens=True, connections=1, patience=20)
    stack.callback(hub.close)
    service = stack.enter_context(Service(stack.enter_context(serving(hub)), hub, url))
    service.device("acme").push(upsert("a", {}))
    held, let_go = threading.Barrier(4), threading.Event()

    def hold() -> None:
        with hub.database.connection():
            held.wait(20)
            let_go.wait(20)

    holders = [threading.Thread(target=hold) for _ in range(3)]
    for holder in holders:
        holder.start()
    held.wait(20)
    answers: list[tuple[int, dict[str, Any]]] = []
    asking = threading.Thread(target=lambda: answers.append(pull(service, "")))
    asking.start()
    wait_for(lambda: hub.pulls == 1, "no thread was taken")
    let_go.set()
    for one in (*holders, asking):
        one.join(20)
    assert answers[0][0] == 200
