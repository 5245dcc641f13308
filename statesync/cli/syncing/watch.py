"""``statesync watch``: a keeper over a device database, and a live line that says what it does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType, TracebackType

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from statesync.autosync.handle import AutoSync
from statesync.autosync.status import KeeperStatus
from statesync.cli.commands import visible
from statesync.cli.devices import opened, remote_options
from statesync.cli.kinds import INTERVAL
from statesync.cli.printing import database_argument, local_time
from statesync.cli.syncing.interrupt import die_of_interrupt, grace_option
from statesync.cli.syncing.progress import described
from statesync.errors import StoreError
from statesync.lifecycle import KeeperPhase
from statesync.net.remote import HttpRemote
from statesync.values import Backlog, Part, Progress

REDRAWN_EVERY = 0.25
"""Seconds between two looks at what the keeper does."""

STOPPING = "stopping: waiting for the end of the batch in flight; Ctrl-C again kills"

_COUNTED = (
    ("waiting", "to send"),
    ("deferred", "deferred"),
    ("in_conflict", "in conflict"),
    ("parked", "refused by the hub"),
    ("quarantined", "in quarantine"),
    ("partly_read", "partly read"),
)

_TROUBLED = (KeeperPhase.BACKING_OFF, KeeperPhase.HELD, KeeperPhase.NEEDS_TOKEN)


@click.command()
@database_argument
@remote_options
@click.option(
    "--every",
    type=INTERVAL,
    default=300.0,
    show_default=True,
    help="Seconds from the end of one session to the next, where no change here begins one before.",
)
@grace_option
def watch(database: str, remote: HttpRemote, every: float, grace: float) -> None:
    """Keep the device database DB in sync with a hub, and say what happens.

    A session begins at once, after each change here, when the hub has news, and every so many seconds;
    after a failure it is tried again by itself. In a terminal one line shows the present state; elsewhere
    each new state is a line. Ctrl-C, SIGTERM, or the end of its terminal ends it: the batch in flight is
    brought to its end. A second Ctrl-C kills. The exit code is 0 if it was ended so, and 1 if it has ended
    by itself.
    """
    with opened(database) as store, StatusLine() as line:
        scope = store.scope(remote)
        keeper = AutoSync(scope, every=every, live=True, on_progress=line.note_progress)
        with _stopped_by_signals(keeper, line, grace):
            keeper.start()
            while not keeper.wait(REDRAWN_EVERY):
                line.show(keeper)
            line.show(keeper)
        if not line.is_stopping:
            why = visible(keeper.status().why)
            raise click.ClickException(
                f"nothing is synced any more, the keeper has ended: {why}; start it again"
            )


@contextmanager
def _stopped_by_signals(keeper: AutoSync, line: StatusLine, grace: float) -> Iterator[None]:
    """Stop the keeper at the first signal of the end inside the block; die of the second SIGINT.

    Who has it started so that it outlives its terminal (``nohup``) has SIGHUP ignored, and so it stays.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, die_of_interrupt)
        line.is_stopping = True
        keeper.stop(grace, wait=False)

    ends = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not on every system
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        ends.append(hangup)
    before = {number: signal.signal(number, stop) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StatusLine:
    """Shows a keeper's status: in a terminal as one live line, elsewhere as a line for each new one."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._progress: Progress | None = None
        self._said: str | None = None
        self._draws = self._console.is_terminal and not self._console.is_dumb_terminal
        self.is_stopping: bool = False

    def __enter__(self) -> StatusLine:
        if self._draws:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._draws and self._said is not None:
            self._say(self._said)

    def note_progress(self, event: Progress) -> None:
        """Remember how far the session is; called in its thread."""
        self._progress = None if event.part is Part.SYNC else event

    def show(self, keeper: AutoSync) -> None:
        """Bring the line up to date."""
        try:
            status = keeper.status()
            text, news = line_of(status, self._progress, datetime.now(UTC)), news_of(status)
            if self.is_stopping and status.phase is not KeeperPhase.STOPPED:
                text = news = STOPPING
        except StoreError as error:
            text = news = visible(error.message)
        if self._draws:
            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif news != self._said:
            self._say(news)
        self._said = news

    def _say(self, news: str) -> None:
        click.echo(f"{local_time(datetime.now(UTC))}  {news}", err=True)


def line_of(status: KeeperStatus, progress: Progress | None, now: datetime) -> str:
    """Return all that is to be said of a keeper at this moment, as one line."""
    parts = [news_of(status)]
    if status.phase is KeeperPhase.SYNCING and progress is not None:
        parts.append(_records(progress))
    if status.next_at is not None and status.next is not None:
        seconds = max(0.0, (status.next_at - now).total_seconds())
        parts.append(f"{status.next.replace('_', ' ')} in {_seconds(seconds)}")
    return " · ".join(parts)


def news_of(status: KeeperStatus) -> str:
    """Return what is new about a keeper once it changes: its phase, its trouble, and what is stuck."""
    if status.is_up_to_date and status.in_sync is not None:
        return f"up to date, in sync at {local_time(status.in_sync.at)}"
    parts = [str(status.phase).replace("_", " ")]
    if status.phase in _TROUBLED:
        parts[0] += f": {status.why}"
    return visible(" · ".join([*parts, *_stuck(status.backlog)]))


def _stuck(backlog: Backlog) -> Iterator[str]:
    for name, words in _COUNTED:
        if count := getattr(backlog, name):
            yield f"{count:,} {words}"
    if backlog.in_doubt:
        yield "a batch in doubt"


def _records(progress: Progress) -> str:
    of = "" if progress.total is None else f" of {progress.total:,}"
    return visible(f"{described(progress)} {progress.records:,}{of}")


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
