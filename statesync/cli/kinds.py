"""What the commands take: each number with its bounds, and each text as a database and a header take it.

Whatever of a command line reaches SQL, a request or a file has a type that stands here, so that what cannot
be is wrong usage, and is refused before anything is opened. The API refuses the same as ``BadOptions``.
"""

from __future__ import annotations

import re
from typing import Any

import click

from statesync.checks import LARGEST, is_utf8
from statesync.keeping.options import LONGEST_INTERVAL

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,15})([smhd])")

LONGEST_WORD = 1 << 17
"""Characters of the longest word that Linux passes on to a program."""


class Text(click.types.StringParamType):
    """A text of ``least`` to ``most`` characters, which UTF-8 and PostgreSQL can write.

    What is refused is not shown: it may be an address with a password.
    """

    name: str = "text"

    def __init__(self, least: int = 0, most: int = LONGEST_WORD) -> None:
        self.least: int = least
        self.most: int = most

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is, or refuse it."""
        if not is_utf8(value) or "\0" in value:
            self.fail("it is no text in UTF-8; write it in that, and without NUL.", param, ctx)
        if not self.least <= len(value) <= self.most:
            self.fail(f"it has {len(value)} characters; give {self.least} to {self.most}.", param, ctx)
        return value


class Secret(Text):
    """A text that stands in no message; what takes it judges it."""

    def convert(self, value: str, _param: click.Parameter | None, _ctx: click.Context | None) -> str:
        """Return the text as it is."""
        return value


class Duration(click.types.IntParamType):
    """A time such as ``12h`` or ``90d``, from ``least`` to ``most``; its value are seconds."""

    name: str = "duration"

    def __init__(self, least: str, most: str) -> None:
        self.least: str = least
        self.most: str = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds, or refuse what is no time or out of bounds."""
        seconds = _seconds(str(value))
        if seconds is None:
            self.fail(f"{str(value)[:40]!r} is no time such as 30m, 12h or 90d.", param, ctx)
        if not (_seconds(self.least) or 0) <= seconds <= (_seconds(self.most) or 0):
            self.fail(f"{value} is out of bounds; give {self.least} to {self.most}.", param, ctx)
        return seconds


def _seconds(text: str) -> int | None:
    match = _DURATION.fullmatch(text)
    return None if match is None else int(match[1]) * _UNITS[match[2]]


COUNT = click.IntRange(1, LARGEST)
"""So many of something."""
IDENTIFIER = click.IntRange(1, LARGEST)
"""The number that a database has given a row."""
VERSION = click.IntRange(0, LARGEST)
SECONDS = click.FloatRange(min=0, max=float("inf"))
INTERVAL = click.FloatRange(min=0.1, max=LONGEST_INTERVAL)
PORT = click.IntRange(0, 65_535)
PROCESSES = click.IntRange(1, 1_000)
CONNECTIONS = click.IntRange(1, 100_000)
EXPIRY = Duration("1s", "36500d")
RETENTION = Duration("1d", "36500d")

PATH = click.Path()
"""A file, which may have any name that the system has; what opens it judges it."""
SECRET = Secret()
TEXT = Text()
NAME = Text(1, 255)
"""A name of a space, an object or a token, each of which the hub judges by itself."""
