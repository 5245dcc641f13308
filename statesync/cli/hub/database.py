"""The database that a hub's command is about: where it is, and what is said where it cannot be used."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
from click.core import ParameterSource

from statesync.cli.kinds import TEXT
from statesync.hub import HubError, Refused
from statesync.hub.addresses import has_password, without_password
from statesync.hub.db.database import Database
from statesync.hub.db.opening import check_writable, open_ready

Command = TypeVar("Command", bound=Callable[..., object])

_FILE = "statesync.hub.database_file"


def _address(ctx: click.Context, _option: click.Parameter, given: str) -> str:
    """Return the database's address, of which no password may stand in the list of processes."""
    is_typed = ctx.get_parameter_source("url") is ParameterSource.COMMANDLINE
    path: Path | None = ctx.meta.get(_FILE)
    if path is not None and is_typed:
        raise click.UsageError("--database and --database-file exclude each other.")
    if path is not None:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    if is_typed and has_password(given):
        raise click.UsageError(
            f"everybody on this machine can see the password of {without_password(given)} in the list of "
            "processes; put the address into the environment, as STATESYNC_HUB_DATABASE, or into a file, for "
            "--database-file, or leave the password out and put it into a file that PGPASSFILE names."
        )
    return given


def _keep_file(ctx: click.Context, _option: click.Parameter, path: Path | None) -> None:
    ctx.meta[_FILE] = path


def database_option(command: Command) -> Command:
    """Give the command the address of the hub's database, as the parameter ``url``."""
    by_file = click.option(
        "--database-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=_keep_file,
        expose_value=False,
        is_eager=True,
        help="A file with the address in it, which keeps its password to itself.",
    )
    by_address = click.option(
        "--database",
        "url",
        default="sqlite:///hub.db",
        show_default=True,
        envvar="STATESYNC_HUB_DATABASE",
        show_envvar=True,
        type=TEXT,
        callback=_address,
        help="sqlite:///FILE or postgresql://USER@HOST/NAME; not with a password, which goes elsewhere.",
    )
    return by_address(by_file(command))


@contextmanager
def plain_errors() -> Generator[None]:
    """Show what the hub has to say in the block without a traceback."""
    try:
        yield
    except (HubError, Refused, ValueError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def opened(url: str, *, writes: bool = False) -> Generator[Database]:
    """Open the database that the block reads, or ``writes``."""
    if writes:
        check_writable(url)
    database = open_ready(url, longest=math.inf)  # whoever waits at a terminal can end it by themselves
    try:
        yield database
    finally:
        database.close()
