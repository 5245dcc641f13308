"""``statesync hub`` with everything that can be wrong: one line with what to do, and nothing left behind."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rig.certificates import make_certificate
from rig.places import memory

from statesync import Store
from statesync.hub import prepare
from statesync.hub.db.file import pool

from .shell import Ran, call

COMMANDS = {
    "init": ["init"],
    "serve": ["serve", "--port", "0"],
    "token create": ["token", "create", "--space", "s"],
    "token list": ["token", "list", "--space", "s"],
    "token revoke": ["token", "revoke", "--space", "s", "id"],
    "purge": ["purge", "--space", "s", "--through", "1"],
    "epoch": ["epoch", "--all"],
}
ASKS = {"token list"}
"""Those that write nothing."""


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


def another_program(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "other.db")) as raw, raw:
        raw.execute("CREATE TABLE hub_meta (thing)")
    return f"sqlite:///{folder}/other.db"


def a_device(folder: Path) -> str:
    with Store(folder / "device.db") as store:
        store.setup()
    (folder / "device.db.lock").unlink()
    return f"sqlite:///{folder}/device.db"


def a_pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return f"sqlite:///{folder}/pipe"


def a_circle(folder: Path) -> str:
    (folder / "loop").symlink_to("loop")
    return f"sqlite:///{folder}/loop"


def newer(folder: Path) -> str:
    prepare(f"sqlite:///{folder}/hub.db")
    with closing(sqlite3.connect(folder / "hub.db")) as raw, raw:
        raw.execute("UPDATE hub_meta SET value = 1000 WHERE name = 'schema'")
    return f"sqlite:///{folder}/hub.db"


ADDRESSES: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing folder": (missing_folder, "in a folder that exists"),
    "a folder": (a_folder, "in a folder that exists"),
    "no database": (notes, "check its address"),
    "another program's": (another_program, "check its address"),
    "a device's": (a_device, "a file of its own"),
    "a pipe": (a_pipe, "it has to be a file"),
    "nothing's": (lambda folder: "sqlite:////dev/null", "it has to be a file"),
    "a link to itself": (a_circle, "check its address"),
    "too long a name": (lambda folder: f"sqlite:///{folder}/{'x' * 300}.db", "a shorter path"),
    "a newer version's": (newer, "Upgrade statesync"),
    "nothing": (lambda folder: "", "use sqlite:///hub.db"),
    "no address": (lambda folder: "hub.db", "use sqlite:///hub.db"),
    "memory": (lambda folder: "sqlite:///:memory:", "use sqlite:///hub.db"),
    "another kind": (lambda folder: "mysql://h/n", "use sqlite:///hub.db"),
    "server down": (lambda folder: "postgresql://127.0.0.1:1/hub", "its server runs"),
    "server unknown": (lambda folder: "postgresql://no.invalid/hub", "its server runs"),
    "bad port": (lambda folder: "postgresql://127.0.0.1:99999/hub", "port"),
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


def a_pipe_for_a_certificate(folder: Path) -> list[str]:
    os.mkfifo(folder / "pipe.pem")  # nobody writes to it: who opens it waits for ever
    return ["--tls-certificate", f"{folder}/pipe.pem"]


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
    "a pipe for a certificate": (a_pipe_for_a_certificate, "is no ordinary file", 1),
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
    "no retention": (lambda folder: ["--retention", "0d"], "1d to", 2),
    "a retention without end": (lambda folder: ["--retention", "9" * 30 + "d"], "90d", 2),
    "a retention beyond numbers": (lambda folder: ["--retention", "99999999999999d"], "1d to", 2),
    "a limit that no body fits": (lambda folder: ["--limit-held", "5"], "--limit-body", 2),
    "bodies that do not fit": (lambda folder: ["--limit-body", str(1 << 30)], "--limit-held", 2),
    "a limit beyond numbers": (lambda folder: ["--limit-page", "9" * 20], "page is 9", 1),
    "an audience of nobody": (lambda folder: ["--jwt-audience", "me"], "--jwt-key", 2),
    "an issuer of nothing": (lambda folder: ["--jwt-issuer", "me"], "--jwt-key", 2),
    "a folder for a key": (lambda folder: ["--jwt-key", str(folder)], "is a directory", 2),
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


TOKENS = {
    "one that has expired": (["--expires", "0h"], "1s to"),
    "one that outlives calendars": (["--expires", "99999999999999d"], "1s to"),
    "one for no time": (["--expires", "soon"], "90d"),
    "a label that is no text": (["--label", "\udcff"], "UTF-8"),
    "an object that is no text": (["--object", "\udcff"], "UTF-8"),
    "an object without a name": (["--object", ""], "1 to 255"),
    "an object without end": (["--object", "x" * 300], "255"),
}


@pytest.mark.parametrize("wrong", TOKENS)
def test_a_token_that_cannot_be_meant_is_not_made(wrong: str, folder: Path) -> None:
    options, said = TOKENS[wrong]
    url = f"sqlite:///{folder}/hub.db"
    prepare(url)
    assert_one_line(hub("token", "create", "--space", "s", "--database", url, *options), said, code=2)
    assert hub("token", "list", "--space", "s", "--database", url).out == ""


def test_tokens_of_an_older_hub_are_listed_whatever_they_say(folder: Path) -> None:
    url = f"sqlite:///{folder}/hub.db"
    prepare(url)
    for _ in range(3):
        assert hub("token", "create", "--space", "s", "--database", url).code == 0
    with closing(sqlite3.connect(folder / "hub.db")) as raw, raw:
        raw.execute("UPDATE token SET created = rowid, label = char(27) || '[31m'")
        raw.execute("UPDATE token SET expires = 8640000000000000000 WHERE created = 1")
        raw.execute("UPDATE token SET expires = 0 WHERE created = 2")
    first, second, third = hub("token", "list", "--space", "s", "--database", url).out.splitlines()
    assert "valid  until second 8640000000000000000 since 1970" in first
    assert "expired  until 1970-01-01 00:00 UTC" in second
    assert "valid  for ever" in third
    assert "\x1b" not in first


def test_without_its_library_a_key_for_tokens_names_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "key.pem").write_text("")
    monkeypatch.delitem(sys.modules, "statesync.hub.access.identity", raising=False)
    monkeypatch.setitem(sys.modules, "jwt", None)
    ran = hub("serve", "--database", f"sqlite:///{folder}/hub.db", "--jwt-key", folder / "key.pem")
    assert_one_line(ran, "needs jwt", "pip install 'statesync[jwt]'", code=2)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_working_folder_that_is_gone_is_said_so(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    assert_one_line(hub(*COMMANDS[command]), "working folder is gone")


def test_a_disk_that_is_full_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    full = {**pool._PRAGMAS, "max_page_count": 1}
    with monkeypatch.context() as patch:
        patch.setattr(pool, "_PRAGMAS", full)
        assert_one_line(hub("init", "--database", url), "full", "free some space")
        assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import sys
from statesync.cli.commands import commands
from statesync.hub.db.file import pool
pool._PRAGMAS["max_page_count"] = 1
commands.main(sys.argv[1:])
"""


