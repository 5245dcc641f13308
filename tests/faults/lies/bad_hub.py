"""A server that answers every request with whatever a test makes it answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[socket.socket, bytes], None]
"""Writes an answer to a request, whose body it gets, into the connection."""


def with_body(body: bytes, status: str = "200 OK", *headers: str) -> Answer:
    """Return an answer with this body."""

    def answer(client: socket.socket, _request: bytes) -> None:
        client.sendall(head(status, f"Content-Length: {len(body)}", *headers) + body)

    return answer


def head(status: str = "200 OK", *headers: str) -> bytes:
    """Return the head of an answer; the connection ends after it."""
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/json", "Connection: close", *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


@contextmanager
def bad_hub(answer: Answer) -> Iterator[str]:
    """Serve ``answer`` to every request, and give the address."""
    closing = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=_serve, args=(listener, answer, closing), daemon=True)
        server.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            closing.set()
            listener.shutdown(socket.SHUT_RDWR)
            server.join(10)
    assert not server.is_alive()


def _serve(listener: socket.socket, answer: Answer, closing: threading.Event) -> None:
    while not closing.is_set():
        try:
            client, _ = listener.accept()
        except OSError:  # shut down
            return
        with client, suppress(OSError):  # the device hung up
            body = _body_of(client)
            if body is not None:
                answer(client, body)


def _body_of(client: socket.socket) -> bytes | None:
    """Return a request's body; None if it is none, but the question whether TLS is spoken here."""
    message = b""
    while b"\r\n\r\n" not in message:
        message += client.recv(1 << 16)
        if message.startswith(b"\x16"):
            return None
    top, _, body = message.partition(b"\r\n\r\n")
    (length,) = (
        int(line.split(b":")[1]) for line in top.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += client.recv(1 << 16)
    return body


def is_push(body: bytes) -> bool:
    """Tell a push from a pull by its body."""
    return "batch" in json.loads(body)
