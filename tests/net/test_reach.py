"""A name is looked up, and its addresses are tried beside each other, within one time that may be cut."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from statesync import HttpRemote, Unreachable
from statesync.net.reach import HEAD_START, Patience, reach

from .server import PAGE, PATIENCE, PULL, answered, at_once, serving

Resolver = Callable[..., None]


@pytest.fixture
def dead() -> Iterator[list[tuple[str, int]]]:
    """Addresses where connecting neither succeeds nor fails: the queues of their listeners are full."""
    with ExitStack() as stack:
        found = []
        for number in range(2, 6):
            listener = stack.enter_context(socket.socket())
            listener.bind((f"127.0.0.{number}", 0))
            listener.listen(0)
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            found.append(listener.getsockname())
        yield found


@pytest.fixture
def known_as(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Give the name hub.example these addresses, in this order."""
    look_up = socket.getaddrinfo

    def know(*addresses: tuple[str, int]) -> None:
        def answer(host: str, port: int, **options: Any) -> Any:
            if host != "hub.example":
                return look_up(host, port, **options)
            if options.get("flags"):
                raise socket.gaierror(socket.EAI_NONAME, "it is a name")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", answer)

    return know


def never() -> bool:
    return False


def test_all_addresses_of_a_name_share_one_connect_time_out(
    dead: list[tuple[str, int]], known_as: Resolver
) -> None:
    known_as(*dead)
    began = time.monotonic()
    with (
        closing(HttpRemote("http://hub.example", "acme", connect_timeout=0.6)) as remote,
        pytest.raises(Unreachable, match=r"timed out after 0\.6 seconds.*nothing was sent"),
    ):
        remote.pull(PULL)
    assert time.monotonic() - began < 1.2, "four addresses take no longer than one"


def test_an_address_that_answers_is_found_behind_dead_ones(
    dead: list[tuple[str, int]], known_as: Resolver
) -> None:
    with serving(None) as (server, port):
        known_as(dead[0], dead[1], ("127.0.0.1", port))
        server.answers.put(answered(PAGE))
        began = time.monotonic()
        with closing(HttpRemote("http://hub.example", "acme", connect_timeout=PATIENCE)) as remote:
            assert remote.pull(PULL).hub == "hub"
        assert 2 * HEAD_START <= time.monotonic() - began < PATIENCE / 2


def test_an_address_that_refuses_holds_nobody_up(known_as: Resolver) -> None:
    with serving(None) as (server, port):
        known_as(("127.0.0.1", 9), ("127.0.0.2", 9), ("127.0.0.1", port))
        server.answers.put(answered(PAGE))
        began = time.monotonic()
        with closing(HttpRemote("http://hub.example", "acme")) as remote:
            assert remote.pull(PULL).hub == "hub"
        assert time.monotonic() - began < 2 * HEAD_START


def test_an_address_that_refuses_lets_the_next_one_begin_at_once(
    dead: list[tuple[str, int]], known_as: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statesync.net.reach.HEAD_START", 0.5)
    with serving(None) as (_, port):
        known_as(dead[0], ("127.0.0.1", 9), ("127.0.0.1", port))
        began = time.monotonic()
        reach("hub.example", 80, Patience(PATIENCE, never)).close()
        assert 0.5 <= time.monotonic() - began < 0.95


def test_where_every_address_refuses_the_refusal_is_told(known_as: Resolver) -> None:
    known_as(("127.0.0.1", 9), ("127.0.0.2", 9))
    with pytest.raises(OSError, match="refused") as raised:
        reach("hub.example", 80, Patience(PATIENCE, never))
    assert raised.value.errno == errno.ECONNREFUSED


def test_the_families_of_addresses_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with many addresses of one family that is broken here does not use up the time with them."""
    six = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 9, 0, number)) for number in range(20)]
    with serving(None) as (_, port):
        four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*six, four])
        tried: list[Any] = []
        connect = socket.socket.connect_ex

        def note(link: socket.socket, address: Any) -> int:
            tried.append(address)
            return connect(link, address)

        monkeypatch.setattr(socket.socket, "connect_ex", note)
        reach("hub.example", 80, Patience(PATIENCE, never)).close()
        assert len(tried) == 2


def test_a_look_up_that_hangs_is_given_up_with_the_connect_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    hanging(monkeypatch, over)
    with (
        closing(HttpRemote("http://hub.example", "acme", connect_timeout=0.3)) as remote,
        at_once(),
        pytest.raises(Unreachable, match=r"timed out after 0\.3 seconds"),
    ):
        remote.pull(PULL)
    over.set()


def test_a_cut_ends_a_look_up_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    begun = hanging(monkeypatch, over)
    with closing(HttpRemote("http://hub.example", "acme", connect_timeout=100)) as remote:
        ends_when_cut(remote, begun)
    over.set()


def test_a_cut_ends_connecting(dead: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    begun, connect = threading.Event(), socket.socket.connect_ex

    def note(link: socket.socket, address: Any) -> int:
        begun.set()
        return connect(link, address)

    monkeypatch.setattr(socket.socket, "connect_ex", note)
    host, port = dead[0]
    with closing(HttpRemote(f"http://{host}:{port}", "acme", connect_timeout=100)) as remote:
        ends_when_cut(remote, begun)


@pytest.mark.parametrize("way", ["https://localhost:{}", "http://hub.example"])
def test_a_cut_ends_what_comes_before_a_request(way: str) -> None:
    """The handshake of TLS with a server that says nothing, or with a proxy that says nothing."""
    begun, links = threading.Event(), list[socket.socket]()

    def be_deaf(listener: socket.socket) -> None:
        links.append(listener.accept()[0])
        links[0].recv(1)
        begun.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        deaf = threading.Thread(target=be_deaf, args=(listener,))
        deaf.start()
        port = listener.getsockname()[1]
        options: dict[str, Any] = {"proxy": f"https://localhost:{port}"} if "example" in way else {}
        with closing(HttpRemote(way.format(port), "acme", connect_timeout=100, **options)) as remote:
            ends_when_cut(remote, begun)
        deaf.join()
    links[0].close()


def hanging(monkeypatch: pytest.MonkeyPatch, over: threading.Event) -> threading.Event:
    """Let the look-up of a name hang until ``over``, and return what tells that it has begun."""
    begun = threading.Event()

    def hang(*_: Any, **options: Any) -> Any:
        if not options.get("flags"):
            begun.set()
            over.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_NONAME, "it is a name")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    return begun


def ends_when_cut(remote: HttpRemote, begun: threading.Event) -> None:
    cut_at: list[float] = []

    def cut() -> None:
        begun.wait(PATIENCE)
        cut_at.append(time.monotonic())
        remote.interrupt()

    other = threading.Thread(target=cut)
    other.start()
    with pytest.raises(Unreachable, match="nothing was sent") as raised:
        remote.pull(PULL)
    assert time.monotonic() - cut_at[0] < 1.0
    assert not raised.value.maybe_applied
    other.join()
