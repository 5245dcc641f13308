"""Whatever goes wrong is one line on standard error with what to do next, never a traceback."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from rig.device import Device
from rig.gate import Gate, answer

from statesync.hub import Hub, prepare, serving

from .shell import Ran, call, run


def assert_one_line(ran: Ran, *words: str, code: int = 1) -> None:
    assert ran.code == code
    assert ran.out == ""
    assert ran.err.startswith("statesync: ")
    assert ran.err.count("\n") == 1, ran.err
    for word in words:
        assert word in ran.err


def nothing(path: Path) -> None:
    """There is no such file."""


def folder(path: Path) -> None:
    path.mkdir()


def no_database(path: Path) -> None:
    path.write_text("It was a dark and stormy night." * 100)


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE thing (a)")


def newer_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("PRAGMA journal_mode = wal")
        raw.execute("CREATE TABLE statesync_meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID")
        raw.execute("INSERT INTO statesync_meta VALUES ('format', 1000), ('tracking', 1)")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (nothing, "give the path of a device database"),
        (folder, "give the path of a device database"),
        (no_database, "check the path"),
        (foreign_database, "never been set up"),
        (newer_format, "install that version or a later one"),
    ],
)
@pytest.mark.parametrize("command", ["sync", "sessions"])
def test_a_database_that_is_none(
    command: str, make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    where = ("--remote", "http://127.0.0.1:9", "--space", "s") if command == "sync" else ()
    assert_one_line(call(command, path, *where), said)
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.fixture
def database(here: Device, tmp_path: Path) -> Path:
    here.add(1)
    return tmp_path / "here.db"


def failed_sync(database: Path, url: str, *more: str) -> Ran:
    """Sync in vain; the summary of what is durable is not an error and goes to standard output."""
    ran = call("sync", database, "--remote", url, "--space", "s", "--attempts", "1", *more)
    assert ran.out.startswith("failed: 0 records up, 0 down")
    return Ran(ran.code, "", ran.err)


def test_a_hub_that_is_down(database: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert_one_line(failed_sync(database, url), "cannot be reached", "check the address")


def test_a_hub_that_answers_html(database: Path, gate: Gate) -> None:
    gate.plan(answer(200, b"<html>Welcome!</html>", Content_Type="text/html"))
    assert_one_line(failed_sync(database, gate.url), "is it a statesync hub?")


def test_a_wrong_token(database: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/guarded.db"
    prepare(url)
    hub = Hub(url)
    with serving(hub) as address:
        assert_one_line(failed_sync(database, address, "--token", "s~wrong~token"), "401", "--token")
    hub.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "nonsense"),
        (["sync"], "DB"),
        (["sync", "x.db", "--remote", "http://h"], "--space"),
        (["sync", "x.db", "--remote", "http://h", "--space", "s", "--batch-size", "0"], "--batch-size"),
        (["sync", "x.db", "--remote", "http://h", "--space", "s", "--conflicts", "mine"], "server_wins"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    assert_one_line(call(*arguments), said, "--help", code=2)


def test_an_address_that_is_none_is_wrong_usage(database: Path) -> None:
    ran = call("sync", database, "--remote", "hub:8710", "--space", "s")
    assert_one_line(ran, "it looks like http://", code=2)


def test_an_operating_system_error_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_one_line(call("demo", "--keep", tmp_path / "file" / "below"), "Not a directory")


def test_records_of_another_space(here: Device, database: Path, address: str) -> None:
    here.sync()
    ran = run("sync", database, "--remote", address, "--space", "elsewhere")
    assert_one_line(ran, "belongs to another space", "reset()")
