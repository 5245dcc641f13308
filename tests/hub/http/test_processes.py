"""The hub as processes: what is under way is finished, and no acknowledged request is lost."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import peewee
import pytest
import urllib3
from rig.certificates import make_certificate
from rig.device import device_at
from rig.search import some

from statesync import HttpRemote, Store
from statesync.hub import Hub, Right, create_token, prepare, revoke_token, spaces

from ..conftest import addresses_of, ready_for_a_hub
from ..devices import Device, Service, upsert
from ..served import PATIENCE, running, wait_for


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.exhaustive)])
def empty_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    """Make the address of an empty database; a process costs a second, so some wait for a longer run."""
    return addresses_of(request.param, request, tmp_path_factory)


@pytest.fixture(scope="module")
def new_database(empty_database: Callable[[], str]) -> Callable[[], str]:
    """Make the address of a database that is ready for a hub, each time another."""
    return ready_for_a_hub(empty_database)


def test_sigterm_finishes_what_is_under_way_and_takes_nothing_new(new_database: Callable[[], str]) -> None:
    url = new_database()
    hub = Hub(url, without_tokens=True)
    with running(url, "--open") as server, Service(server.address, hub, url) as service:
        device = service.device("acme")
        device.push(upsert("before", {}))
        with ThreadPoolExecutor(1) as background:
            with hub.database.writing():
                spaces.lock(hub.database, "acme", "test", 1)
                under_way = background.submit(device.push, upsert("during", {}))
                wait_for(lambda: service.ask("GET", "/healthz").status == 200, "the hub is alive")
                assert not under_way.done()
                server.process.send_signal(signal.SIGTERM)
                wait_for(lambda: not server.is_listening(), "the hub still takes connections")
            assert under_way.result(PATIENCE) == [{"status": "accepted", "version": 2}]
        assert server.process.wait(PATIENCE) == 0
    hub.close()


@pytest.mark.parametrize(
    ("told", "workers"), [(signal.SIGINT, 1), pytest.param(signal.SIGTERM, 2, marks=pytest.mark.exhaustive)]
)
def test_a_hub_that_was_told_to_end_has_done_what_it_should_however_many_processes_it_had(
    tmp_path: Path, told: signal.Signals, workers: int
) -> None:
    with running(f"sqlite:///{tmp_path}/hub.db", workers=workers) as server:
        wait_for(lambda: len(server.said) == 3, "the hub says nothing")
        server.process.send_signal(told)
        assert server.process.wait(PATIENCE) == 0
    by = ", by 2 processes" if workers == 2 else ""
    assert server.said[2] == f"serving sqlite:///{tmp_path}/hub.db at {server.address}{by}\n"


def test_a_hub_that_cannot_open_what_it_needs_never_says_that_it_serves(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    for most in some((8, 10), 2):
        ran = subprocess.run(
            [sys.executable, "-c", FEW_FILES, str(most), url],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert (ran.returncode, "serving" in ran.stdout) in ((1, False), (0, True)), (most, ran)
        assert "Traceback" not in ran.stderr


FEW_FILES = """
import os, resource, signal, sys, threading
from statesync.cli.commands import commands
import statesync.cli.hub.serving
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM))
timer.daemon = True
timer.start()
commands.main(["hub", "serve", "--port", "0", "--database", sys.argv[2]])
"""


def sync_until(stop: threading.Event, path: Path, address: str) -> set[str]:
    """Be a device that writes a record and syncs, again and again; return the names that are up."""
    store = Store(path)

    class Airport(store.Model):  # type: ignore[name-defined, misc]
        name = peewee.TextField()

    store.setup()
    remote = HttpRemote(address, space="acme")
    scope = store.scope(remote)
    names: set[str] = set()
    while not stop.wait(0.05):  # a rest, in which new workers can start
        name = f"{path.stem}-{len(names)}"
        Airport.create(name=name)
        scope.sync()
        names.add(name)
    remote.close()
    store.close()
    return names


@pytest.mark.exhaustive
def test_a_rolling_restart_loses_no_acknowledged_request(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    url = new_database()
    stop = threading.Event()
    with running(url, "--open", workers=2) as server, ThreadPoolExecutor(3) as pool:
        paths = [tmp_path / f"device{n}.db" for n in range(3)]
        devices = [pool.submit(sync_until, stop, path, server.address) for path in paths]
        try:
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: server.count("Finished server process") >= 2, "the workers were not replaced")
        finally:
            stop.set()
        told = [device.result(PATIENCE) for device in devices]
    hub = Hub(url, without_tokens=True)
    kept = names_in(hub)
    hub.close()
    assert all(told)
    assert sorted(kept) == sorted(set().union(*told)), "all that was acknowledged is there, and is there once"


def names_in(hub: Hub) -> list[str]:
    with hub.database.reading():
        rows = hub.database.run("SELECT data FROM record WHERE space = ?", "acme").fetchall()
    return [match[1] for row in rows if (match := re.search(r'"name":\s*"([^"]+)"', row[0]))]


@pytest.mark.exhaustive
def test_many_workers_are_one_hub(new_database: Callable[[], str]) -> None:
    url = new_database()
    hub = Hub(url, without_tokens=True)
    with running(url, "--open", workers=2) as server:
        for number in range(10):  # each connects anew, so that both workers are met
            with Service(server.address, hub, url) as service:
                Device(service, "acme").push(upsert(f"{number}", {}))
    with hub.database.reading():
        state = spaces.find(hub.database, "acme", "anybody")
    hub.close()
    assert state is not None
    assert state.head == 10


def test_devices_sync_over_tls(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    options = ("--tls-certificate", certificate, "--tls-key", key)
    with running(f"sqlite:///{tmp_path}/hub.db", "--open", *options) as server, ExitStack() as stack:
        address = f"https://localhost:{server.port}"
        here, there = (
            stack.enter_context(device_at(tmp_path / f"{name}.db", address, "acme", ca_certs=certificate))
            for name in ("here", "there")
        )
        here.add(3)
        assert here.sync().stats.uploaded == 3
        assert there.sync().stats.downloaded == 3
        there.edit("k00001", name="over TLS")
        assert [there.sync().stats.uploaded, here.sync().stats.downloaded] == [1, 1]
        assert here.rows() == there.rows()


def test_who_has_connected_and_shakes_hands_only_when_the_hub_ends_is_not_served(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    options = ("--tls-certificate", certificate, "--tls-key", key)
    trust = ssl.create_default_context(cafile=certificate)
    with running(f"sqlite:///{tmp_path}/hub.db", "--open", *options) as server, ExitStack() as stack:
        plain = [
            stack.enter_context(socket.create_connection(("localhost", server.port), PATIENCE)) for _ in "ab"
        ]
        # They are taken in their order: when the second one is answered, the first one is there.
        under_way = stack.enter_context(trust.wrap_socket(plain[1], server_hostname="localhost"))
        under_way.sendall(b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += under_way.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200")
        under_way.sendall(
            b"POST /v1/spaces/acme/push HTTP/1.1\r\nHost: hub\r\nContent-Length: 9\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert under_way.recv(1 << 16).startswith(b"HTTP/1.1 100")
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not server.is_listening(), "the hub still takes connections")
        with suppress(OSError):
            late = stack.enter_context(trust.wrap_socket(plain[0], server_hostname="localhost"))
            late.sendall(b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n")
            assert late.recv(1 << 16) == b""
        under_way.sendall(b"{}       ")
        assert under_way.recv(1 << 16).startswith(b"HTTP/1.1 4")
        assert server.process.wait(PATIENCE) == 0


def test_a_hub_does_not_wait_for_the_farewell_of_devices_that_are_idle(tmp_path: Path) -> None:
    """TLS asks for one, and a kept connection that nobody reads gives none."""
    certificate, key = make_certificate(tmp_path)
    options = ("--tls-certificate", certificate, "--tls-key", key)
    trust = ssl.create_default_context(cafile=certificate)
    with running(f"sqlite:///{tmp_path}/hub.db", "--open", *options) as server, ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(("localhost", server.port), PATIENCE))
        idle = stack.enter_context(trust.wrap_socket(plain, server_hostname="localhost"))
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n")
        assert idle.recv(1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


def test_workers_end_with_a_supervisor_that_is_killed_and_give_back_the_port(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    with running(url, "--open", workers=2) as server:
        assert server.is_listening()
        assert "everybody may read and write everything" in server.said[0]
        workers = [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", "".join(server.lines))]
        try:
            server.process.kill()
            wait_for(lambda: not server.is_listening(), "the port is still taken")
            wait_for(lambda: server.count("Finished server process") == 2, "a worker goes on")
            with socket.create_server(("127.0.0.1", server.port)):
                pass
        finally:
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)


def test_a_hub_says_where_it_serves_what_and_who_gets_in(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    with running(url) as server:
        wait_for(lambda: len(server.said) == 3, "the hub says nothing")
    assert "hub.db was not there; it is made" in server.said[0]
    assert "no token is good; make one with: statesync hub token create" in server.said[1]
    assert server.said[2] == f"serving {url} at {server.address}\n"
    opened = Hub(url)
    for space, expires in (("one", None), ("two", None), ("two", None), ("three", 1)):
        create_token(opened.database, space, {"*": frozenset(Right)}, expires=expires)
    revoked = create_token(opened.database, "one", {"*": frozenset(Right)})
    revoke_token(opened.database, "one", revoked.split("~")[1])
    opened.close()
    with running(url) as server:
        wait_for(lambda: len(server.said) == 2, "the hub says nothing")
    assert server.said[0] == "3 tokens are good, for 2 spaces\n"
    assert server.said[1] == f"serving {url} at {server.address}\n"


@pytest.mark.exhaustive
def test_workers_that_start_while_the_database_is_away_wait_for_it(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    program = f"""
from pathlib import Path
from statesync.hub import Address, Setup, serve

def say(line):
    if "serving" in line:
        print(line.split()[3].rstrip(","), flush=True)
        Path({str(path)!r}).rename({str(tmp_path / "away")!r})

if __name__ == "__main__":  # workers import this, too
    serve(Setup(url="sqlite:///{path}", without_tokens=True), Address(port=0), workers=2, say=say)
"""
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, str(tmp_path / "program.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().strip()
        wait_for(lambda: "waits for the database" in process.stderr.readline(), "no worker waits")  # type: ignore[union-attr]
        (tmp_path / "away").rename(path)
        assert urllib3.request("GET", f"{address}/readyz", timeout=PATIENCE).status == 200
        process.terminate()
        process.communicate(timeout=PATIENCE)
