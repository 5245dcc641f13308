"""Tells the demonstration in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from statesync.cli.printing import plain_table
from statesync.cli.syncing.progress import records_bar
from statesync.demo.report import Check, Edit, Report, SessionRow
from statesync.values import Part, Progress

_PHASE_STYLES = {"done": "green", "cancelled": "yellow", "failed": "red"}


class TerminalTeller:
    """Prints sections, facts and checks; shows one bar at a time, while records travel."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._acts = 0

    def act(self, title: str) -> None:
        """Begin a section."""
        self._acts += 1
        self._console.print()
        self._console.print(f"[bold cyan]{self._acts}[/]  [bold]{title}[/]")

    def say(self, text: str) -> None:
        """Tell one fact."""
        self._console.print(f"   {text}")

    def judge(self, check: Check) -> None:
        """Tell how a check went."""
        mark = "[green]✓[/]" if check.held else "[bold red]✗[/]"
        line = Table.grid()
        line.add_row(f" {mark} ", Text(check.name).append(f" - {check.facts}", style="dim"))
        self._console.print(line)

    def show_edits(self, edits: tuple[Edit, ...]) -> None:
        """Show what became of the edits."""
        table = plain_table("airport", "A", "B", "hub, A and B now")
        for edit in edits:
            table.add_row(edit.airport, edit.device_a, edit.device_b, edit.now)
        self._show(table)

    @contextmanager
    def transfer(self, what: str, total: int) -> Iterator[Callable[[Progress], None]]:
        """Show a bar for the length of the block."""
        with records_bar(self._console, hidden=not self._console.is_terminal) as bar:
            task = bar.add_task(what, total=total)

            def show(event: Progress) -> None:
                if event.part is not Part.SYNC and event.records:
                    bar.update(task, completed=event.records)

            yield show

    def _show(self, table: Table) -> None:
        self._console.print(Padding(table, (0, 0, 0, 3)))


class SilentTeller:
    """Says nothing: for machines, which get the report."""

    def act(self, title: str) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def judge(self, check: Check) -> None:
        """Say nothing."""

    def show_edits(self, edits: tuple[Edit, ...]) -> None:
        """Say nothing."""

    @contextmanager
    def transfer(self, what: str, total: int) -> Iterator[Callable[[Progress], None]]:  # noqa: ARG002
        """Show nothing."""
        yield lambda _event: None


def show_ending(report: Report, kept: Path | None) -> None:
    """Print every session, and whether every check held."""
    console = Console(highlight=False)
    console.print()
    console.print(Padding(_sessions_table(report.sessions), (0, 0, 0, 3)))
    console.print()
    held = sum(check.held for check in report.checks)
    verdict = "[bold green]every check held[/]" if report.passed else "[bold red]not every check held[/]"
    console.print(f"   {verdict}: {held} of {len(report.checks)}, in {report.seconds:.0f} seconds")
    if kept is not None:
        console.print(
            f"   the databases are in {kept}; try: statesync sessions {kept}/device-b.db", soft_wrap=True
        )


def _sessions_table(rows: tuple[SessionRow, ...]) -> Table:
    figures = ("batches", "up", "down", "seconds")
    table = plain_table("device", "session ended as", *figures, right=figures)
    for row in rows:
        phase = f"{row.phase} ({row.reason})" if row.reason else row.phase
        table.add_row(
            row.device,
            Text(phase, style=_PHASE_STYLES.get(row.phase, "")),
            str(row.batches),
            f"{row.uploaded:,}",
            f"{row.downloaded:,}",
            f"{row.seconds:.2f}",
        )
    return table
