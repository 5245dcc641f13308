"""A real HTTP proxy on loopback: it forwards requests, and is a pipe for who asks it to CONNECT."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from attrs import define, field

PATIENCE = 10.0
OWN = {b"proxy-authorization", b"connection", b"host"}


@define(eq=False)
class Forwarder:
    """A proxy: ``hosts`` are the names that it alone knows; ``credentials`` (user:password) are asked for.

    ``asked`` has the first line of every request, in order; ``passed`` all headers that it has passed on.
    """

    listener: socket.socket
    tls: ssl.SSLContext | None
    hosts: dict[str, int] = field(factory=dict)
    credentials: str | None = None
    asked: list[str] = field(factory=list)
    passed: list[str] = field(factory=list)
    threads: list[threading.Thread] = field(factory=list)
    links: list[socket.socket] = field(factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def serve(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:  # the test is over
                return
            self.links.append(link)
            self.threads.append(threading.Thread(target=self._converse, args=(link,)))
            self.threads[-1].start()

    def _converse(self, plain: socket.socket) -> None:
        with (
            suppress(OSError),
            plain,
            self.tls.wrap_socket(plain, server_side=True) if self.tls else plain as link,
        ):
            self.links.append(link)
            while self._treat(link, *_read_head(link)):
                pass

    def _treat(self, link: socket.socket, head: bytes, rest: bytes) -> bool:
        """Do what a request asks for; tell whether others may follow on the same connection."""
        if not head:
            return False
        first, *lines = head.split(b"\r\n")
        self.asked.append(first.decode())
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if self.credentials and headers.get(b"proxy-authorization") != _basic(self.credentials):
            link.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
                b"Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return False
        verb, target, _ = first.decode().split(" ")
        if verb == "CONNECT":
            self._be_a_pipe(link, target)
            return False
        return self._forward(link, verb, target, headers, rest)

    def _place(self, host: str | None, port: int) -> tuple[str, int]:
        return "127.0.0.1", self.hosts.get(host or "", port)

    def _be_a_pipe(self, link: socket.socket, target: str) -> None:
        host, _, port = target.rpartition(":")
        try:
            hub = socket.create_connection(self._place(host, int(port)))
        except OSError:
            link.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        self.links.append(hub)
        with hub:
            link.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _pump(link, hub)

    def _forward(
        self, link: socket.socket, verb: str, target: str, headers: dict[bytes, bytes], body: bytes
    ) -> bool:
        url = urlsplit(target)
        while len(body) < int(headers.get(b"content-length", b"0")):
            body += link.recv(1 << 16)
        passed = {name.decode(): value.decode() for name, value in headers.items() if name not in OWN}
        self.passed += [*passed]
        hub = HTTPConnection(*self._place(url.hostname, url.port or 80), timeout=PATIENCE)
        try:
            hub.request(verb, url.path, body, passed | {"Host": url.netloc})
            answer = hub.getresponse()
            status, content = f"{answer.status} {answer.reason}", answer.read()
        except (OSError, HTTPException):
            status, content = "502 Bad Gateway", b"The hub cannot be reached."
        finally:
            hub.close()
        link.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        return True


def _basic(credentials: str) -> bytes:
    return b"Basic " + b64encode(credentials.encode())


def _read_head(link: socket.socket) -> tuple[bytes, bytes]:
    message = b""
    while b"\r\n\r\n" not in message:
        part = link.recv(1 << 16)
        if part.startswith(b"\x16"):  # TLS, where none is spoken
            link.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return b"", b""
        if not part:
            return b"", b""
        message += part
    head, _, rest = message.partition(b"\r\n\r\n")
    return head, rest


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes both ways, in one thread as TLS wants it, until either side ends."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in ready.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                while part := source.recv(1 << 16):
                    key.data.sendall(part)
                    if not (isinstance(source, ssl.SSLSocket) and source.pending()):
                        break
                else:
                    return


@contextmanager
def forwarding(
    tls: ssl.SSLContext | None = None, credentials: str | None = None, hosts: dict[str, int] | None = None
) -> Iterator[Forwarder]:
    """Serve a proxy for the length of a block; ``hosts`` are the ports of the hosts that it alone knows."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Forwarder(listener, tls, hosts or {}, credentials)
        proxy.threads.append(threading.Thread(target=proxy.serve))
        proxy.threads[0].start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
        for link in proxy.links:
            with suppress(OSError):  # it has ended already
                socket.socket.shutdown(link, socket.SHUT_RDWR)
        for thread in proxy.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
