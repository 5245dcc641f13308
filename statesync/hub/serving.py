"""Running the hub's application on uvicorn: for good, or beside a test or a demonstration."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from statesync.hub.core import Hub
from statesync.hub.web import application


@contextmanager
def serving(hub: Hub, *, port: int = 0) -> Generator[str]:
    """Serve ``hub`` on a loopback port (0: a free one) from a thread, and give its URL.

    Requests that are under way at the end are finished. The hub is not closed.
    """
    listener = listen("127.0.0.1", port)
    server = uvicorn.Server(configuration(hub))
    # The listener takes connections from here on, so nobody has to wait until the server has started.
    thread = threading.Thread(target=server.run, args=([listener],), name="statesync-hub")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def serve(hub: Hub, host: str, port: int) -> None:
    """Serve ``hub`` until SIGTERM or SIGINT: what is under way is finished, nothing new is taken."""
    uvicorn.Server(configuration(hub)).run([listen(host, port)])


def configuration(hub: Hub) -> uvicorn.Config:
    """Return what uvicorn needs to serve ``hub`` inside a process that logs as it likes."""
    return uvicorn.Config(application(hub), lifespan="off", ws="none", log_config=None, access_log=False)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at ``host`` and ``port``; raises ``OSError`` if it cannot."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # asyncio switches Nagle's delay off only where the protocol is named; without it an answer takes 40 ms.
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener
