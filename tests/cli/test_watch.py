"""``statesync watch``: a live line in a terminal, lines elsewhere, and an end by Ctrl-C with a drain."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from select import select

import pytest
from attrs import define, evolve
from rig.child import on_a_device
from rig.device import Device
from rig.gate import Gate, refuse, wait_for
from rig.search import some

from statesync import (
    Backlog,
    InSync,
    KeeperPhase,
    KeeperStatus,
    LastSession,
    Part,
    Phase,
    Progress,
    State,
)
from statesync.autosync import driver
from statesync.cli.syncing.watch import line_of, news_of

from .shell import PATIENCE, call, end_of, start

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

# -- what the line says ------------------------------------------------------------------------------------

BUSY = KeeperStatus(
    phase=KeeperPhase.SYNCING,
    since=NOW,
    why="it was started",
    next="session_ended",
    next_at=None,
    last=None,
    backlog=Backlog(waiting=1200),
    in_sync=None,
)


def test_a_session_that_runs_shows_what_waits_and_how_far_it_is() -> None:
    progress = Progress(Part.UPLOAD, State.ENDED, 3, 150, 1200, attempt=2)
    assert line_of(BUSY, progress, NOW) == "syncing · 1,200 to send · upload, attempt 2 150 of 1,200"


def test_trouble_says_why_and_when_it_is_tried_again() -> None:
    status = evolve(
        BUSY,
        phase=KeeperPhase.BACKING_OFF,
        why="no hub\x1b[2J is there",
        next="back_off_over",
        next_at=NOW + timedelta(seconds=7),
        backlog=Backlog(),
    )
    assert line_of(status, None, NOW) == "backing off: no hub\\x1b[2J is there · back off over in 7 s"


def test_nothing_that_is_stuck_is_hidden_and_nothing_is_up_to_date_with_it() -> None:
    status = evolve(
        BUSY,
        phase=KeeperPhase.RESTING,
        last=LastSession("a", Phase.DONE, NOW, None),
        in_sync=InSync(NOW, "a"),
        backlog=Backlog(),
    )
    assert news_of(status).startswith("up to date, in sync at 2026-01-0")
    assert news_of(evolve(status, hears=True)) == news_of(status)
    assert news_of(evolve(status, hears=False)).endswith(" · the hub does not answer the question for news")
    stuck = evolve(status, backlog=Backlog(0, 1, 2, 3, 4, in_doubt=True, partly_read=5))
    assert news_of(stuck) == (
        "resting · 1 deferred · 2 in conflict · 3 refused by the hub · 4 in quarantine · 5 partly read"
        " · a batch in doubt"
    )


# -- in a process ------------------------------------------------------------------------------------------

Watch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def watch(here: Device, tmp_path: Path, gate: Gate, space: str) -> Iterator[Watch]:
    """Start the command."""
    started: list[subprocess.Popen[str]] = []

    def begin(*more: object) -> subprocess.Popen[str]:
        where = (tmp_path / "here.db", "--remote", gate.url, "--space", space)
        started.append(start("watch", *where, *more))
        return started[-1]

    yield begin
    for process in started:
        with process:
            process.kill()


def line_with(process: subprocess.Popen[str], words: str) -> str:
    assert process.stderr is not None
    while (line := process.stderr.readline()) and words not in line:
        pass
    return line


@pytest.mark.parametrize("number", some([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], 2))
def test_it_syncs_what_is_written_here_and_ends_by_a_signal_with_the_batch_in_flight(
    watch: Watch, here: Device, there: Device, gate: Gate, number: int
) -> None:
    watching = watch()
    assert line_with(watching, "up to date")
    held = gate.hold()
    keys = here.add(3)
    held.wait()
    watching.send_signal(number)
    assert line_with(watching, "stopping: waiting for the end of the batch in flight")
    assert watching.poll() is None
    held.release()
    ran = end_of(watching)
    assert ran.code == 0
    assert "stopped" in ran.err
    there.sync()
    assert there.keys() == keys


def test_a_second_ctrl_c_kills(watch: Watch, here: Device, gate: Gate, tmp_path: Path) -> None:
    held = gate.hold()
    here.add(1)
    watching = watch()
    held.wait()
    watching.send_signal(signal.SIGINT)
    assert line_with(watching, "stopping")
    watching.send_signal(signal.SIGINT)
    ran = end_of(watching)
    assert ran.code == -signal.SIGINT
    assert "Traceback" not in ran.err
    assert "failed (interrupted)" in call("sessions", tmp_path / "here.db").out


def test_what_fails_is_told_in_words_and_it_goes_on(watch: Watch, here: Device, gate: Gate) -> None:
    gate.plan(*[refuse(401, "unauthorized")])
    watching = watch("--every", 0.5)
    assert "the hub refused the request (401 unauthorized)" in line_with(watching, "needs token")
    assert line_with(watching, "up to date")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--every", "0"), "--every"),
        (("--every", "nan"), "every must be a number of seconds"),
        (("--every", "soon"), "--every"),
        (("--grace", "-1"), "--grace"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    tmp_path: Path, here: Device, more: tuple[str, str], words: str
) -> None:
    where = ("--remote", "http://127.0.0.1:9", "--space", "s")
    ran = call("watch", tmp_path / "here.db", *where, *more)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert words in ran.err


def test_a_file_that_is_no_device_database_is_refused_in_one_line(tmp_path: Path) -> None:
    ran = call("watch", tmp_path / "none.db", "--remote", "http://127.0.0.1:9", "--space", "s")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "there is no file" in ran.err


def test_a_keeper_that_ends_by_itself_is_a_failure(
    tmp_path: Path, here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("one too many")

    monkeypatch.setattr(driver, "decide", defect)
    ran = call("watch", tmp_path / "here.db", "--remote", "http://127.0.0.1:9", "--space", "s")
    assert ran.code == 1
    assert "a defect ended it: one too many" in ran.err.splitlines()[-1]


# -- in a terminal -----------------------------------------------------------------------------------------


@define(eq=False)
class Terminal:
    """A command in a terminal of its own: what it has drawn, and keys for it."""

    process: subprocess.Popen[bytes]
    master: int
    drawn: str = ""

    def shows(self, words: str) -> bool:
        """Wait until the words were drawn."""
        until = time.monotonic() + PATIENCE
        while words not in self.drawn and time.monotonic() < until:
            if select([self.master], [], [], 0.1)[0]:
                with suppress(OSError):  # the command has ended, and its terminal with it
                    text = os.read(self.master, 1 << 16).decode(errors="replace")
                    self.drawn += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
            elif self.process.poll() is not None:
                break
        return words in self.drawn

    def press(self, key: str) -> None:
        os.write(self.master, key.encode())


@pytest.fixture
def terminal(
    here: Device, tmp_path: Path, gate: Gate, space: str, request: pytest.FixtureRequest
) -> Iterator[Terminal]:
    """Watch in a terminal of 100 columns; of the kind that the test says."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    where = (tmp_path / "here.db", "--remote", gate.url, "--space", space)
    process = subprocess.Popen(
        [sys.executable, "-m", "statesync", "watch", *map(str, where)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=on_a_device(TERM=getattr(request, "param", "xterm")),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    yield Terminal(process, master)
    process.kill()
    process.wait()
    os.close(master)


@pytest.mark.parametrize("terminal", ["dumb"], indirect=True)
def test_in_a_terminal_that_cannot_draw_each_new_state_is_a_line(terminal: Terminal) -> None:
    """As in an editor's shell."""
    assert terminal.shows("up to date, in sync at")
    terminal.press("\x03")
    assert terminal.shows("stopped")
    assert terminal.process.wait(PATIENCE) == 0


def test_in_a_terminal_one_line_lives_and_ctrl_c_drains(
    terminal: Terminal, here: Device, there: Device, gate: Gate
) -> None:
    assert terminal.shows("up to date, in sync at")
    assert terminal.shows("interval in ")
    held = gate.hold()
    keys = here.add(2)
    held.wait()
    assert terminal.shows("syncing · 2 to send")
    terminal.press("\x03")
    assert terminal.shows("stopping: waiting for the end of the batch in flight; Ctrl-C again kills")
    held.release()
    assert terminal.shows("stopped")
    assert terminal.process.wait(PATIENCE) == 0
    assert "\n\n" not in terminal.drawn.replace("\r", "")
    assert wait_for(lambda: here.operations() == {})
    there.sync()
    assert there.keys() == keys
