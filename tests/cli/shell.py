"""Running the command as people and scripts do: in a process of its own, or here where that is enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from attrs import frozen
from click.testing import CliRunner
from rig.child import on_a_device

from statesync.cli.commands import commands

PATIENCE = 100.0
"""Seconds after which a process that does not end has failed its test."""


@frozen
class Ran:
    """How a run of the command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return what was printed for machines."""
        return json.loads(self.out)


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start ``python -m statesync`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "statesync", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment} if arguments[0] in ("hub", "demo") else on_a_device(**environment),
    )


def end_of(process: subprocess.Popen[str]) -> Ran:
    """Wait for the end of a process."""
    with process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()  # one that has ended is not hurt
    return Ran(process.returncode, out, err)


def run(*arguments: object, **environment: str) -> Ran:
    """Run ``python -m statesync`` in a process of its own."""
    return end_of(start(*arguments, **environment))


def call(*arguments: object, **environment: str) -> Ran:
    """Run the command in this process."""
    result = CliRunner().invoke(commands, [str(word) for word in arguments], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)
