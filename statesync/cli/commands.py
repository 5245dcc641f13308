"""The commands by name, loaded when they are called, and the one place where errors become one line.

``--help`` must be quick and must work without the extras that a command needs, so what it shows of each
command stands here.
"""

from __future__ import annotations

import errno
import logging
import sys
import unicodedata
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Any, NoReturn

import click

from statesync.classes import frozen
from statesync.errors import BadOptions, SyncError

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C has ended, as a shell has it."""


@frozen
class Listed:
    """Where a command lives: ``place`` is module:attribute, ``extra`` is what has to be installed for it."""

    place: str
    extra: str
    summary: str

    def load(self) -> click.Command:
        """Import the command."""
        module, attribute = self.place.split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Control and format characters, surrogates, and separators of lines."""

LISTED: dict[str, Listed] = {
    "demo": Listed("statesync.cli.demo:demo", "demo", "Show the whole story on real records, hub included."),
    "hub": Listed("statesync.cli.hub:hub", "hub", "The server that devices exchange records with."),
    "sync": Listed("statesync.cli.syncing.sync:sync", "cli", "Sync a device database with a hub."),
    "watch": Listed("statesync.cli.syncing.watch:watch", "cli", "Keep a device database in sync with a hub."),
    "sessions": Listed("statesync.cli.history:sessions", "cli", "List the sessions of a device database."),
    "session": Listed("statesync.cli.history:session", "cli", "Show all that one session did."),
    "pending": Listed("statesync.cli.outbox:pending", "cli", "List the changes that wait for the hub."),
    "retry": Listed("statesync.cli.outbox:retry", "cli", "Let changes that the hub refused go up again."),
    "conflicts": Listed("statesync.cli.outbox:conflicts", "cli", "List the conflicts and what was kept."),
    "resolve": Listed("statesync.cli.outbox:resolve", "cli", "Settle a conflict."),
    "quarantine": Listed(
        "statesync.cli.care:quarantine", "cli", "List the records that do not fit their tables."
    ),
    "doctor": Listed("statesync.cli.care:doctor", "cli", "Check a device database, and mend it."),
    "diagnose": Listed("statesync.cli.care:diagnose", "cli", "Compare a device database with its hub."),
    "diagram": Listed(
        "statesync.cli.charts:diagram", "cli", "Draw the lifecycle, or the way one session took."
    ),
    "verify": Listed("statesync.cli.charts:verify", "cli", "Explore the lifecycle and prove its promises."),
}


class MissingExtra(click.ClickException):
    """A command was called whose extra is not installed."""

    exit_code = 2


def missing_extra(error: ModuleNotFoundError, what: str, extra: str) -> Exception:
    """Return what to raise where ``what`` needs a module that its extra brings; a defect stays one."""
    if error.name is None or error.name.partition(".")[0] == "statesync":
        return error
    return MissingExtra(
        f"`{what}` needs {error.name}, which is not installed; run: pip install 'statesync[{extra}]'"
    )


class Commands(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order in which people meet them."""
        return list(LISTED)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command. Raises ``MissingExtra`` where a library that it needs is not there."""
        listed = LISTED.get(cmd_name)
        if listed is None:
            return None
        try:
            return listed.load()
        except ModuleNotFoundError as error:
            raise missing_extra(error, cmd_name, listed.extra) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.summary) for name, listed in LISTED.items()])

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> NoReturn:
        """Run and exit. Whatever goes wrong is one line on standard error."""
        given = sys.argv[1:] if args is None else list(args)
        named["standalone_mode"] = False
        try:
            with _one_line_alone():
                sys.exit(super().main(given or ["--help"], *more, **named) or 0)
        except click.Abort as error:
            _fail("stopped", INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else 1)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "statesync"
            _fail(f"{error.format_message()} See: {path} --help", error.exit_code)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except BadOptions as error:
            _fail(error.message, 2)
        except SyncError as error:
            _fail(error.message, 1)
        except OSError as error:
            _fail(_plainly(error), 1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("statesync"), prog_name="statesync")
def commands() -> None:
    """Work offline on a local database, exchange records with a hub when you can.

    DB is always the path of a device database: the SQLite file that your program gave to Store(…). Every
    command tells more with --help, and its exit code is 0 only if it did what it was asked to do.
    """


def visible(text: str) -> str:
    """Return a text with everything that a terminal might obey, or not show, written as an escape."""
    return "".join(
        char if unicodedata.category(char) not in _UNSEEN else char.encode("unicode_escape").decode()
        for char in text
    )


def _fail(message: str, code: int) -> NoReturn:
    click.echo("statesync: " + visible(" ".join(message.split())), err=True)
    sys.exit(code)


@contextmanager
def _one_line_alone() -> Generator[None]:
    """Keep warnings of the log from standard error: what ends a command says what they say.

    Defects are logged with their traceback, and that is seen.
    """
    log, handler = logging.getLogger("statesync"), logging.StreamHandler()
    handler.setLevel(logging.ERROR)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


_ADVICE = {
    errno.EACCES: "get the rights to it, or name another",
    errno.EISDIR: "name a file",
    errno.EMFILE: "let the command have more files open, with: ulimit -n",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ENOENT: "check the path",
    errno.ENOSPC: "free some space",
    errno.ENOTDIR: "check the path",
    errno.EPERM: "get the rights to it, or name another",
    errno.EROFS: "name a path on a disk that can be written",
}


def _plainly(error: OSError) -> str:
    if error.errno == errno.ENOENT and error.filename is None:  # only asking for the folder names none
        return "the working folder is gone; change into one that is there"
    what = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0)
    said = f"{error.filename}: {what}" if error.filename else what
    return f"{said}; {advice}" if advice else said
