"""Reading a request's body up to its limit, and never further."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from statesync.hub.errors import malformed
from statesync.hub.limits import HubLimits
from statesync.hub.requests import body_too_large

_SHORT = 1 << 16


def is_short(request: Request) -> bool:
    """Tell whether the body is announced to be so short that reading it costs nothing."""
    announced = request.headers.get("content-length", "")
    return announced.isdecimal() and int(announced) <= _SHORT


async def read_body(request: Request, limits: HubLimits) -> bytes:
    """Return the body as it came, or refuse it as soon as it shows that it is over the limit."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > limits.body:
        raise body_too_large(limits)
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limits.body:
                raise body_too_large(limits)
            parts.append(part)
    except ClientDisconnect as error:
        raise malformed("the connection was closed before the body was there") from error
    return b"".join(parts)
