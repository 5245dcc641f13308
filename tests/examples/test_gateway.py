"""The gateway of the examples: the hub goes away and comes back, SIGTERM ends it, and nothing is lost."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from rig.child import on_a_device
from rig.gate import wait_for

from statesync.hub import Hub, prepare, serving

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "docs" / "examples" / "gateway.py"


def count(file: Path, table: str) -> int:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as raw:
        return int(raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def rises(file: Path, table: str, by: int) -> Callable[[], bool]:
    """Return what tells whether a table has so many more records than now."""
    wanted = count(file, table) + by
    return lambda: count(file, table) >= wanted


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start the program in a process of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=on_a_device())


@pytest.mark.timeout(90)
def test_the_hub_goes_away_and_comes_back_and_sigterm_ends_it_within_a_second_with_nothing_lost(
    tmp_path: Path,
) -> None:
    mine, theirs = tmp_path / "readings.db", tmp_path / "hub.db"
    prepare(f"sqlite:///{theirs}")
    with closing(Hub(f"sqlite:///{theirs}", without_tokens=True)) as hub, serving(hub) as address:
        command = [sys.executable, str(PROGRAM), str(mine), address, "plant"]
        gateway = start(command)
        assert wait_for(rises(theirs, "record", 10))
    assert wait_for(rises(mine, "reading", 100))  # the hub is away
    port = int(address.rsplit(":", 1)[1])
    with closing(Hub(f"sqlite:///{theirs}", without_tokens=True)) as hub, serving(hub, port=port):
        assert wait_for(rises(theirs, "record", 100))
        asked = time.monotonic()
        gateway.send_signal(signal.SIGTERM)
        said, complained = gateway.communicate(timeout=30)
        took = time.monotonic() - asked
        last = re.fullmatch(r"(\d+) written, (\d+) wait", said.splitlines()[-1])
        assert last is not None, said
        written, waiting = map(int, last.groups())
        assert (gateway.returncode, complained) == (0, "")
        assert took < 1.0 + 1.0  # a second, and one for a machine that does something else
        assert count(mine, "reading") == written
        assert count(theirs, "record") == written - waiting
        again = start(command)
        assert wait_for(rises(theirs, "record", waiting + 1))
        again.send_signal(signal.SIGTERM)
        (first, *_, end) = again.communicate(timeout=30)[0].splitlines()
        more, left = map(int, re.findall(r"\d+", end))
        assert first == "syncing: it was started"
        assert count(theirs, "record") == written + more - left


def test_what_is_said_ends_with_stopped_though_no_hub_was_ever_there(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), str(tmp_path / "r.db"), "http://127.0.0.1:9", "plant"]
    gateway = start(command)
    assert gateway.stdout is not None
    assert gateway.stdout.readline() == "syncing: it was started\n"
    gateway.send_signal(signal.SIGINT)
    said, complained = gateway.communicate(timeout=30)
    *_, stopped, last = said.splitlines()
    assert stopped.startswith("stopped: ")
    assert (gateway.returncode, complained) == (0, "")
    assert re.fullmatch(r"(\d+) written, \1 wait", last)
