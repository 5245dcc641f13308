"""``statesync hub`` with everything that can be wrong: one line with what to do, and nothing left behind."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rig.certificates import make_certificate

from statesync.hub import prepare

from .shell import Ran, call

COMMANDS = {
    "init": ["init"],
    "serve": ["serve", "--port", "0"],
    "token create": ["token", "create", "--space", "s"],
    "token list": ["token", "list", "--space", "s"],
    "token revoke": ["token", "revoke", "--space", "s", "id"],
    "purge": ["purge", "--space", "s", "--through", "1"],
}


def hub(*arguments: object) -> Ran:
    return call("hub", *arguments)


def assert_one_line(ran: Ran, *words: str, code: int = 1) -> None:
    assert (ran.code, ran.out) == (code, ""), ran
    assert ran.err.startswith("statesync: ")
    assert ran.err.count("\n") == 1, ran.err
    for word in words:
        assert word in ran.err, ran.err


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which every command has to leave what it has found."""
    yield tmp_path
    assert not list(tmp_path.glob("*-wal"))
    assert not list(tmp_path.glob("*-shm"))


def missing_folder(folder: Path) -> str:
    return f"sqlite:///{folder}/nowhere/hub.db"


def a_folder(folder: Path) -> str:
    (folder / "hub.db").mkdir()
    return f"sqlite:///{folder}/hub.db"


def notes(folder: Path) -> str:
    (folder / "notes.txt").write_text("not a database " * 100)
    return f"sqlite:///{folder}/notes.txt"


def a_device(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "device.db")) as raw, raw:
        raw.execute("CREATE TABLE hub_meta (thing)")
    return f"sqlite:///{folder}/device.db"


def newer(folder: Path) -> str:
    prepare(f"sqlite:///{folder}/hub.db")
    with closing(sqlite3.connect(folder / "hub.db")) as raw, raw:
        raw.execute("UPDATE hub_meta SET value = 1000 WHERE name = 'schema'")
    return f"sqlite:///{folder}/hub.db"


ADDRESSES: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing folder": (missing_folder, "statesync hub init|in a folder that exists"),
    "a folder": (a_folder, "statesync hub init|in a folder that exists"),
    "no database": (notes, "check its address"),
    "another program's": (a_device, "statesync hub init|check its address"),
    "a newer version's": (newer, "Upgrade statesync"),
    "nothing": (lambda folder: "", "use sqlite:///hub.db"),
    "no address": (lambda folder: "hub.db", "use sqlite:///hub.db"),
    "memory": (lambda folder: "sqlite:///:memory:", "use sqlite:///hub.db"),
    "another kind": (lambda folder: "mysql://h/n", "use sqlite:///hub.db"),
    "server down": (lambda folder: "postgresql://127.0.0.1:1/hub", "statesync hub init|its server runs"),
    "server unknown": (lambda folder: "postgresql://no.invalid/hub", "statesync hub init|its server runs"),
    "bad port": (lambda folder: "postgresql://127.0.0.1:99999/hub", "statesync hub init|port"),
    "bad option": (lambda folder: "postgresql://127.0.0.1/hub?colour=red", "colour"),
    "bad escape": (lambda folder: "postgresql://%zz/hub", "cannot be read"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("wrong", ADDRESSES)
def test_an_address_that_is_wrong(command: str, wrong: str, folder: Path) -> None:
    make, said = ADDRESSES[wrong]
    url = make(folder)
    before = sorted(path.name for path in folder.iterdir())
    ran = hub(*COMMANDS[command], "--database", url)
    assert_one_line(ran)
    assert any(words in ran.err for words in said.split("|")), ran.err
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("init", "serve")])
def test_a_file_that_is_not_there_is_not_made_by_who_only_asks(command: str, folder: Path) -> None:
    ran = hub(*COMMANDS[command], "--database", f"sqlite:///{folder}/hub.db")
    assert_one_line(ran, "statesync hub init")
    assert list(folder.iterdir()) == []


