"""The fourth act: a program is killed in the middle of a download, opened again, and synced.

Run as a module this is that program: it downloads until enough is saved, then stands still with a batch
under way until somebody kills it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from statesync.demo.report import Play
from statesync.demo.stage import Device
from statesync.lifecycle import BatchPhase, Phase
from statesync.session.telling.tracing import each_step
from statesync.values import Part, Progress, SessionInfo, State, SyncOptions

READY = "ready"
"""What the program says when it may be killed."""


def kill_while_downloading(play: Play, options: SyncOptions) -> None:
    """Kill device C's program, open its database again, and check what is left and what is fetched."""
    total = len(play.stage.hub.records())
    with play.teller.transfer("C downloads", total) as show:
        died_of = _run_and_kill(play, total // 3, options, show)
    fetched_before = len(play.stage.hub.sent)
    c = play.stage.device("C")
    _check_interrupted(play, c.last_session(), c.count(), total, died_of)
    saved = c.records()
    with play.teller.transfer("C goes on", total - len(saved)) as show:
        c.scope.sync(options, on_progress=show)
    again = saved.keys() & set(play.stage.hub.keys_sent_to(c, since=fetched_before))
    play.teller.say(f"C's second session fetched {c.last_session().stats.downloaded:,} records")
    play.expect(
        "C holds what the hub holds", c.records() == play.stage.hub.records(), f"{c.count():,} records"
    )
    play.expect(
        "nothing that was saved was sent again",
        not again,
        f"{len(again)} of {len(saved):,} records",
    )


def _run_and_kill(play: Play, at: int, options: SyncOptions, show: Callable[[Progress], None]) -> int:
    """Run the program until it is in the middle, kill it, and return the signal that it died of."""
    command = [
        *(sys.executable, "-m", "statesync.demo.killed"),
        *(str(play.stage.path("C")), play.stage.address, str(at), str(options.download_batch_size)),
    ]
    with subprocess.Popen(  # noqa: S603 - it is this very module
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the demonstration, which kills the program then
    ) as program:
        try:
            for line in program.stdout or ():
                if line.strip() == READY:
                    break
                show(Progress(Part.DOWNLOAD, State.ENDED, records=int(line)))
        finally:
            program.kill()
        return -program.wait()


def _check_interrupted(play: Play, session: SessionInfo, held: int, total: int, died_of: int) -> None:
    play.teller.say(f"C is opened again: {held:,} records are saved")
    play.expect(
        "it was killed in the middle of its download",
        died_of == signal.SIGKILL and 0 < held < total,
        f"by signal {died_of}, with {held:,} of {total:,}",
    )
    play.expect(
        "its session is failed (interrupted)",
        session.phase is Phase.FAILED and session.reason == "interrupted",
        f"its history says: {session.phase} ({session.reason})",
    )
    whole = [batch.records for batch in session.batches if batch.phase is BatchPhase.COMMITTED]
    play.expect(
        "only whole batches are saved",
        held == sum(whole) == session.stats.downloaded,
        f"{held:,} in the table, {sum(whole):,} in {len(whole)} of {len(session.batches)} batches",
    )


def _download_until_killed(path: str, address: str, at: str, batch_size: str) -> None:
    device = Device.open("C", Path(path), address)

    def stand_still(event: Progress) -> None:
        if event.part is not Part.DOWNLOAD:
            return
        if event.state is State.ENDED:
            _tell(str(event.records))
        elif event.state is State.STARTED and event.records >= int(at):
            _tell(READY)
            sys.stdin.read()  # ends only if the one who is to kill this program is gone

    with each_step(stand_still):
        device.scope.sync(SyncOptions(download_batch_size=int(batch_size)))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _download_until_killed(*sys.argv[1:])
