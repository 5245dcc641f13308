"""A wire before a PostgreSQL that counts round trips, and takes as long for each as a network would."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import quote

from attrs import define, field
from psycopg.conninfo import conninfo_to_dict


@define(eq=False)
class Wire:
    """What passes between a hub and its database; a round trip is a question that follows an answer.

    ``delay`` are the seconds that each question is on its way.
    """

    address: str
    delay: float = 0.0
    trips: int = 0
    _open: threading.Event = field(factory=threading.Event)
    _pairs: list[tuple[socket.socket, socket.socket]] = field(factory=list)

    @contextmanager
    def counted(self) -> Iterator[list[int]]:
        """Count the round trips of a block; the list has their number when it has ended."""
        counted: list[int] = []
        before = self.trips
        yield counted
        counted.append(self.trips - before)

    def __attrs_post_init__(self) -> None:
        self._open.set()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let no answer through for the length of a block, as a server that hangs."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def cut(self) -> None:
        """End every connection at the server's side, as a server that restarts does."""
        for _, server in list(self._pairs):
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)

    def hang_up(self) -> None:
        """End every connection that there is at the hub's side, at once, whatever is on its way."""
        for client, _ in list(self._pairs):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up everywhere."""
        for pair in self._pairs:
            for end in pair:
                end.close()

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        """Carry what passes between the two, until either hangs up."""
        self._pairs.append((client, server))
        is_asked = threading.Event()
        for task in (self._questions, self._answers):
            threading.Thread(target=task, args=(client, server, is_asked), daemon=True).start()

    def _questions(self, client: socket.socket, server: socket.socket, is_asked: threading.Event) -> None:
        with suppress(OSError):
            while some := client.recv(1 << 16):
                if not is_asked.is_set():
                    is_asked.set()
                    self.trips += 1
                    time.sleep(self.delay)
                server.sendall(some)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _answers(self, client: socket.socket, server: socket.socket, is_asked: threading.Event) -> None:
        with suppress(OSError):
            while some := server.recv(1 << 16):
                self._open.wait()
                is_asked.clear()
                client.sendall(some)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def wired(url: str, delay: float = 0.0) -> Iterator[Wire]:
    """Give a wire to the database at ``url``."""
    given = conninfo_to_dict(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        user, name, options = (quote(str(given.get(part) or "")) for part in ("user", "dbname", "options"))
        port = listener.getsockname()[1]
        wire = Wire(
            f"postgresql://{user}@127.0.0.1:{port}/{name}?sslmode=disable&gssencmode=disable&options={options}",
            delay,
        )

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client = listener.accept()[0]
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    wire.carry(client, _server(given))

        threading.Thread(target=accept, daemon=True).start()
        yield wire
        listener.shutdown(socket.SHUT_RDWR)
    wire.close()


def _server(given: Mapping[str, object]) -> socket.socket:
    host, port = str(given.get("host") or "127.0.0.1"), int(str(given.get("port") or 5432))
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{host}/.s.PGSQL.{port}")
    return server
