"""Running the hub's application on uvicorn: until a signal ends it, or beside a test or a demonstration."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from attrs import asdict, evolve, field
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from statesync.classes import frozen
from statesync.hub.access import tokens
from statesync.hub.addresses import without_password
from statesync.hub.db.opening import file_at, is_file, prepare
from statesync.hub.errors import HubError
from statesync.hub.http.crowd import BACKLOG, allow, tell_of_failures
from statesync.hub.http.watch import WatchedConfig
from statesync.hub.http.web import application
from statesync.hub.http.workers import spare_memory
from statesync.hub.hub import Hub
from statesync.hub.limits import HubLimits
from statesync.hub.retention import Retention
from statesync.net.trust import check_is_file

if TYPE_CHECKING:
    from statesync.hub.access.identity import Issuer

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 30
_COULD_NOT_START = 3
"""The exit code of a process of uvicorn's that could not start."""
_PAUSE = 1.0
"""Seconds between two attempts of a worker to open its hub."""


@frozen(kw_only=True)
class Setup:
    """All that a process needs to open the hub by itself: the parameters of ``Hub``, by the same names."""

    url: str = field(repr=lambda url: repr(without_password(url)))
    without_tokens: bool = False
    limits: HubLimits = field(factory=HubLimits)
    objects: frozenset[str] | None = None
    issuer: Issuer | None = None
    connections: int | None = None
    patience: float = 10.0
    retention: Retention = field(factory=Retention)

    def open(self) -> Hub:
        """Return the hub; raises what ``Hub`` raises."""
        return Hub(**asdict(self, recurse=False))

    def __call__(self) -> Starlette:
        """Return the application of a worker: it closes its hub when the last request has ended."""
        spare_memory()
        hub = self.open()

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
            tell_of_failures(asyncio.get_running_loop())
            yield
            hub.close()

        app = application(hub)
        app.router.lifespan_context = lifespan
        return app


@frozen
class _Worker:
    """The application of one of several processes, which end with the one that has started them.

    Otherwise they would keep the port, and nobody could tell them to end. One that is started while the
    database is away waits for it.
    """

    setup: Setup

    def __call__(self) -> Starlette:
        """Return the application."""
        parent = multiprocessing.parent_process()
        if parent is not None:
            threading.Thread(
                target=_end_after, args=(parent.join,), name="statesync-parent", daemon=True
            ).start()
        while True:
            try:
                return self.setup()
            except HubError as error:
                _log.warning("this process waits for the database: %s", error)
            time.sleep(_PAUSE)


def _end_after(wait: Callable[[], object]) -> None:
    wait()
    os.kill(os.getpid(), signal.SIGTERM)


@frozen(kw_only=True)
class Address:
    """Where to listen; with ``certificate`` and ``key`` (files in PEM) it is TLS."""

    host: str = "127.0.0.1"
    port: int = 8710
    certificate: str | None = None
    key: str | None = None

    def shown(self, port: int) -> str:
        """Return the URL that devices reach ``port`` by, as far as this machine knows it."""
        scheme = "http" if self.certificate is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{port}"


def serve(
    setup: Setup, address: Address, *, workers: int = 1, say: Callable[[str], object] = lambda _line: None
) -> None:
    """Serve the hub in ``workers`` processes until SIGTERM or SIGINT.

    Requests that are under way are finished then, nothing new is taken, and it returns. With two workers and
    more, SIGHUP replaces one after the other. An SQLite file that is not there is made. The soft limit of
    descriptors is raised where there are too few for the connections that ``limits`` allow. ``say`` is called
    with what is served, and where, once it is. Raises what ``Hub`` raises, and ``HubError`` if it cannot
    listen there, a certificate cannot be used, or a worker cannot start.
    """
    _check_certificate(address)
    with _listening(address) as listener:
        _make_ready(setup, say)
        _make_room(setup.limits.sockets, say)
        if setup.limits.rate:
            setup = evolve(setup, limits=evolve(setup.limits, rate=setup.limits.rate / workers))
        config = WatchedConfig(
            setup if workers == 1 else _Worker(setup),
            setup.limits,
            factory=True,
            workers=workers,
            ssl_certfile=address.certificate,
            ssl_keyfile=address.key,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            **_always(),
        )
        shared = "" if workers == 1 else f", by {workers} processes"
        where = address.shown(listener.getsockname()[1])
        say_so = partial(say, f"serving {without_password(setup.url)} at {where}{shared}")
        if workers == 1:
            _run_alone(config, listener, say_so)
        else:
            _run_several(config, listener, say_so)


