"""Clients that do not do what clients do: they speak HTTP by the byte, as slowly as they like."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from attrs import define

PATIENCE = 20.0


@define(eq=False)
class Wire:
    """One connection to a hub."""

    link: socket.socket

    def send(self, data: bytes) -> None:
        self.link.sendall(data)

    def ask(self, path: str, *headers: str, body: bytes = b"", method: str = "POST") -> None:
        """Send a head, and a body or the beginning of one."""
        self.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: hub", *headers, "", ""]).encode() + body)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer that says how long it is."""
        status, headers = self.head()
        return status, headers, self._read(int(headers["content-length"]))

    def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of an answer and no more."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._read(1)
        first, *lines = head.decode().strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split(" ")[1]), headers

    def status(self) -> int:
        """Read the status of an answer and no more."""
        return int(self._read(len("HTTP/1.1 200"))[-3:])

    def outcome(self) -> tuple[int, str]:
        """Read a whole answer; return its status, and the code of a refusal."""
        status, _, body = self.answer()
        return status, json.loads(body)["error"]["code"] if status >= 400 else ""

    def rest(self) -> int:
        """Read until the hub hangs up; return the bytes that came."""
        count = 0
        with contextlib.suppress(ConnectionError):
            while part := self.link.recv(1 << 16):
                count += len(part)
        return count

    def is_cut(self) -> bool:
        """Wait until the hub hangs up, which it has to do by itself; False if it sends something before."""
        return self.rest() == 0

    def is_closed_under(self, data: bytes, times: int) -> bool:
        """Send the same again and again; tell whether the hub hangs up before all of it is sent."""
        try:
            for _ in range(times):
                self.send(data)
        except ConnectionError:
            return True
        return False

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.link.recv(count - len(data))
            if not part:
                raise ConnectionError(f"the hub hung up after {len(data)} of {count} bytes")
            data += part
        return data


@contextmanager
def wires(address: str, count: int = 1, buffer: int = 0) -> Iterator[list[Wire]]:
    """Connect so many times; ``buffer`` is how much each takes in before somebody reads."""
    where = urlsplit(address)
    links = []
    try:
        for _ in range(count):
            link = socket.socket()
            links.append(link)
            link.settimeout(PATIENCE)
            if buffer:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            link.connect((where.hostname, where.port))
        yield [Wire(link) for link in links]
    finally:
        for link in links:
            link.close()
