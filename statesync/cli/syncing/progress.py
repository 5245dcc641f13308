"""The progress bar of a session, on standard error."""

from __future__ import annotations

from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from statesync import values
from statesync.cli.commands import visible
from statesync.values import Part, State

_CANCELLING = "cancelling: waiting for the end of the batch in flight; Ctrl-C again kills"


class SessionBar:
    """Shows a session's progress events. ``quiet`` shows the cancel alone, and no bar."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar = records_bar(self._console, hidden=quiet or not self._console.is_terminal)
        self._tasks: dict[Part, TaskID] = {}

    def __enter__(self) -> SessionBar:
        self._bar.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, event: values.Progress) -> None:
        """Bring the bar up to date."""
        if event.state is State.CANCELLING:
            self._console.print(_CANCELLING, soft_wrap=True)
        elif event.part is not Part.SYNC:
            if event.part not in self._tasks:
                self._tasks[event.part] = self._bar.add_task(event.part, total=event.total)
            task, said = self._tasks[event.part], described(event)
            self._bar.update(task, completed=event.records, total=event.total, description=said)


def described(event: values.Progress) -> str:
    """Return what a bar says of its batch: what it waits for, a second attempt, and how much may follow."""
    if event.state is State.WAITING and event.error is not None and event.next_at is not None:
        seconds = max(0.0, (event.next_at - datetime.now(UTC)).total_seconds())
        return escape(visible(f"{event.part}: {event.error.reason}, again in {seconds:.0f} s"))
    said = str(event.part)
    if event.attempt is not None and event.attempt > 1:
        said += f", attempt {event.attempt}"
    return f"{said}, {event.behind:,} versions behind the hub" if event.behind else said


class ShareColumn(ProgressColumn):
    """How much of it is done, where it is known how much there is."""

    def render(self, task: Task) -> Text:
        """Return the percentage, or nothing."""
        return Text(f"{task.percentage:3.0f}%" if task.total else "")


def records_bar(console: Console, *, hidden: bool = False) -> Progress:
    """Return a bar that counts records and is gone when it is stopped; its tasks may have no total.

    Where they have one it shows how much is done, and how long the rest will take.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        ShareColumn(),
        TextColumn("{task.completed:>9,} records"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=hidden,
    )
