"""A remote that compresses says the same with fewer bytes, both ways."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from rig.device import device_at

from statesync import HttpRemote

Traffic = dict[str, int]


def relay(target: str, traffic: Traffic) -> tuple[str, Callable[[], None]]:
    """Pass bytes between a device and the hub, and count them each way."""
    host, port = target.removeprefix("http://").split(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket, way: str) -> None:
        while part := source.recv(1 << 16):
            traffic[way] = traffic.get(way, 0) + len(part)
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        device, _ = listener.accept()
        with device, socket.create_connection((host, int(port))) as hub:
            up = threading.Thread(target=pump, args=(device, hub, "up"))
            up.start()
            pump(hub, device, "down")
            up.join()

    thread = threading.Thread(target=serve)
    thread.start()

    def end() -> None:
        thread.join(20)
        listener.close()

    return f"http://127.0.0.1:{listener.getsockname()[1]}", end


def day(path: Path, hub: str, space: str, *, compress: bool) -> tuple[Traffic, Traffic]:
    """Upload 500 records, and download them on another device; return the traffic of both."""
    sent, fetched = Traffic(), Traffic()
    url, end = relay(hub, sent)
    with device_at(path.with_suffix(".one"), url, space, compress=compress) as one:
        one.add(500)
        one.sync(upload_batch_size=500)
    end()
    url, end = relay(hub, fetched)
    with device_at(path.with_suffix(".two"), url, space, compress=compress) as two:
        two.sync()
        assert len(two.rows()) == 500
    end()
    return sent, fetched


def test_compression_halves_the_traffic_both_ways_and_changes_nothing_else(
    tmp_path: Path, address: str, space: str
) -> None:
    plain_up, plain_down = day(tmp_path / "plain", address, f"{space}-p", compress=False)
    packed_up, packed_down = day(tmp_path / "packed", address, f"{space}-c", compress=True)
    assert packed_up["up"] < plain_up["up"] / 2
    assert packed_down["down"] < plain_down["down"] / 2


def test_what_is_sent_packed_is_what_would_have_been_sent_plain() -> None:
    remote = HttpRemote("http://127.0.0.1:1", "space", compress=True)
    body = json.dumps({"name": "x" * 2000}).encode()
    packed, headers = remote._packed(body)
    assert gzip.decompress(packed) == body
    assert headers["Content-Encoding"] == "gzip"
    small, headers = remote._packed(b"{}")
    assert (small, "Content-Encoding" in headers) == (b"{}", False)
    remote.close()
