"""The head of a request as it is sent, and the head of an answer as it is read.

``http.client`` makes a message of an e-mail out of each head, and sends a request in two parts. That took a
third of a request to a hub nearby. So heads are written and read here; the content of an answer, above all in
chunks, is read by ``http.client``.
"""

from __future__ import annotations

import re
from http import client
from typing import Final

from attrs import evolve

from statesync.net.addresses import Address

_LONGEST_LINE = 1 << 16
_MOST_LINES = 100

_INTERIM: Final = frozenset(range(100, 200)) - {101}
"""Statuses of what is said before the answer (RFC 9110, 15.2); 101 would be another protocol."""

_WITHOUT_CONTENT = frozenset({*range(100, 200), 204, 304})
_NUMBER = re.compile(r"[0-9]{1,18}")
_NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\x7f]")


def name_of(hub: Address) -> str:
    """Return what a request calls the hub that it is for."""
    host = hub.host.partition("%")[0]  # the zone of an address means something on this machine alone
    return str(evolve(hub, host=host.rstrip("."))).partition("://")[2]


def head_of_request(method: str, path: str, host: str, headers: dict[str, str], size: int | None) -> bytes:
    """Return the head of a request with ``size`` bytes of content; None: with none.

    Raises ``ValueError`` for what would be another head.
    """
    fields = {"Host": host, "Accept-Encoding": "identity"}
    if size is not None:
        fields["Content-Length"] = str(size)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (fields | headers).items())]
    if " " in path or _NOT_IN_A_LINE.search("".join(lines)):
        raise ValueError("a request's head has a character in it that ends a line, or a part of it")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Answer(client.HTTPResponse):
    """An answer whose head is read; its ``fields`` have small letters."""

    fields: dict[str, str]

    def begin(self) -> None:
        """Read the head, and past what is said before it.

        Raises ``EOFError`` if the connection ends within it, ``RemoteDisconnected`` if it does so before, and
        ``HTTPException`` for what is no head.
        """
        version, status, reason = self._status()
        fields = self._read_fields()
        while status in _INTERIM:
            version, status, reason = self._status()
            fields = self._read_fields()
        self.version, self.status, self.reason, self.fields = version, status, reason, fields
        self.chunked = fields.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = 0 if status in _WITHOUT_CONTENT else self._size()
        self.will_close = self._ends_connection()

    def _status(self) -> tuple[int, int, str]:
        line = self._line()
        if not line:
            raise client.RemoteDisconnected("Remote end closed connection without response")
        version, _, rest = line.partition(" ")
        status, _, reason = rest.strip().partition(" ")
        if not version.startswith("HTTP/1.") or len(status) != 3 or not _NUMBER.fullmatch(status):
            raise client.BadStatusLine(line)
        if not line.endswith("\n"):
            raise EOFError("it ended within its headers")
        return 10 if version == "HTTP/1.0" else 11, int(status), reason.strip()

    def _read_fields(self) -> dict[str, str]:
        """Read the lines up to the empty one; of fields that come again the values stand side by side."""
        fields: dict[str, str] = {}
        last = ""
        for _ in range(_MOST_LINES):
            line = self._line()
            if line in ("\r\n", "\n"):
                return fields
            if not line.endswith("\n"):
                raise EOFError("it ended within its headers")
            if line[0] in " \t":  # a value of several lines, as nobody writes them any more
                if last:
                    fields[last] += f" {line.strip()}"
                continue
            name, colon, value = line.partition(":")
            last = name.strip().lower() if colon else ""
            if last:
                before = fields.get(last)
                fields[last] = value.strip() if before is None else f"{before}, {value.strip()}"
        raise client.HTTPException(f"got more than {_MOST_LINES} headers")

    def _line(self) -> str:
        line = self.fp.readline(_LONGEST_LINE + 1)
        if len(line) > _LONGEST_LINE:
            raise client.LineTooLong("header line")
        return str(line, "latin-1")

    def _size(self) -> int | None:
        """Return how many bytes the content has; None where its end says so itself."""
        said = {size.strip() for size in self.fields.get("content-length", "").split(",")} - {""}
        if self.chunked or not said:
            return None
        size = said.pop()
        if said or not _NUMBER.fullmatch(size):
            raise client.HTTPException("got a Content-Length that is none")
        return int(size)

    def _ends_connection(self) -> bool:
        """Tell whether nothing else can be asked on the connection."""
        said = self.fields.get("connection", "").lower()
        if self.length is None and not self.chunked:
            return True
        if self.version == 11:
            return "close" in said
        return "keep-alive" not in said

    def read(self, amt: int | None = None) -> bytes:
        """Read so much of the content; raises ``IncompleteRead`` if it ends before its time."""
        part = super().read(amt)
        if not part and amt and self.length:
            raise client.IncompleteRead(part, self.length)
        return part
