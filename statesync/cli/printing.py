"""How the commands print: values as JSON for machines, tables for people.

What other devices wrote is data: no markup, and nothing that a terminal would obey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from statesync.cli.commands import visible
from statesync.cli.kinds import PATH
from statesync.values import SessionInfo

PLAIN_WIDTH = 200
"""Characters a line where the output is no terminal: wide enough that nothing is cut."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(command: _Command) -> _Command:
    """Give a command ``--json``, as the parameter ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(command)


def database_argument(command: _Command) -> _Command:
    """Give a command its first argument, the path of a device database."""
    return click.argument("database", type=PATH, metavar="DB")(command)


def say(text: str, *, bold: bool = False, nl: bool = True) -> None:
    """Print one line for people, whatever stands in it."""
    click.secho(visible(text), bold=bold or None, nl=nl)


class PlainTable(Table):
    """A table whose cells are texts as they are."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of texts."""
        super().add_row(*(Text(visible(str(cell))) for cell in cells), **options)


def print_json(value: object) -> None:
    """Print attrs values, mappings and lists of them as JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or so wide that nothing is cut where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(table)


def plain_table(*columns: str, right: Iterable[str] = ()) -> Table:
    """Return an empty table; the columns in ``right`` are aligned to the right."""
    table = PlainTable(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def local_time(at: datetime) -> str:
    """Return a time as people here read it, to the second."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ending(session: SessionInfo) -> str:
    """Return how a session ended, with the reason where it was not done."""
    return f"{session.phase} ({session.reason})" if session.reason else str(session.phase)
