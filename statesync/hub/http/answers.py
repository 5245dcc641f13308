"""Sending an answer: piece by piece, so that what is not read yet is known, and cut where it is not read."""

from __future__ import annotations

import anyio
from starlette.responses import Response
from starlette.types import Send

from statesync.hub.http.pace import seconds_for
from statesync.hub.limits import HubLimits

_PIECE = 1 << 18


async def deliver(answer: Response, send: Send, limits: HubLimits) -> None:
    """Send ``answer``, and return when the server has no more than a piece of it left to write.

    A server takes a piece when the one before it is on its way. Who reads too slowly gets no more: the answer
    ends in its middle, and so does the connection.
    """
    body = bytes(answer.body)
    began = anyio.current_time()
    with anyio.CancelScope(deadline=began + seconds_for(0, limits)) as scope:
        await send(
            {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
        )
        is_whole = len(body) <= _PIECE
        for at in range(0, 0 if is_whole else len(body), _PIECE):
            await send({"type": "http.response.body", "body": body[at : at + _PIECE], "more_body": True})
            scope.deadline = began + seconds_for(at + _PIECE, limits)
        await send({"type": "http.response.body", "body": body if is_whole else b""})
