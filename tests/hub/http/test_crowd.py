"""More connections than a hub has descriptors for: it goes on, and tells the others to come again."""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import urllib3
from rig.certificates import make_certificate

from statesync.hub import Hub, HubLimits, Right, create_token, prepare, serving
from statesync.hub.http import crowd as crowds

from ..served import Server, running, wait_for
from .wires import PATIENCE, Wire, wires


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('crowd')}/hub.db"
    prepare(url)
    return url


@contextmanager
def small(file: str, sockets: int) -> Iterator[str]:
    limits = HubLimits(sockets=sockets)
    with closing(Hub(file, without_tokens=True, limits=limits)) as hub, serving(hub) as address:
        yield address


def status_of(wire: Wire) -> int:
    wire.ask("/healthz", method="GET")
    return wire.answer()[0]


def begin(wires: list[Wire]) -> None:
    """Send the beginning of a request each."""
    for wire in wires:
        wire.send(b"GET /healthz HTTP/1.1\r\n")


def finish(wire: Wire) -> int:
    wire.send(b"Host: hub\r\n\r\n")
    return wire.answer()[0]


def is_served(address: str) -> bool:
    with wires(address) as [wire]:
        try:
            return status_of(wire) == 200
        except ConnectionError:
            return False


def complaints(server: Server) -> int:
    """Return how many lines it has logged besides those of its start and its end."""
    return sum("INFO" not in line for line in server.lines)


@contextmanager
def crowd(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Connect so many times and say nothing; whoever is not let in waits with the system."""
    with ExitStack() as stack:
        links = [stack.enter_context(socket.socket()) for _ in range(count)]
        for link in links:
            link.setblocking(False)
            link.connect_ex(("127.0.0.1", server.port))
        yield links


def test_who_is_one_too_many_is_told_to_come_again_and_is_served_once_another_has_ended(file: str) -> None:
    with small(file, 8) as address, wires(address, 8) as served:
        begin(served)
        with wires(address) as [late]:
            late.ask("/v1/spaces/acme/push", f"Content-Length: {1 << 20}", body=b" " * (1 << 20))
            status, headers, body = late.answer()
            assert (status, json.loads(body)["error"]["code"]) == (503, "busy")
            assert headers["retry-after"] == "1"
        assert [finish(wire) for wire in served] == [200] * 8
        served[0].link.close()
        wait_for(lambda: is_served(address), "there is room for one")


def test_a_connection_that_is_kept_and_asks_for_nothing_makes_room_for_one_more(file: str) -> None:
    with small(file, 8) as address, wires(address, 8) as served:
        begin(served[1:])
        assert status_of(served[0]) == 200
        with wires(address) as [late]:
            assert status_of(late) == 200
            assert served[0].is_cut()
            assert [finish(wire) for wire in served[1:]] == [200] * 7


def test_who_connects_and_does_not_ask_within_a_moment_makes_room_for_one_more(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowds, "_LINGER", 0.2)
    with small(file, 8) as address, wires(address, 8) as silent:
        begin(silent[4:])
        began = time.monotonic()
        wait_for(lambda: is_served(address), "no one makes room")
        assert silent[0].is_cut()
        assert time.monotonic() - began < 5.0, "nobody waits until a head has to be there"


def test_who_is_turned_away_has_a_moment_to_ask_and_no_more(file: str) -> None:
    with small(file, 1) as address, wires(address, 2) as [served, late]:
        begin([served])
        began = time.monotonic()
        assert late.is_cut()
        assert 1.0 < time.monotonic() - began < 10.0


def test_a_crowd_that_is_turned_away_has_an_end_too(file: str) -> None:
    with small(file, 8) as address, wires(address, 8) as served:
        begin(served)
        with wires(address, 40) as late:
            began = time.monotonic()
            assert all(wire.is_cut() for wire in late[5:])
            assert time.monotonic() - began < 1.0, "they are cut at once, and not after the moment"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count a backlog in other ways")
def test_the_system_keeps_128_connections_that_a_hub_has_not_taken_yet(file: str) -> None:
    """Linux keeps one more than it is told to, and lets the others ask again."""
    with running(file, "--open") as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            with crowd(server, 300) as links:
                assert len(select.select([], links, [], 0.2)[1]) == 129
        finally:
            server.process.send_signal(signal.SIGCONT)
        wait_for(lambda: is_served(server.address), "it serves when they have gone")


def test_a_hub_raises_the_soft_limit_as_far_as_its_connections_need(file: str) -> None:
    with running(file, "--open", "--limit-sockets", "300", descriptors="-S -n 64") as server:
        with wires(server.address, 300) as many:
            assert [status_of(wire) for wire in many] == [200] * 300
        assert not any("for want of descriptors" in line for line in server.said)


def test_a_hub_with_few_descriptors_says_so_and_stays_alive_under_more_connections(file: str) -> None:
    with running(file, "--open", descriptors="-n 256") as server:
        assert any("takes 192 connections and not 2500" in line for line in server.said)
        began = time.monotonic()
        with crowd(server, 900):
            wait_for(lambda: server.count("has 192 connections") > 0, "the log tells")
        wait_for(lambda: is_served(server.address), "it serves when they have gone")
        assert complaints(server) <= 2 + 2 * (time.monotonic() - began)


def test_descriptors_that_run_out_are_said_in_a_line_a_second_and_it_goes_on(
    file: str, tmp_path: Path
) -> None:
    """Before TLS has shaken hands nobody knows of a connection, so nothing but the system bounds them."""
    certificate, key = make_certificate(tmp_path)
    options = ("--open", "--tls-certificate", certificate, "--tls-key", key)
    with running(file, *options, descriptors="-n 100") as server:
        began = time.monotonic()
        with crowd(server, 400):
            wait_for(
                lambda: server.count("Too many open files; let the hub") >= 2, "the log tells, and goes on"
            )
        with urllib3.PoolManager(ca_certs=certificate, timeout=PATIENCE) as http:
            assert http.request("GET", f"https://localhost:{server.port}/healthz").status == 200
        assert complaints(server) <= 2 + 2 * (time.monotonic() - began)


def test_the_seconds_of_retry_after_are_whole_and_none_comes_too_early(file: str) -> None:
    limits = HubLimits(rate=0.4, burst=1)
    with closing(Hub(file, limits=limits)) as hub, serving(hub) as address, wires(address) as [wire]:
        token = create_token(hub.database, "acme", {"*": frozenset({Right.READ})})
        headers = []
        for _ in range(2):
            wire.ask(
                "/v1/spaces/acme/pull", f"Authorization: Bearer {token}", "Content-Length: 2", body=b"{}"
            )
            headers.append(wire.answer()[1].get("retry-after"))
        assert headers == [None, "3"], "one is paid in 2.5 seconds"
