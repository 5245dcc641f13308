"""A hub that answers anything never damages a device, never hangs it, never fills its memory."""

from __future__ import annotations

import resource
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from statesync import HttpRemote, SyncOptions
from statesync.errors import BadAnswer, ConnectionLost, RemoteError

from ..field import SPACE, Device, device, evidence, local_hub
from ..recovery import check_end_of_day, finish_the_day, restore
from .bad_hub import Answer, bad_hub, head, with_body

ONCE = SyncOptions(max_attempts=1)


@pytest.fixture
def a(morning: Path, folder: Path) -> Iterator[Device]:
    restore(morning, folder)
    with device(folder / "a.db") as opened:
        yield opened


def drip(parts: Iterator[bytes]) -> Answer:
    def answer(client: socket.socket, _: bytes) -> None:
        for part in parts:
            client.sendall(part)
            time.sleep(0.01)

    return answer


def _forever(part: bytes) -> Iterator[bytes]:
    while True:
        yield part


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(drip(_forever(b"H")), id="in the status line"),
        pytest.param(drip(_forever(b"X-A: b\r\n")), id="no status line"),
        pytest.param(drip(iter([b"HTTP/1.1 200 OK\r\n", *[b"X"] * 10_000])), id="in a header"),
        pytest.param(
            drip(iter([head("200 OK", "Content-Length: 1000000"), *[b" "] * 10_000])), id="in the body"
        ),
    ],
)
def test_a_hub_that_drips_hangs_no_session_for_longer_than_its_time(a: Device, answer: Answer) -> None:
    with bad_hub(answer) as address:
        began = time.monotonic()
        with pytest.raises(RemoteError):
            a.store.scope(HttpRemote(address, SPACE, request_timeout=0.5)).sync(ONCE)
        assert time.monotonic() - began < 1.5


def test_a_request_that_takes_too_long_says_so_and_may_have_been_applied(a: Device) -> None:
    with bad_hub(drip(iter([head("200 OK", "Content-Length: 1000000"), *[b" "] * 10_000]))) as address:
        with pytest.raises(ConnectionLost, match=r"0\.2 seconds") as caught:
            a.store.scope(HttpRemote(address, SPACE, request_timeout=0.2)).sync(ONCE)
        assert caught.value.maybe_applied


def bomb(coding: str, wbits: int) -> Answer:
    """Return an answer of 10 GB of zeros, compressed: the same 10 MB over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    start = packer.compress(bytes(10 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(10 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)

    def answer(client: socket.socket, _request: bytes) -> None:
        client.sendall(head("200 OK", f"Content-Encoding: {coding}") + start)
        for _ in range(1000):
            client.sendall(again)

    return answer


@pytest.mark.parametrize(("coding", "wbits"), [("gzip", 31), ("deflate", 15)])
def test_ten_gigabytes_of_zeros_do_not_fill_the_memory(a: Device, coding: str, wbits: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with bad_hub(bomb(coding, wbits)) as address:
        remote = HttpRemote(address, SPACE, max_answer=8 << 20, compress=True)
        with pytest.raises(BadAnswer, match="more than 8388608 bytes"):
            a.store.scope(remote).sync(ONCE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_an_endless_answer_is_given_up_at_its_limit(a: Device) -> None:
    def answer(client: socket.socket, _: bytes) -> None:
        client.sendall(head())
        while True:
            client.sendall(bytes(1 << 20))

    with bad_hub(answer) as address, pytest.raises(BadAnswer):
        a.store.scope(HttpRemote(address, SPACE, max_answer=8 << 20)).sync(ONCE)


ODD = {
    "nothing": with_body(b""),
    "no JSON": with_body(b"<html>Welcome to the hotel's network</html>"),
    "half a document": with_body(b'{"hub": "h", "epoch": "e", "head": 1, "res'),
    "deep nesting": with_body(b"[" * 1_000_000),
    "deep nesting in a record": with_body(
        b'{"hub":"h","epoch":"e","head":9,"results":[{"status":"conflict","version":1,"data":'
        + b'{"a":' * 100_000
        + b"1"
        + b"}" * 100_000
        + b"}]}"
    ),
    "no text": with_body(b"\xff\xfe\x00"),
    "a lone surrogate": with_body(b'{"hub":"\\ud800","epoch":"e","head":1,"results":[]}'),
    "a number for text": with_body(b'{"hub":1,"epoch":2,"head":3,"results":4}'),
    "too few results": with_body(b'{"hub":"h","epoch":"e","head":1,"results":[]}'),
    "a status that is none": with_body(b'{"hub":"h","epoch":"e","head":1,"results":[{"status":"maybe"}]}'),
    "a redirect": with_body(b"", "302 Found", "Location: http://127.0.0.1:1/"),
    "a proxy's error": with_body(b"Bad gateway", "502 Bad Gateway"),
    "a portal's login": with_body(b"Log in", "511 Network Authentication Required"),
    "success without content": with_body(b"", "204 No Content"),
    "no HTTP": lambda client, _: client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "nothing at all": lambda client, _: None,
    "a broken gzip": with_body(b"\x1f\x8b\x08\x00garbage", "200 OK", "Content-Encoding: gzip"),
    "an unknown coding": with_body(b"{}", "200 OK", "Content-Encoding: x-own"),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD.keys())
def test_an_odd_answer_fails_the_session_and_changes_nothing(a: Device, folder: Path, answer: Answer) -> None:
    rows, pending = a.rows(), a.store.pending()
    with bad_hub(answer) as address, pytest.raises(RemoteError):
        a.store.scope(HttpRemote(address, SPACE)).sync(ONCE)
    assert (a.rows(), a.store.pending()) == (rows, pending)
    with local_hub(folder / "hub.db") as hub, evidence(folder) as found:
        finish_the_day(a, hub)
        check_end_of_day(found, a)
