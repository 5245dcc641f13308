"""Sending an answer: piece by piece, so that what is not read yet is known, and cut where it is not read."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Send

from statesync.hub.http.pace import Pace

_PIECE = 1 << 18


async def deliver(answer: Response, send: Send, pace: Pace) -> None:
    """Send ``answer``, and return when the server has no more than a piece of it left to write.

    A server takes a piece when the one before it is on its way. Who reads too slowly gets no more: the answer
    ends in its middle, and so does the connection.
    """
    body = bytes(answer.body)
    is_long = len(body) > _PIECE
    with pace.wait() as wait:
        await send(
            {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
        )
        if is_long:
            for at in range(0, len(body), _PIECE):
                await send({"type": "http.response.body", "body": body[at : at + _PIECE], "more_body": True})
                wait.passed = at + _PIECE
        await send({"type": "http.response.body", "body": b"" if is_long else body})
