"""``python -m tests.bench.fleet.empty``: an application that does nothing, under the hub's own server.

It prints its port, and ends with its standard input.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from statesync.hub import HubLimits
from statesync.hub.http.serving import listen
from statesync.hub.http.watch import WatchedConfig

_ANSWER = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
}


async def _nothing(
    _scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Read the request, and answer it."""
    while (await receive()).get("more_body"):
        pass
    await send(_ANSWER)
    await send({"type": "http.response.body", "body": b"{}"})


def main() -> None:
    """Serve it at a free port."""
    listener = listen("127.0.0.1", 0)
    config = WatchedConfig(
        _nothing,
        HubLimits(),
        lifespan="off",
        log_config=None,
        ws="none",
        access_log=False,
        server_header=False,
    )
    server = uvicorn.Server(config)

    def end() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    server.run([listener])


main()
