"""Heads: a request's is one piece with what it holds, and of an answer's only what HTTP means counts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import msgspec
import pytest

from statesync import ConnectionLost, HttpRemote
from statesync.net.addresses import hub_at
from statesync.net.http.heads import head_of_request, name_of
from statesync.wire import Push

from ..server import PAGE, PULL, Answer, Meeting, answered, serving


@pytest.fixture
def plain() -> Iterator[Meeting]:
    """A server, and a device that connects to it, without TLS: heads are read the same way there."""
    with ExitStack() as opened:
        server, port = opened.enter_context(serving(None))
        yield Meeting(server, f"http://127.0.0.1:{port}", {}, opened.enter_context(ExitStack()))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://hub.example", "hub.example"),
        ("http://hub.example:80", "hub.example"),
        ("https://hub.example:443", "hub.example"),
        ("http://hub.example:443", "hub.example:443"),
        ("https://hub.example:8710/behind/a/path", "hub.example:8710"),
        ("http://hub.example.:8710", "hub.example:8710"),
        ("http://[::1]:8710", "[::1]:8710"),
        ("http://[fe80::1%eth0]", "[fe80::1]"),
        ("http://bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_a_request_names_the_hub_as_its_address_does(url: str, name: str) -> None:
    assert name_of(hub_at(url)) == name
    head = head_of_request("GET", "/", name, {}, None).split(b"\r\n")
    assert head[:2] == [b"GET / HTTP/1.1", f"Host: {name}".encode()]
    assert head[-2:] == [b"", b""]


def test_a_request_says_how_long_its_content_is_if_it_has_any() -> None:
    assert b"\r\nContent-Length: 0\r\n" in head_of_request("POST", "/", "hub", {}, 0)
    assert b"Content-Length" not in head_of_request("GET", "/", "hub", {}, None)


def test_a_header_takes_the_place_of_the_one_that_every_request_has() -> None:
    head = head_of_request("POST", "/", "hub", {"Accept-Encoding": "gzip"}, 2)
    assert head.count(b"Accept-Encoding") == 1
    assert b"\r\nAccept-Encoding: gzip\r\n" in head


@pytest.mark.parametrize(
    ("path", "value"), [("/a b", ""), ("/a\r\nX: y", ""), ("/", "a\r\nX: y"), ("/", "a\nb"), ("/", "a\0")]
)
def test_nothing_that_is_asked_for_becomes_another_line(path: str, value: str) -> None:
    with pytest.raises(ValueError, match="a character in it"):
        head_of_request("GET", path, "hub", {"X-Value": value}, None)


def test_a_small_request_goes_out_in_one_piece() -> None:
    """Else the hub wakes up for its head, and again for what it holds."""
    with serving(None) as (server, port), closing(HttpRemote(f"http://127.0.0.1:{port}", "acme")) as remote:
        server.answers.put(answered(PAGE))
        remote.pull(PULL)
        (piece,) = server.pieces
    assert piece.endswith(b"\r\n\r\n" + msgspec.json.encode(PULL))


def test_a_large_request_arrives_whole(any_way: Meeting) -> None:
    any_way.will(answered(b'{"hub": "h", "epoch": "e", "head": 1, "results": []}'), answered(PAGE))
    remote = any_way.remote()
    payload = msgspec.Raw(b'["%s"]' % (b"x" * (1 << 20)))
    assert remote.push(Push("client", 1, "batch", None, None, payload)).results == []
    assert remote.pull(PULL).hub == "hub"


def saying(*lines: str, content: bytes = PAGE, version: str = "HTTP/1.1") -> Answer:
    head = "".join(f"{line}\r\n" for line in (f"{version} 200 OK", *lines)).encode("latin-1")
    return lambda link: link.sendall(head + b"\r\n" + content)


_LENGTH = f"content-length: {len(PAGE)}"


@pytest.mark.parametrize(
    "answer",
    [
        saying(_LENGTH.upper()),
        saying(f"Content-Length:{len(PAGE)}"),
        saying(f"Content-Length :  {len(PAGE)}  "),
        saying(_LENGTH, _LENGTH),
        saying(f"Content-Length: {len(PAGE)}, {len(PAGE)}"),
        saying("this is no header", _LENGTH),
        saying("X-Folded: of two", " \tlines", _LENGTH),
        saying("X-Anything: \xff: :", _LENGTH),
        saying(_LENGTH, "Connection: keep-alive", version="HTTP/1.0"),
        saying(*(f"X-{number}: y" for number in range(90)), _LENGTH),
        saying(
            "Transfer-Encoding: Chunked", content=b"%x;of=it\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(PAGE), PAGE)
        ),
        saying(
            "Transfer-Encoding: chunked",
            "Content-Length: 3",
            content=b"%x\r\n%s\r\n0\r\n\r\n" % (len(PAGE), PAGE),
        ),
        lambda link: link.sendall(f"HTTP/1.1 200 OK\n{_LENGTH}\n\n".encode() + PAGE),
    ],
)
def test_a_head_is_read_as_http_means_it_and_the_connection_is_asked_on(
    plain: Meeting, answer: Answer
) -> None:
    plain.will(answer, answered(PAGE))
    remote = plain.remote()
    assert [remote.pull(PULL).hub for _ in range(2)] == ["hub"] * 2
    assert len(plain.server.links) == 1


@pytest.mark.parametrize(
    "answer",
    [
        saying(_LENGTH, version="HTTP/1.0"),
        saying(_LENGTH, "Connection: Close"),
        saying(_LENGTH, "Connection: x", "connection: close"),
    ],
)
def test_a_connection_that_the_answer_ends_is_not_asked_on(plain: Meeting, answer: Answer) -> None:
    plain.will(answer, answered(PAGE))
    remote = plain.remote()
    assert [remote.pull(PULL).hub for _ in range(2)] == ["hub"] * 2
    assert len(plain.server.links) == 2


@pytest.mark.parametrize("lines", [(), ("Content-Length:",), ("Connection: close",)])
def test_an_answer_without_a_length_ends_with_its_connection(plain: Meeting, lines: tuple[str, ...]) -> None:
    def and_hang_up(link: socket.socket) -> None:
        saying(*lines)(link)
        link.shutdown(socket.SHUT_RDWR)

    plain.will(and_hang_up, answered(PAGE))
    remote = plain.remote()
    assert [remote.pull(PULL).hub for _ in range(2)] == ["hub"] * 2


@pytest.mark.parametrize(
    "answer",
    [
        saying(_LENGTH, "Content-Length: 3"),
        saying("Content-Length: 3, 4"),
        saying("Content-Length: -1"),
        saying("Content-Length: +3"),
        saying("Content-Length: 1_0"),
        saying("Content-Length: \xb2"),
        saying(f"Content-Length: {'9' * 19}"),
        saying(*["X: y"] * 101, _LENGTH),
        saying(f"X: {'y' * (1 << 16)}", _LENGTH),
        saying(_LENGTH, version="HTTP/2"),
        saying(_LENGTH, version="SSH-2.0"),
        lambda link: link.sendall(b"HTTP/1.1 20 OK\r\n\r\n"),
        lambda link: link.sendall(b"HTTP/1.1 2000 OK\r\n\r\n"),
        lambda link: link.sendall(b"\r\n\r\n"),
    ],
)
def test_a_head_that_means_nothing_is_a_lost_answer_and_ends_the_connection(
    plain: Meeting, answer: Answer
) -> None:
    plain.will(answer, answered(PAGE))
    remote = plain.remote()
    with pytest.raises(ConnectionLost) as raised:
        remote.pull(PULL)
    assert raised.value.maybe_applied
    assert remote.pull(PULL).hub == "hub"
    assert len(plain.server.links) == 2
