"""The connection to a hub: kept, cut, and truthful about what was sent; over TLS as without it."""

from __future__ import annotations

import gc
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from backports import zstd
from rig.device import device_at

from statesync import (
    BadAnswer,
    BadOptions,
    ConnectionLost,
    HttpRemote,
    InDoubt,
    RemoteError,
    Unreachable,
)
from statesync.wire import Push

from .server import PAGE, PATIENCE, PULL, Answer, Meeting, Server, answered, at_once, endless, serving, silent

# -- kept ------------------------------------------------------------------------------------------------


def test_requests_go_over_one_connection(any_way: Meeting) -> None:
    any_way.will(*[answered(PAGE)] * 3)
    remote = any_way.remote()
    assert [remote.pull(PULL).hub for _ in range(3)] == ["hub"] * 3
    assert len(any_way.server.links) == 1


def test_a_connection_that_the_hub_has_ended_meanwhile_is_not_asked_on(meeting: Meeting) -> None:
    meeting.will(*[answered(PAGE)] * 2)
    remote = meeting.remote()
    remote.pull(PULL)
    socket.socket.shutdown(meeting.server.links[0], socket.SHUT_RDWR)
    meeting.server.ended.get(timeout=PATIENCE)
    assert remote.pull(PULL).hub == "hub"
    assert len(meeting.server.links) == 2


def test_a_connection_that_a_machine_has_slept_over_is_not_asked_on(
    any_way: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be dead, and nobody has said so: a request on it would wait for its time-out."""
    any_way.will(*[answered(PAGE)] * 3)
    remote, wall = any_way.remote(), time.time
    for slept in (0.0, 3600.0, -3600.0):
        monkeypatch.setattr(time, "time", lambda slept=slept: wall() + slept)
        assert remote.pull(PULL).hub == "hub"
    assert len(any_way.server.links) == 3


def test_a_connection_that_was_idle_for_long_is_not_asked_on(
    any_way: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router on the way forgets it without a word."""
    any_way.will(*[answered(PAGE)] * 2)
    remote, clock = any_way.remote(), time.monotonic
    remote.pull(PULL)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 31.0)
    remote.pull(PULL)
    assert len(any_way.server.links) == 2


def test_a_hub_that_says_that_it_will_hang_up_is_connected_to_anew(any_way: Meeting) -> None:
    any_way.will(*[answered(PAGE, "Connection: close")] * 2)
    remote = any_way.remote()
    for _ in range(2):
        remote.pull(PULL)
    assert len(any_way.server.links) == 2


def test_a_remote_that_is_closed_or_forgotten_ends_its_connection(any_way: Meeting) -> None:
    any_way.will(*[answered(PAGE)] * 2)
    remote = any_way.remote()
    remote.pull(PULL)
    remote.close()
    any_way.server.ended.get(timeout=PATIENCE)
    forgotten = HttpRemote(any_way.url, "acme", **any_way.way)
    forgotten.pull(PULL)
    del forgotten
    gc.collect()
    any_way.server.ended.get(timeout=PATIENCE)


# -- cut -------------------------------------------------------------------------------------------------


def test_a_request_that_takes_too_long_ends_at_its_time_out(any_way: Meeting) -> None:
    any_way.will(silent, answered(PAGE))
    remote = any_way.remote(request_timeout=0.3)
    with at_once(), pytest.raises(ConnectionLost, match=r"not there after 0\.3 seconds") as raised:
        remote.pull(PULL)
    assert raised.value.maybe_applied
    assert remote.pull(PULL).hub == "hub"


def test_a_hub_that_falls_silent_is_given_up_after_the_read_time_out(any_way: Meeting) -> None:
    any_way.will(silent)
    with at_once(), pytest.raises(ConnectionLost):
        any_way.remote(read_timeout=0.3).pull(PULL)


def test_a_server_that_does_not_speak_tls_is_given_up_after_the_connect_time_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as deaf,
        closing(
            HttpRemote(f"https://127.0.0.1:{deaf.getsockname()[1]}", "acme", connect_timeout=0.3)
        ) as remote,
        at_once(),
        pytest.raises(Unreachable, match=r"timed out.*nothing was sent"),
    ):
        remote.pull(PULL)


