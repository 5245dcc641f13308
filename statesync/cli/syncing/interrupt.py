"""Ctrl-C during a session: the first cancels it, the second kills the program."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import click

from statesync.cli.kinds import SECONDS
from statesync.session.handle import Session

_SHOW_CURSOR = "\x1b[?25h"
_Body = TypeVar("_Body", bound=Callable[..., None])


def grace_option(body: _Body) -> _Body:
    """Give the body of a command the option ``--grace``: seconds that a batch gets after Ctrl-C."""
    return click.option(
        "--grace",
        type=SECONDS,
        default=10.0,
        show_default=True,
        help="Seconds that the batch in flight gets after Ctrl-C.",
    )(body)


@contextmanager
def cancelled_by_interrupt(session: Session, grace: float | None) -> Iterator[None]:
    """Cancel ``session`` on the first SIGINT inside the block, and die of the second.

    Whoever is killed so leaves a session that the next command shows as failed (interrupted) (K8).
    """

    def cancel(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, die_of_interrupt)
        session.cancel(grace)

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def die_of_interrupt(_number: int, _frame: FrameType | None) -> None:
    """Die of the signal itself, so that a shell sees an interrupt; a bar may have hidden the cursor."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
