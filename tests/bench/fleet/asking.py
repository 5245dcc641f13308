"""Asking one and the same over a few connections that are kept, without a pause: what a hub can do of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from attrs import define, field


@define(eq=False)
class Asked:
    """What came of it."""

    seconds: list[float] = field(factory=list)
    """How long each answer took."""
    statuses: Counter[int] = field(factory=Counter)

    @property
    def mean(self) -> float:
        """Milliseconds that an answer took, on average."""
        return 1000 * sum(self.seconds) / len(self.seconds)

    def part(self, part: float) -> float:
        """Return milliseconds within which so large a part of the answers came."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * part))]

    @property
    def refused(self) -> int:
        """How many were told anything but 200."""
        return self.statuses.total() - self.statuses[200]


def request(space: str, verb: str, token: str, body: bytes) -> bytes:
    """Return one request as it goes over the wire."""
    head = (
        f"POST /v1/spaces/{space}/{verb} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(port: int, requests: list[bytes], seconds: float, pause: float = 0.0) -> Asked:
    """Ask each of ``requests`` over a connection of its own, for so long; rest for ``pause`` between two."""
    asked, until = Asked(), time.monotonic() + seconds

    async def one(said: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            began = time.perf_counter()
            status, _ = await exchange(reader, writer, said)
            asked.seconds.append(time.perf_counter() - began)
            asked.statuses[status] += 1
            await asyncio.sleep(pause)
        writer.close()

    await asyncio.gather(*map(one, requests))
    return asked


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes
) -> tuple[int, bytes]:
    """Send a request and return the status and the body of its answer."""
    writer.write(said)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)
