"""Running the hub's application on uvicorn: until a signal ends it, or beside a test or a demonstration."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from attrs import asdict, evolve, field, frozen
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from statesync.hub.addresses import without_password
from statesync.hub.http.watch import WatchedConfig
from statesync.hub.http.web import application
from statesync.hub.hub import Hub
from statesync.hub.limits import HubLimits
from statesync.hub.retention import Retention

if TYPE_CHECKING:
    from statesync.hub.access.identity import Issuer

_DRAIN_SECONDS = 30


@frozen(kw_only=True)
class Setup:
    """All that a process needs to open the hub by itself: the parameters of ``Hub``, by the same names."""

    url: str = field(repr=lambda url: repr(without_password(url)))
    without_tokens: bool = False
    limits: HubLimits = field(factory=HubLimits)
    objects: frozenset[str] | None = None
    issuer: Issuer | None = None
    connections: int = 8
    patience: float = 10.0
    retention: Retention = field(factory=Retention)

    def open(self) -> Hub:
        """Return the hub; raises what ``Hub`` raises."""
        return Hub(**asdict(self, recurse=False))

    def __call__(self) -> Starlette:
        """Return the application of a worker: it closes its hub when the last request has ended."""
        hub = self.open()

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
            yield
            hub.close()

        app = application(hub)
        app.router.lifespan_context = lifespan
        return app


@frozen(kw_only=True)
class Address:
    """Where to listen; with ``certificate`` and ``key`` (files in PEM) it is TLS."""

    host: str = "127.0.0.1"
    port: int = 8710
    certificate: str | None = None
    key: str | None = None


def serve(setup: Setup, address: Address, *, workers: int = 1) -> None:
    """Serve the hub in ``workers`` processes until SIGTERM or SIGINT.

    Requests that are under way are finished then, and nothing new is taken. With two workers and more,
    SIGHUP replaces one after the other. Raises what ``Hub`` raises, and ``OSError`` if it cannot listen.
    """
    setup.open().close()  # a wrong set-up shows here, once, and not in every worker
    if setup.limits.rate:
        setup = evolve(setup, limits=evolve(setup.limits, rate=setup.limits.rate / workers))
    config = WatchedConfig(
        setup,
        setup.limits,
        factory=True,
        workers=workers,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        **_always(),
    )
    listener = listen(address.host, address.port)
    if workers == 1:
        uvicorn.Server(config).run([listener])
    else:
        Multiprocess(config, [listener]).run()


@contextmanager
def serving(hub: Hub, *, port: int = 0) -> Generator[str]:
    """Serve ``hub`` on a loopback port (0: a free one) from a thread, and give its URL.

    At the end, requests that are under way are finished. The hub is not closed.
    """
    listener = listen("127.0.0.1", port)
    config = WatchedConfig(application(hub), hub.limits, lifespan="off", log_config=None, **_always())
    server = uvicorn.Server(config)
    # The listener already takes connections, so nobody has to wait until the server has started.
    thread = threading.Thread(target=server.run, args=([listener],), name="statesync-hub")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at ``host`` and ``port``; raises ``OSError`` if it cannot."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # asyncio switches Nagle's delay off only if the protocol is named. With the delay an answer takes 40 ms.
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def _always() -> dict[str, Any]:
    """Return the options that both ways of serving have."""
    return {"ws": "none", "access_log": False, "server_header": False}
