"""The command as a whole: its list, its help, and what it says where something is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import click
import pytest
from rig.child import on_a_device

from statesync.cli.commands import LISTED

from .shell import call, run

HEAVY = ("rich", "starlette", "uvicorn", "airportsdata", "pygraphviz")  # psycopg: Peewee takes it by itself


def python(script: str, environment: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)


def test_help_lists_what_the_design_names() -> None:
    ran = run("--help")
    assert ran.code == 0
    for name in ("demo", "hub", "sync", "sessions", "session", "pending", "conflicts", "diagram", "verify"):
        assert f"\n  {name} " in ran.out


def test_without_a_command_the_help_is_shown() -> None:
    assert call() == call("--help")


def test_help_imports_nothing_that_only_an_extra_brings() -> None:
    script = (
        "import sys\n"
        "from statesync.cli.commands import commands\n"
        "try: commands.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert python(script, on_a_device()).stdout.endswith("[]\n")


@pytest.mark.parametrize("name", list(LISTED))
def test_every_listed_command_loads_and_explains_itself(name: str) -> None:
    command = LISTED[name].load()
    assert isinstance(command, click.Command)
    assert command.name == name
    ran = call(name, "--help")
    assert ran.code == 0
    assert command.help is not None
    assert command.help.split()[0] in ran.out


def test_version_is_the_package_s() -> None:
    ran = call("--version")
    assert ran.code == 0
    assert ran.out.startswith("statesync, version 0.")


def test_without_click_one_line_names_the_extra() -> None:
    ended = python("import sys; sys.modules['click'] = None; from statesync.cli import main; main()")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == "statesync: the command line is an extra; run: pip install 'statesync[cli]'\n"


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [("uvicorn", "hub", "hub"), ("airportsdata", "demo", "demo"), ("rich", "sync", "cli")],
)
def test_without_a_library_one_line_names_the_extra(missing: str, command: str, extra: str) -> None:
    ended = python(
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['statesync', {command!r}, '--help']; "
        "from statesync.cli import main; main()"
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert f"needs {missing}" in ended.stderr
    assert f"pip install 'statesync[{extra}]'" in ended.stderr
