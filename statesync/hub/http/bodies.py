"""Reading a request's body up to its limit and no further."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from statesync.hub.errors import body_too_large, malformed
from statesync.hub.limits import HubLimits

_SHORT = 1 << 16


def is_short(request: Request) -> bool:
    """Tell whether the announced length is so short that reading the body costs nothing."""
    announced = request.headers.get("content-length", "")
    return announced.isdecimal() and int(announced) <= _SHORT


async def read_body(request: Request, limits: HubLimits) -> bytes:
    """Return the body as it came; refuse it as soon as it is known to be over the limit."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > limits.body:
        raise body_too_large(limits.body)
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limits.body:
                raise body_too_large(limits.body)
            parts.append(part)
    except ClientDisconnect as error:
        raise malformed("the connection was closed before the body was there") from error
    return b"".join(parts)
