"""A server that answers as a test says, on every way by which a device reaches a hub."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from queue import SimpleQueue
from typing import Any

import msgspec
from attrs import define, field

from statesync import HttpRemote
from statesync.wire import Page, Pull

PATIENCE = 10.0
PULL = Pull("client", 0, None, None, {}, 10)
PAGE = msgspec.json.encode(Page("hub", "epoch", 0, [], {}, more=False))

Answer = Callable[[socket.socket], None]
"""Writes an answer into the connection, or waits for its end."""


def answered(body: bytes, *headers: str, length: int | None = None) -> Answer:
    lines = ("HTTP/1.1 200 OK", f"Content-Length: {len(body) if length is None else length}", *headers)
    head = "".join(f"{line}\r\n" for line in lines).encode()
    return lambda link: link.sendall(head + b"\r\n" + body)


def silent(link: socket.socket) -> None:
    link.recv(1)


def endless(link: socket.socket) -> None:
    link.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        link.sendall(bytes(1 << 20))


@contextmanager
def at_once() -> Iterator[None]:
    """Hold the block to a time that is short beside the time-outs that it must not wait for."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < PATIENCE


@define(eq=False)
class Server:
    """A server that gives one answer after the other, on as many connections as it is asked on."""

    tls: ssl.SSLContext | None
    answers: SimpleQueue[Answer] = field(factory=SimpleQueue)
    links: list[socket.socket] = field(factory=list)
    ended: SimpleQueue[None] = field(factory=SimpleQueue)
    """A None for every connection that the device has ended."""

    def serve(self, listener: socket.socket, threads: list[threading.Thread]) -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:  # the test is over
                return
            threads.append(threading.Thread(target=self._converse, args=(link,)))
            threads[-1].start()

    def _converse(self, plain: socket.socket) -> None:
        try:
            with self.tls.wrap_socket(plain, server_side=True) if self.tls else plain as link:
                self.links.append(link)
                while _has_request(link):
                    self.answers.get(timeout=PATIENCE)(link)
        except OSError:  # cut, or a device that does not trust the certificate
            pass
        finally:
            plain.close()
            self.ended.put(None)


def _has_request(link: socket.socket) -> bool:
    message = b""
    while b"\r\n\r\n" not in message:
        part = link.recv(1 << 16)
        if not part or part.startswith(b"\x16"):  # the end, or a question whether this is TLS
            return False
        message += part
    top, _, body = message.partition(b"\r\n\r\n")
    (length,) = (int(line.split(b":")[1]) for line in top.lower().split(b"\r\n") if b"content-length" in line)
    while len(body) < length:
        body += link.recv(1 << 16)
    return True


@contextmanager
def serving(tls: ssl.SSLContext | None) -> Iterator[tuple[Server, int]]:
    server, threads = Server(tls), list[threading.Thread]()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads.append(threading.Thread(target=server.serve, args=(listener, threads)))
        threads[0].start()
        yield server, listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for link in server.links:
            with suppress(OSError):  # the device has hung up already
                socket.socket.shutdown(link, socket.SHUT_RDWR)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@define(eq=False)
class Meeting:
    """A server, and how to reach it."""

    server: Server
    url: str
    way: dict[str, Any]
    """The options of a remote that say how it gets there."""
    stack: ExitStack

    def remote(self, **options: Any) -> HttpRemote:
        return self.stack.enter_context(closing(HttpRemote(self.url, "acme", **self.way, **options)))

    def will(self, *answers: Answer) -> None:
        for answer in answers:
            self.server.answers.put(answer)
