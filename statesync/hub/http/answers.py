"""Answers that are sent piece by piece: what is not read yet is known, and is not waited for for ever."""

from __future__ import annotations

import math

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from statesync.hub.errors import Refused
from statesync.hub.http.bodies import SHORT
from statesync.hub.http.pace import Pace

_PIECE = 1 << 16
_HEAD, _BODY = "http.response.start", "http.response.body"


class Answer(Response):
    """An answer in JSON; the application's state has the ``pace`` at which it has to be read."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it, and return when the server has no more left to write than it keeps of any answer.

        A server takes a piece when the one before it is on its way. Who reads too slowly gets no more: the
        answer ends in its middle, and so does the connection.
        """
        pace: Pace = scope["app"].state.pace
        body = bytes(self.body)
        is_long = len(body) > SHORT
        with pace.wait() as wait:
            await send({"type": _HEAD, "status": self.status_code, "headers": self.raw_headers})
            if is_long:
                for at in range(0, len(body), _PIECE):
                    await send({"type": _BODY, "body": body[at : at + _PIECE], "more_body": True})
                    wait.passed = at + _PIECE
            # The end of a long one is taken when its last piece is on its way.
            await send({"type": _BODY, "body": b"" if is_long else body})


def retry_headers(error: Refused) -> dict[str, str]:
    """Return the header that says when to come again: in whole seconds (RFC 9110), and never too early."""
    return {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
