"""The README does what it says: its example runs, its commands are real, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from statesync.cli.commands import LISTED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_example_runs_and_prints_what_the_readme_says(tmp_path: Path) -> None:
    example = blocks("python")[0]
    promised = re.search(r"It prints `(.+)`\.", README)
    assert promised is not None
    ran = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (ran.stdout.strip(), ran.stderr) == (promised[1], "")


def test_the_example_is_short_enough_to_read() -> None:
    assert 15 <= len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 22


@pytest.mark.parametrize(("extra", "ends_with"), [("demo", "statesync demo"), ("test", "pytest")])
def test_each_set_up_is_one_line_in_an_environment_of_its_own(extra: str, ends_with: str) -> None:
    (command,) = [block.strip() for block in blocks("sh") if f"'.[{extra}]'" in block]
    assert "\n" not in command
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert command.endswith(f"&& .venv/bin/{ends_with}")


def test_the_extras_that_the_readme_names_exist() -> None:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    named = set(re.findall(r"\[([a-z]+)\][`']", README))
    assert {"hub", "cli", "demo", "test"} <= named
    assert named <= set(config["options.extras_require"])


def test_every_command_is_in_the_readme_and_none_besides() -> None:
    table = README.split("| command | does |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(?:statesync )?([a-z]+)", re.sub(r"`--\w+`", "", table)))
    assert named == set(LISTED)


def test_every_link_leads_to_a_file() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).is_file(), target


PYTHON = """#!/bin/sh
mkdir -p "$3/bin"
for tool in pip pytest ruff mypy; do
  ln -s "{tool}" "$3/bin/$tool"
done
"""

TOOL = """#!/bin/sh
called="$(basename "$0") $*"
echo "$called" >> "{record}"
case "$called" in "$FAILS"*) exit 1;; esac
"""


def fake_environment(folder: Path) -> dict[str, str]:
    """Make a ``python3`` whose virtual environments hold tools that only say that they were called."""
    scripts = {"tool": TOOL.format(record=folder / "called"), "python3": PYTHON.format(tool=folder / "tool")}
    for name, script in scripts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def run_ci(folder: Path, fails: str) -> tuple[int, str, list[str]]:
    environment = {**fake_environment(folder), "FAILS": fails}
    ran = subprocess.run([ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, timeout=60)
    called = [line.strip() for line in (folder / "called").read_text().splitlines()]
    return ran.returncode, ran.stdout.strip().splitlines()[-1], called


def files_that_search() -> list[str]:
    """Return the files of which the ordinary run makes the beginning, and which a step of CI runs in full."""
    files = [*(ROOT / "tests").rglob("test_*.py")]
    words = ("\nfrom rig.search import ", "mark.any_database", "mark.crossed")
    return [str(file.relative_to(ROOT)) for file in files if any(map(file.read_text().__contains__, words))]


def test_ci_runs_the_readme_s_test_command_and_the_linters(tmp_path: Path) -> None:
    code, said, called = run_ci(tmp_path, "nothing")
    assert (code, said) == (0, "every step passed")
    searching = " ".join(sorted(files_that_search()))
    assert called == [
        "pip install .[test]",
        "pytest --statesync-coverage=require",
        "pytest -m sabotage tests/verify tests/kit tests/keeping",
        "pytest -n 0 -m exhaustive tests/verify tests/faults tests/hub tests/kit tests/cli",
        f"pytest -n 2 {searching}",
        "pytest -n 0 -m large tests/test_diagnose.py tests/test_memory.py tests/store/awaited",
        "pytest -n 0 -m typed tests/door",
        "pytest -n 0 tests/bench/quick.py",
        "ruff check .",
        "ruff format --check .",
        "mypy --strict",
    ]


@pytest.mark.crossed
@pytest.mark.parametrize("one", ["a", "b", "c", "d", "e"])
@pytest.mark.parametrize(("two", "three"), [(1, 2), (1, 3), (2, 2)])
def test_the_ordinary_run_meets_each_value_of_lists_that_are_crossed(
    request: pytest.FixtureRequest, one: str, two: int, three: int
) -> None:
    name = request.node.originalname
    met = [each.callspec.params for each in request.session.items if each.originalname == name]  # type: ignore[attr-defined]
    assert {given["one"] for given in met} == {"a", "b", "c", "d", "e"}
    assert {(given["two"], given["three"]) for given in met} == {(1, 2), (1, 3), (2, 2)}
    assert len(met) in (5, 15)


@pytest.mark.parametrize("mark", ["sabotage", "exhaustive", "large", "typed"])
def test_what_the_ordinary_run_leaves_out_is_run_by_a_step_of_ci(mark: str) -> None:
    script = (ROOT / ".ci" / "run").read_text()
    (step,) = re.findall(rf"-m {mark} (.+)$", script, re.MULTILINE)
    marked = [file for file in (ROOT / "tests").rglob("*.py") if f"mark.{mark}" in file.read_text()]
    assert marked
    for file in marked:
        assert any(file.is_relative_to(ROOT / path) for path in step.split()), file


@pytest.mark.parametrize(
    ("fails", "step"),
    [
        ("pip install", "install and test"),
        ("pytest --statesync-coverage", "install and test"),
        ("pytest -m sabotage", "sabotages are noticed"),
        ("pytest -n 0 -m exhaustive", "every interleaving holds"),
        ("pytest -n 2 tests/", "longer searches"),
        ("pytest -n 0 -m large", "what is large"),
        ("pytest -n 0 -m typed", "what is public is typed"),
        ("pytest -n 0 tests/bench", "quick form of the benchmark"),
        ("ruff check", "ruff check"),
        ("ruff format", "ruff format"),
        ("mypy --strict", "mypy --strict"),
    ],
)
def test_ci_fails_and_names_the_step_that_failed(fails: str, step: str, tmp_path: Path) -> None:
    code, said, _ = run_ci(tmp_path, fails)
    assert (code, said) == (1, f"failed: [{step}]")
