"""Reading a request's body up to its limit and no further, and no longer than it may take."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import ClientDisconnect, Request

from statesync.hub.errors import Refused, body_too_large, malformed, too_slow
from statesync.hub.http.places import Door, Visit

SHORT = 1 << 16
"""Bytes that are not counted one by one: the server itself keeps as many of each connection."""

_LENGTH, _CODING = b"content-length", b"transfer-encoding"
_ONCE = frozenset({_LENGTH, _CODING, b"content-encoding", b"authorization"})
_MOST_DIGITS = 18


def misframed(headers: Iterable[tuple[bytes, bytes]]) -> Refused | None:
    """Return the 400 for a head that two servers may read in two ways, such as one with two lengths."""
    said = [(name, value) for name, value in headers if name in _ONCE]
    names = {name for name, _ in said}
    if len(names) < len(said):
        return malformed("a header that decides what it means is there twice")
    if _LENGTH in names and _CODING in names:
        return malformed("it has both Content-Length and Transfer-Encoding")
    if any(name == _LENGTH and not _is_length(value) for name, value in said):
        return malformed("its Content-Length is no number of bytes")
    return None


def is_short(request: Request) -> bool:
    """Tell whether the body has a length that costs nothing to read."""
    announced = request.headers.get("content-length")
    return announced is not None and int(announced) <= SHORT


async def read_body(request: Request, visit: Visit, door: Door) -> bytes:
    """Return the body as it came; refuse it as soon as it is known to be over the limit, or too slow.

    Of who is not known no more than a short one is read, whatever the head says.
    """
    most = door.limits.body if visit.is_known else SHORT
    if int(request.headers.get("content-length", 0)) > most:
        raise body_too_large(most)
    body = bytearray()
    with door.pace.wait() as wait:
        try:
            async for part in request.stream():
                body += part
                wait.passed = len(body)
                if len(body) > most:
                    raise body_too_large(most)
                if len(body) > SHORT:
                    await visit.hold(len(body))
        except ClientDisconnect as error:
            raise malformed("the connection was closed before the body was there") from error
    if wait.is_over:
        raise too_slow(f"{len(body)} bytes of the body came in a time in which more have to")
    return bytes(body)


def _is_length(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _MOST_DIGITS
