"""Ctrl-C and other signals of the end during ``statesync sync``, in a real process.

The first cancels, a second Ctrl-C kills.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import closing
from pathlib import Path

import pytest
from rig.child import on_a_device
from rig.device import Device
from rig.gate import Gate, Hold, wait_for
from rig.search import some

from statesync import Phase

from .shell import PATIENCE, call, end_of, start


@pytest.fixture
def held(there: Device, gate: Gate) -> Hold:
    """30 records wait on the hub; the answer with the first ten of them is held at the gate."""
    there.add(30)
    there.sync()
    return gate.hold()


Sync = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def sync(here: Device, tmp_path: Path, gate: Gate, held: Hold, space: str) -> Iterator[Sync]:
    """Start the command; when it is returned it waits for that answer."""
    started: list[subprocess.Popen[str]] = []

    def begin(*more: object) -> subprocess.Popen[str]:
        where = (tmp_path / "here.db", "--remote", gate.url, "--space", space)
        started.append(start("sync", *where, "--batch-size", 10, *more))
        held.wait()
        return started[-1]

    yield begin
    for process in started:
        with process:
            process.kill()


def interrupted(process: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    """Press Ctrl-C, or send another signal, and return the line that the command answers it with."""
    process.send_signal(number)
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.mark.parametrize("number", some([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], 2))
def test_the_first_cancels_and_waits_for_the_batch_in_flight(
    sync: Sync, held: Hold, here: Device, gate: Gate, number: int
) -> None:
    syncing = sync()
    assert interrupted(syncing, number).startswith("cancelling")
    assert syncing.poll() is None
    held.release()
    ran = end_of(syncing)
    assert ran.code == 3
    assert ran.out.startswith("cancelled: 0 records up, 10 down")
    assert ran.err == (
        "statesync: the session was cancelled on request; what was committed stays; sync again to go on\n"
    )
    assert len(here.rows()) == 10
    assert gate.verbs() == ["pull"]


def test_the_second_kills_and_the_session_is_interrupted(sync: Sync, here: Device, tmp_path: Path) -> None:
    syncing = sync()
    interrupted(syncing)
    syncing.send_signal(signal.SIGINT)
    ran = end_of(syncing)
    assert ran.code == -signal.SIGINT
    assert "Traceback" not in ran.err
    assert here.rows() == {}
    assert "failed (interrupted)" in call("sessions", tmp_path / "here.db").out


def test_who_has_told_it_twice_by_another_signal_still_gets_the_drain(
    sync: Sync, held: Hold, here: Device
) -> None:
    """As a supervisor does that also ends the terminal; a kill is what it has SIGKILL for."""
    syncing = sync()
    assert interrupted(syncing, signal.SIGTERM).startswith("cancelling")
    syncing.send_signal(signal.SIGHUP)
    syncing.send_signal(signal.SIGTERM)
    held.release()
    assert end_of(syncing).code == 3
    assert len(here.rows()) == 10


def test_the_end_of_a_terminal_that_it_is_to_outlive_cancels_nothing(
    here: Device, there: Device, gate: Gate, held: Hold, tmp_path: Path, space: str
) -> None:
    """``nohup`` has SIGHUP ignored."""
    where = (tmp_path / "here.db", "--remote", gate.url, "--space", space)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        syncing = start("sync", *where)
    finally:
        signal.signal(signal.SIGHUP, before)
    held.wait()
    syncing.send_signal(signal.SIGHUP)
    held.release()
    assert end_of(syncing).code == 0
    assert len(here.rows()) == 30


@pytest.mark.parametrize(("command", "code"), [("sync", 3), ("watch", 0)])
def test_a_terminal_that_is_closed_lets_the_batch_in_flight_end_and_the_exit_code_says_so(
    here: Device, gate: Gate, held: Hold, tmp_path: Path, space: str, command: str, code: int
) -> None:
    """What is written to it fails from then on."""
    master, slave = pty.openpty()
    where = (tmp_path / "here.db", "--remote", gate.url, "--space", space)
    syncing = subprocess.Popen(
        [sys.executable, "-m", "statesync", command, *map(str, where)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=on_a_device(TERM="xterm"),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    with syncing:
        os.close(slave)
        held.wait()
        drawn = b""
        while b"sync" not in drawn and b"download" not in drawn:  # until then it may heed no signal
            drawn += os.read(master, 1 << 16)
        os.close(master)
        assert wait_for(lambda: cancels(here))
        held.release()
        assert syncing.wait(PATIENCE) == code
    assert len(here.rows()) == 30


def cancels(here: Device) -> bool:
    return here.store.sessions()[0].phase is Phase.CANCELLING


def test_a_grace_bounds_the_wait(sync: Sync, held: Hold) -> None:
    syncing = sync("--grace", 0.2, "--json")
    syncing.send_signal(signal.SIGINT)
    ran = end_of(syncing)
    assert ran.code == 3
    assert ran.json()["result"]["stats"]["downloaded"] == 0
    assert (ran.json()["phase"], ran.json()["reason"]) == ("cancelled", "user")
    assert not held.released.is_set()


def test_ctrl_c_ends_within_the_grace_though_another_program_holds_the_database(
    sync: Sync, held: Hold, tmp_path: Path
) -> None:
    syncing = sync("--grace", 0.1)
    with closing(sqlite3.connect(tmp_path / "here.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        held.release()
        began = time.monotonic()
        syncing.send_signal(signal.SIGINT)
        ran = end_of(syncing)
        assert time.monotonic() - began < 5.0, "it would wait for five seconds, twice"
        other.execute("ROLLBACK")
    assert ran.code == 1
    assert "locked" in ran.err
    assert "failed (interrupted)" in call("sessions", tmp_path / "here.db").out


# -- before a command can run ------------------------------------------------------------------------------

PRESS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
class Press:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Press())
from statesync_command import main
sys.argv = ["statesync", "sessions", "none.db"]
main()
"""


@pytest.mark.parametrize(
    "module", some(["statesync", "peewee", "click", "statesync.cli.commands", "rich", "rich.table"], 3)
)
def test_while_the_command_is_imported_it_ends_without_a_traceback(module: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PRESS.format(module=module)],
        env=on_a_device(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 130
    assert "Traceback" not in ran.stderr


PRESS_WHERE_PYTHON_DROPS_WHAT_IS_RAISED = """
import signal, sys, weakref
signal.signal(signal.SIGINT, signal.default_int_handler)
class Press:
    def find_spec(self, name, path, target=None):
        if name == "peewee":
            one = type("One", (), {})()
            kept.append(weakref.ref(one, lambda _: signal.raise_signal(signal.SIGINT)))
kept = []
sys.meta_path.insert(0, Press())
from statesync_command import main
sys.argv = ["statesync", "sessions", "none.db"]
main()
"""


def test_a_ctrl_c_that_python_would_drop_while_it_imports_ends_the_command() -> None:
    command = [sys.executable, "-c", PRESS_WHERE_PYTHON_DROPS_WHAT_IS_RAISED]
    ran = subprocess.run(command, env=on_a_device(), capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, "")


def test_the_command_that_is_installed_is_the_quiet_one() -> None:
    setup = ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    assert "statesync = statesync_command:main" in setup["options.entry_points"]["console_scripts"]
    assert setup["options"]["py_modules"] == "statesync_command"