def test_an_interrupted_request_ends_at_once(any_way: Meeting) -> None:
    remote = any_way.remote()
    asked = threading.Event()

    def wait(link: socket.socket) -> None:
        asked.set()
        silent(link)

    def interrupt() -> None:
        asked.wait(PATIENCE)
        remote.interrupt()

    any_way.will(wait, answered(PAGE))
    other = threading.Thread(target=interrupt)
    other.start()
    with at_once(), pytest.raises(ConnectionLost) as raised:
        remote.pull(PULL)
    other.join()
    assert raised.value.maybe_applied
    assert remote.pull(PULL).hub == "hub"


def test_an_interrupt_while_the_hubs_name_is_looked_up_lets_nothing_be_sent(
    meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = meeting.remote()
    look_up = socket.getaddrinfo

    def slowly(*name: Any, **kind: Any) -> Any:
        remote.interrupt()
        return look_up(*name, **kind)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with pytest.raises(Unreachable, match="nothing was sent"):
        remote.pull(PULL)
    monkeypatch.undo()
    meeting.will(answered(PAGE))
    assert remote.pull(PULL).hub == "hub"


def test_an_interrupt_with_nothing_under_way_harms_nothing(meeting: Meeting) -> None:
    meeting.will(*[answered(PAGE)] * 2)
    remote = meeting.remote()
    for _ in range(2):
        remote.interrupt()
        remote.pull(PULL)
    assert len(meeting.server.links) == 1


def test_the_grace_of_a_cancel_bounds_a_hub_that_says_nothing(meeting: Meeting, tmp_path: Path) -> None:
    """K7: what was asked for and not answered is dropped, or is in doubt."""
    with device_at(tmp_path / "device.db", meeting.url, "acme", **meeting.way) as device:
        device.add(1)
        meeting.will(silent)
        session = device.scope.start_sync()
        wait_for_request(meeting.server)
        session.cancel(grace=0.1)
        with pytest.raises(InDoubt):
            session.result(PATIENCE)
        meeting.server.ended.get(timeout=PATIENCE)


def wait_for_request(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while not server.links or not server.answers.empty():
        assert time.monotonic() < deadline, "nothing was asked"
        time.sleep(0.01)


# -- truthful --------------------------------------------------------------------------------------------


@pytest.fixture
def mistrusted(server_tls: ssl.SSLContext) -> Iterator[str]:
    """The address of a server whose certificate nobody vouches for."""
    with serving(server_tls) as (_, port):
        yield f"https://localhost:{port}"


def test_a_certificate_that_is_not_trusted_lets_nothing_be_sent_and_is_not_tried_again(
    mistrusted: str, tmp_path: Path
) -> None:
    with device_at(tmp_path / "device.db", mistrusted, "acme") as device:
        device.add(2)
        with pytest.raises(Unreachable, match=r"certificate.*nothing was sent; ca_certs") as raised:
            device.sync()
        assert not raised.value.retryable
        (session,) = device.store.sessions()
        assert [(batch.attempts, batch.in_doubt) for batch in session.batches] == [(1, False)]
        assert len(device.operations()) == 2


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["no file", "empty", "noise"])
def test_a_file_without_certificates_is_refused_at_once(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "trust.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadOptions, match=r"trust\.pem.* holds no certificates"):
        HttpRemote("https://localhost", "acme", ca_certs=str(file))


@pytest.mark.parametrize(
    "answer",
    [
        answered(PAGE, length=len(PAGE) + 1),
        answered(gzip.compress(PAGE)[:-9], "Content-Encoding: gzip"),
        answered(b"no gzip", "Content-Encoding: gzip"),
        answered(gzip.compress(PAGE) + b"more", "Content-Encoding: gzip"),
        answered(zstd.compress(PAGE)[:-3], "Content-Encoding: zstd"),
        answered(zstd.compress(PAGE) + b"more", "Content-Encoding: zstd"),
        answered(b"no zstd", "Content-Encoding: zstd"),
        answered(gzip.compress(PAGE, mtime=0)[:12] + bytes(20), "Content-Encoding: gzip"),
        lambda link: link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
        lambda link: link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
        lambda link: None,
    ],
    ids=[
        "short",
        "short gzip",
        "no gzip",
        "more than gzip",
        "short zstd",
        "more than zstd",
        "no zstd",
        "broken gzip",
        "short chunk",
        "no chunk",
        "none",
    ],
)
def test_an_answer_that_breaks_off_is_told_as_lost_and_the_next_one_is_read(
    any_way: Meeting, answer: Answer
) -> None:
    def and_hang_up(link: socket.socket) -> None:
        answer(link)
        socket.socket.shutdown(link, socket.SHUT_RDWR)

    any_way.will(and_hang_up, answered(PAGE))
    remote = any_way.remote()
    with pytest.raises(ConnectionLost, match="broke before the answer was there") as raised:
        remote.pull(PULL)
    assert raised.value.retryable
    assert raised.value.maybe_applied
    assert "abc" not in str(raised.value), "the answer's own bytes say nothing to people"
    assert remote.pull(PULL).hub == "hub"


@pytest.mark.parametrize("framing", ["Content-Length", "chunks", "gzip"])
def test_an_answer_that_is_cut_anywhere_is_a_lost_connection(framing: str) -> None:
    """Also within its headers, where ``http.client`` sees a whole answer with nothing in it."""
    content = gzip.compress(PAGE, mtime=0) if framing == "gzip" else PAGE
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    if framing == "chunks":
        whole = head + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(content) + content + b"\r\n0"
    else:
        head += b"content-encoding: gzip\r\n" * (framing == "gzip")
        whole = head + b"content-length: %d\r\n\r\n" % len(content) + content
    with serving(None) as (server, port), closing(HttpRemote(f"http://127.0.0.1:{port}", "acme")) as remote:
        server.answers.put(answered(PAGE))
        remote.pull(PULL)
        for length in range(len(whole)):
            server.answers.put(cut_after(whole[:length]))
            with pytest.raises(ConnectionLost) as raised:
                remote.pull(PULL)
            assert raised.value.retryable
            assert raised.value.maybe_applied
        server.answers.put(cut_after(whole))
        assert remote.pull(PULL).hub == "hub"


def cut_after(said: bytes) -> Answer:
    def answer(link: socket.socket) -> None:
        link.sendall(said)
        link.shutdown(socket.SHUT_RDWR)

    return answer


def test_what_a_hub_says_before_it_has_read_everything_is_heard() -> None:
    """A body that is too large, or a token that is not known: nobody reads on, and the answer is there."""
    refusal = b'{"error": {"code": "body_too_large", "message": "no more than a little"}}'
    head = b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(refusal)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def refuse() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(1 << 10)
                link.sendall(head + refusal)

        thread = threading.Thread(target=refuse)
        thread.start()
        push = Push("client", 1, "batch", None, None, msgspec.Raw(b'["%s"]' % (b"x" * (16 << 20))))
        with (
            closing(HttpRemote(f"http://127.0.0.1:{port}", "acme")) as remote,
            pytest.raises(RemoteError, match="body_too_large") as raised,
        ):
            remote.push(push)
        thread.join()
    assert raised.value.status == 413
    assert not raised.value.maybe_applied


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_what_is_said_before_an_answer_is_read_past(any_way: Meeting, status: int) -> None:
    interim = f"HTTP/1.1 {status} Wait\r\nLink: </style.css>\r\n\r\n".encode() * 3

    def answer(link: socket.socket) -> None:
        link.sendall(interim)
        answered(PAGE)(link)

    any_way.will(answer, answered(PAGE))
    remote = any_way.remote()
    assert [remote.pull(PULL).hub for _ in range(2)] == ["hub"] * 2


@pytest.mark.parametrize("said", ["204 No Content", "202 Accepted", "206 Partial Content"])
def test_a_success_that_is_none_of_the_hubs_leaves_open_whether_a_push_was_applied(
    meeting: Meeting, said: str
) -> None:
    """A proxy may have given the request to the hub, and answer in its own words."""
    meeting.will(lambda link: link.sendall(f"HTTP/1.1 {said}\r\nContent-Length: 0\r\n\r\n".encode()))
    with pytest.raises(BadAnswer) as raised:
        meeting.remote().push(Push("client", 1, "batch", None, None, msgspec.Raw(b"[]")))
    assert raised.value.maybe_applied


def test_packed_and_chunked_answers_are_read(any_way: Meeting) -> None:
    chunk = f"{len(PAGE):x}\r\n".encode() + PAGE + b"\r\n0\r\n\r\n"
    any_way.will(
        answered(gzip.compress(PAGE), "Content-Encoding: gzip"),
        answered(zstd.compress(PAGE), "Content-Encoding: ZSTD"),
        lambda link: link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk),
        answered(PAGE),
    )
    remote = any_way.remote(compress=True)
    assert [remote.pull(PULL).hub for _ in range(4)] == ["hub"] * 4
    assert len(any_way.server.links) == 1


ZEROS = bytes(1 << 20)
TOO_LARGE = {
    "gzip": answered(gzip.compress(ZEROS), "Content-Encoding: gzip"),
    "zstd": answered(zstd.compress(ZEROS), "Content-Encoding: zstd"),
    "plain": endless,
}


@pytest.mark.parametrize("answer", TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_an_answer_over_the_limit_is_no_lost_one_and_ends_its_connection(
    any_way: Meeting, answer: Answer
) -> None:
    any_way.will(answer, answered(PAGE))
    remote = any_way.remote(max_answer=1 << 16)
    with pytest.raises(BadAnswer, match="more than 65536 bytes") as raised:
        remote.pull(PULL)
    any_way.server.ended.get(timeout=PATIENCE)
    assert raised.value.maybe_applied
    assert remote.pull(PULL).hub == "hub"


def test_zstd_is_refused_that_wants_more_memory_than_an_answer_may() -> None:
    """Its window is memory, however little comes out of it."""
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    large = zstd.ZstdCompressor(options=options)
    packed = large.compress(PAGE + b" " * (9 << 20)) + large.flush()
    with serving(None) as (server, port), closing(HttpRemote(f"http://127.0.0.1:{port}", "acme")) as remote:
        server.answers.put(answered(packed, "Content-Encoding: zstd"))
        with pytest.raises(ConnectionLost, match="memory"):
            remote.pull(PULL)


def test_a_lost_answer_ends_its_connection_while_somebody_still_looks_at_the_error(any_way: Meeting) -> None:
    def noise(link: socket.socket) -> None:
        link.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        silent(link)

    any_way.will(noise)
    with pytest.raises(ConnectionLost) as raised:
        any_way.remote().pull(PULL)
    any_way.server.ended.get(timeout=PATIENCE)
    assert raised.value.maybe_applied


def test_the_hubs_retry_after_is_told_in_seconds(meeting: Meeting) -> None:
    refusal = b'{"error": {"code": "busy", "message": "later"}}'
    for value, seconds in (("7", 7.0), ("-1", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)):
        head = f"HTTP/1.1 503 Busy\r\nContent-Length: {len(refusal)}\r\nRetry-After: {value}\r\n\r\n".encode()
        meeting.will(lambda link, head=head: link.sendall(head + refusal))  # type: ignore[misc]
        with pytest.raises(RemoteError) as raised:
            meeting.remote().pull(PULL)
        assert raised.value.retry_after == seconds


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_host_is_reached_by_name_and_by_number(host: str) -> None:
    with serving(None) as (server, port), closing(HttpRemote(f"http://{host}:{port}", "acme")) as remote:
        server.answers.put(answered(PAGE))
        assert remote.pull(PULL).hub == "hub"


def test_a_name_that_is_not_known_is_unreachable() -> None:
    with (
        closing(HttpRemote("http://nowhere.invalid", "acme")) as remote,
        pytest.raises(Unreachable, match="nothing was sent"),
    ):
        remote.pull(PULL)