def test_a_distribution_that_cannot_be_leaves_no_file(folder: Path) -> None:
    assert_one_line(hub("init", "--distribute", "--database", f"sqlite:///{folder}/hub.db"), "Citus")
    assert list(folder.iterdir()) == []


def locked_key(folder: Path) -> list[str]:
    certificate, _ = make_certificate(folder)
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (folder / "locked.pem").write_bytes(key)
    return ["--tls-certificate", certificate, "--tls-key", f"{folder}/locked.pem"]


def another_key(folder: Path) -> list[str]:
    certificate, _ = make_certificate(folder)
    (folder / "other").mkdir()
    return ["--tls-certificate", certificate, "--tls-key", make_certificate(folder / "other")[1]]


def no_certificate(folder: Path) -> list[str]:
    (folder / "notes.pem").write_text("not a certificate")
    return ["--tls-certificate", f"{folder}/notes.pem"]


def no_public_key(folder: Path) -> list[str]:
    return ["--jwt-key", make_certificate(folder)[1]]


def binary_key(folder: Path) -> list[str]:
    (folder / "key.der").write_bytes(b"\xff\xfe\x00")
    return ["--jwt-key", f"{folder}/key.der"]


OPTIONS: dict[str, tuple[Callable[[Path], list[str]], str, int]] = {
    "a port that is none": (lambda folder: ["--port", "65536"], "--port", 2),
    "a host that is unknown": (lambda folder: ["--host", "no.invalid"], "cannot listen at no.invalid", 1),
    "a host of another machine": (lambda folder: ["--host", "203.0.113.1"], "an address of this machine", 1),
    "a host that cannot be": (lambda folder: ["--host", "x" * 70 + ".invalid"], "cannot listen at", 1),
    "no processes": (lambda folder: ["--workers", "0"], "--workers", 2),
    "no connections": (lambda folder: ["--connections", "0"], "--connections", 2),
    "a certificate that is missing": (
        lambda folder: ["--tls-certificate", "/no/such.pem"],
        "/no/such.pem",
        2,
    ),
    "a certificate that is none": (no_certificate, "cannot be used for TLS", 1),
    "a folder for a certificate": (
        lambda folder: ["--tls-certificate", str(folder)],
        "cannot be used for TLS",
        1,
    ),
    "a certificate without its key": (
        lambda folder: ["--tls-certificate", make_certificate(folder)[0]],
        "--tls-key",
        1,
    ),
    "a key without a certificate": (
        lambda folder: ["--tls-key", make_certificate(folder)[1]],
        "give --tls-certificate",
        1,
    ),
    "a key of another certificate": (another_key, "cannot be used for TLS", 1),
    "a key with a password": (locked_key, "without a password", 1),
    "a private key for tokens": (no_public_key, "no public key", 1),
    "a key that is no text": (binary_key, "no public key", 1),
    "a retention that is none": (lambda folder: ["--retention", "long"], "90d", 2),
    "a limit that is none": (lambda folder: ["--limit-page", "0"], "page is 0", 1),
    "a rate that is none": (lambda folder: ["--limit-rate", "nan"], "rate is nan", 1),
    "open to all": (lambda folder: ["--open", "--host", "0.0.0.0"], "loopback", 2),
}


@pytest.mark.parametrize("wrong", OPTIONS)
def test_serving_in_a_way_that_cannot_be_makes_no_hub(wrong: str, folder: Path) -> None:
    make, said, code = OPTIONS[wrong]
    options = make(folder)
    before = sorted(path.name for path in folder.iterdir())
    ran = hub("serve", "--database", f"sqlite:///{folder}/hub.db", *options)
    assert_one_line(ran, said, code=code)
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_is_named_with_what_to_do(folder: Path, workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        url = f"sqlite:///{folder}/hub.db"
        ran = hub("serve", "--database", url, "--port", port, "--workers", workers)
    assert_one_line(ran, f"127.0.0.1:{port}", "Address already in use", "--port")
    assert list(folder.iterdir()) == []
