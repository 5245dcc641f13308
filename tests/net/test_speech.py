"""http to who speaks TLS, and https to who does not: said in words, tried once, and truthful."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import pytest
import uvicorn
from rig.device import device_at

from statesync import ConnectionLost, HttpRemote, Unreachable
from statesync.hub import Hub
from statesync.hub.http.serving import listen
from statesync.hub.http.web import application
from statesync.net import transport

from .server import PAGE, PATIENCE, PULL, answered, at_once, serving, silent


@pytest.fixture(scope="module")
def tls_hub(live_hub: tuple[Hub, str], certificate: tuple[str, str]) -> Iterator[int]:
    """The port of a hub that speaks TLS."""
    files = {"ssl_certfile": certificate[0], "ssl_keyfile": certificate[1]}
    config = uvicorn.Config(application(live_hub[0]), lifespan="off", log_config=None, **files)  # type: ignore[arg-type]
    listener, server = listen("127.0.0.1", 0), uvicorn.Server(config)
    thread = Thread(target=server.run, args=([listener],))
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def test_http_to_a_hub_that_speaks_tls_says_so_and_is_not_tried_again(tls_hub: int, tmp_path: Path) -> None:
    with device_at(tmp_path / "device.db", f"http://localhost:{tls_hub}", "acme") as device:
        device.add(1)
        with pytest.raises(Unreachable, match="speaks TLS: its address begins with https://") as raised:
            device.sync()
        assert not raised.value.retryable
        assert not raised.value.maybe_applied
        (session,) = device.store.sessions()
        assert [(batch.attempts, batch.in_doubt) for batch in session.batches] == [(1, False)]


def test_https_to_a_hub_that_does_not_speak_tls_says_so_and_is_not_tried_again(
    address: str, tmp_path: Path
) -> None:
    url = address.replace("http://", "https://")
    with device_at(tmp_path / "device.db", url, "acme") as device:
        device.add(1)
        with pytest.raises(
            Unreachable, match="does not speak TLS: its address begins with http://"
        ) as raised:
            device.sync()
        assert not raised.value.retryable
        (session,) = device.store.sessions()
        assert [(batch.attempts, batch.in_doubt) for batch in session.batches] == [(1, False)]


def test_a_server_that_complains_in_tls_is_one_that_speaks_it() -> None:
    with serving(None) as (server, port), closing(HttpRemote(f"http://127.0.0.1:{port}", "acme")) as remote:
        server.answers.put(lambda link: link.sendall(b"\x15\x03\x01\x00\x02\x02\x46\r\n"))
        with pytest.raises(Unreachable, match="speaks TLS") as raised:
            remote.pull(PULL)
    assert not raised.value.maybe_applied


@contextmanager
def hanging_up(times: int) -> Iterator[tuple[str, list[bytes]]]:
    """A server that hangs up on whoever speaks to it, and what it was told."""
    told: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(times):
                link, _ = listener.accept()
                with link:
                    told.append(link.recv(1 << 16))

        thread = Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", told
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_hub_that_hangs_up_for_another_reason_is_a_lost_connection() -> None:
    with (
        hanging_up(2) as (url, told),
        closing(HttpRemote(url, "acme", "s3cret")) as remote,
        pytest.raises(ConnectionLost) as raised,
    ):
        remote.pull(PULL)
    assert raised.value.maybe_applied
    assert told[0].startswith(b"POST ")
    assert told[1].startswith(b"\x16\x03"), "it was asked whether it speaks TLS"
    assert b"s3cret" not in told[1]


def test_a_hub_that_has_answered_once_is_not_asked_what_it_speaks() -> None:
    def hang_up(link: socket.socket) -> None:
        link.shutdown(socket.SHUT_RDWR)

    with serving(None) as (server, port), closing(HttpRemote(f"http://127.0.0.1:{port}", "acme")) as remote:
        server.answers.put(answered(PAGE, "Connection: close"))
        remote.pull(PULL)
        server.answers.put(hang_up)
        with pytest.raises(ConnectionLost):
            remote.pull(PULL)
        assert len(server.links) == 2


def test_a_server_that_says_nothing_is_glanced_at_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_GLANCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        links: list[socket.socket] = []

        def hang_up_once() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(1 << 16)
            links.append(listener.accept()[0])

        thread = Thread(target=hang_up_once)
        thread.start()
        began = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with closing(HttpRemote(url, "acme")) as remote, pytest.raises(ConnectionLost):
            remote.pull(PULL)
        assert time.monotonic() - began < 1.5
        thread.join()
        links[0].close()


def test_a_hub_that_is_cut_off_is_not_glanced_at() -> None:
    with serving(None) as (server, port):
        remote = HttpRemote(f"http://127.0.0.1:{port}", "acme")

        def cut(link: socket.socket) -> None:
            remote.interrupt()
            silent(link)

        server.answers.put(cut)
        with closing(remote), at_once(), pytest.raises(ConnectionLost):
            remote.pull(PULL)
        assert len(server.links) == 1