class _Server(uvicorn.Server):
    """uvicorn's server, which tells when it serves."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[], object]) -> None:
        super().__init__(config)
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        if self.started:
            self._tell()


class _Supervisor(Multiprocess):
    """uvicorn's supervisor, which tells when its processes are started."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, tell: Callable[[], object]) -> None:
        super().__init__(config, [listener])
        self._tell = tell

    def init_processes(self) -> None:
        """Start them, and tell."""
        super().init_processes()
        self._tell()


def _run_alone(config: uvicorn.Config, listener: socket.socket, tell: Callable[[], object]) -> None:
    server = _Server(config, tell)
    with _told_to_end(server):
        server.run([listener])


def _run_several(config: uvicorn.Config, listener: socket.socket, tell: Callable[[], object]) -> None:
    supervisor = _Supervisor(config, listener, tell)
    supervisor.run()
    if any(process.exitcode == _COULD_NOT_START for process in supervisor.processes):
        raise HubError("a process of the hub could not start; what it has logged says why")


@contextmanager
def _told_to_end(server: uvicorn.Server) -> Generator[None]:
    """Let a signal end the server and no more.

    uvicorn catches it too, and raises it again when the server has ended: the process would end by it.
    """

    def tell(_signal: int, _frame: object) -> None:
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, tell) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _make_ready(setup: Setup, say: Callable[[str], object]) -> None:
    """Open the hub once, so that a wrong set-up shows here and not in every worker."""
    path = file_at(setup.url)
    if path is not None and not is_file(path):
        prepare(setup.url)
        say(f"{path} was not there; it is made")
    hub = setup.open()
    try:
        say(_described(setup, hub))
    finally:
        hub.close()


def _make_room(connections: int, say: Callable[[str], object]) -> None:
    """Let this process, and its workers, have all the connections that they are set up for."""
    room = allow(connections)
    if room < connections:
        say(
            f"a process takes {room} connections and not {connections}, for want of descriptors; "
            f"for all of them, let it open {-(-connections * 4 // 3)} files (ulimit -n)"
        )


def _described(setup: Setup, hub: Hub) -> str:
    """Return who gets in."""
    if setup.without_tokens:
        return "everybody may read and write everything: there are no tokens"
    good, opened = tokens.count_good(hub.database)
    also = " (and whatever the identity provider signs)" if setup.issuer else ""
    if not good:
        return f"no token is good{also}; make one with: statesync hub token create --space NAME"
    return f"{good} token{'s are' if good > 1 else ' is'} good, for {opened} space{'s' * (opened > 1)}{also}"


def _check_certificate(address: Address) -> None:
    if address.certificate is None:
        if address.key is not None:
            raise HubError(f"{address.key} is a key without a certificate; give --tls-certificate, too")
        return
    try:
        for path in filter(None, (address.certificate, address.key)):
            check_is_file(path)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            address.certificate, address.key, _no_password
        )
    except (OSError, ValueError) as error:
        files = address.certificate if address.key is None else f"{address.certificate} with {address.key}"
        raise HubError(
            f"{files} cannot be used for TLS ({error}); give --tls-certificate a certificate in PEM with its "
            "chain, and --tls-key its key, in PEM without a password"
        ) from error


def _no_password() -> str:
    raise ValueError("the key is locked by a password")


@contextmanager
def _listening(address: Address) -> Generator[socket.socket]:
    try:
        listener = listen(address.host, address.port)
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise HubError(
            f"the hub cannot listen at {address.host}:{address.port} ({why}); "
            "end what listens there, or give --host an address of this machine and --port a free number"
        ) from error
    with listener:
        yield listener


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
    """Return a socket that listens at ``host`` and ``port``.

    Raises ``OSError`` if it cannot, and ``OverflowError`` for a port that is none.
    """
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # asyncio switches Nagle's delay off only if the protocol is named. With the delay an answer takes 40 ms.
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _always() -> dict[str, Any]:
    """Return the options that both ways of serving have."""
    return {"ws": "none", "access_log": False, "server_header": False}