def test_what_the_log_says_of_it_is_no_second_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    create = ["hub", "token", "create", "--space", "s", "--label", "x" * 20_000, "--database", url]
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *create], capture_output=True, text=True, timeout=60
    )
    assert_one_line(Ran(ended.returncode, ended.stdout, ended.stderr), "no room left", "storage_full")


SOMEBODY_ELSE = """
import json, os, sys
from pathlib import Path
from click.testing import CliRunner
from statesync.cli.commands import commands
from statesync.cli.hub import hub  # which he may not be able to load
if os.getuid() == 0:  # to root nothing is read-only
    os.setgid(65534)
    os.setuid(65534)
said = {}
for name, words in json.loads(sys.argv[2]).items():
    ran = CliRunner().invoke(commands, ["hub", *words, "--database", f"sqlite:///{sys.argv[1]}"])
    left = sorted(path.name for path in Path(sys.argv[1]).parent.iterdir())
    said[name] = (ran.exit_code, ran.stdout, ran.stderr, left)
print(json.dumps(said))
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that is everybody's: what pytest makes is its user's, and others that begin see to that."""
    with tempfile.TemporaryDirectory(prefix="statesync-shared-", dir=memory()) as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_who_may_only_read_is_told_so_in_one_line_and_leaves_nothing(shared: Path) -> None:
    prepare(f"sqlite:///{shared}/hub.db")
    (shared / "hub.db").chmod(0o444)
    writing = {name: words for name, words in COMMANDS.items() if name not in ("serve", *ASKS)}
    ran = subprocess.run(
        [sys.executable, "-c", SOMEBODY_ELSE, f"{shared}/hub.db", json.dumps(writing)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said.keys() == writing.keys()
    for name, (code, out, err, left) in said.items():
        assert_one_line(Ran(code, out, err), "may only be read", "writable")
        assert left == ["hub.db"], name
    assert ran.stderr == ""
