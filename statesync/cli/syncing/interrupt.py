"""Signals of the end: the first brings the batch in flight to its end, a second Ctrl-C kills."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import click

from statesync.cli.kinds import SECONDS
from statesync.session.handle import Session

_OUTPUTS = (1, 2)
"""The descriptors that are written to."""

_SHOW_CURSOR = "\x1b[?25h"
_Body = TypeVar("_Body", bound=Callable[..., None])


def grace_option(body: _Body) -> _Body:
    """Give the body of a command the option ``--grace``: seconds that a batch gets at the end."""
    return click.option(
        "--grace",
        type=SECONDS,
        default=10.0,
        show_default=True,
        help="Seconds that the batch in flight gets after Ctrl-C, or another signal of the end.",
    )(body)


@contextmanager
def told_of_the_end(end: Callable[[], object]) -> Iterator[None]:
    """Call ``end`` at each signal of the end inside the block, but die of a SIGINT that is not the first.

    These are Ctrl-C, SIGTERM, and the end of the terminal (SIGHUP). Who has the program started so that it
    outlives its terminal (``nohup``) has SIGHUP ignored, and so it stays. ``end`` may be called again.
    """
    terminals = [number for number in _OUTPUTS if os.isatty(number)]

    def told(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, die_of_interrupt)
        _write_to_nobody(number for number in terminals if not os.isatty(number))
        end()

    before = {number: signal.signal(number, told) for number in _ends()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_to_nobody(outputs: Iterable[int]) -> None:
    """Let nothing fail for a terminal that is gone: the batch in flight comes to its end all the same."""
    for number in outputs:
        nobody = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nobody, number)
        os.close(nobody)


def _ends() -> Iterator[int]:
    yield signal.SIGINT
    yield signal.SIGTERM
    hangup = getattr(signal, "SIGHUP", None)  # not on every system
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        yield hangup


@contextmanager
def cancelled_by_signals(session: Session, grace: float | None) -> Iterator[None]:
    """Cancel ``session`` at the first signal of the end inside the block, and die of a second SIGINT.

    Whoever is killed so leaves a session that the next command shows as failed (interrupted) (K8).
    """
    with told_of_the_end(lambda: session.cancel(grace)):
        yield


def die_of_interrupt(_number: int, _frame: FrameType | None) -> None:
    """Die of the signal itself, so that a shell sees an interrupt; a bar may have hidden the cursor."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
