"""Every guarantee that is written down names its test, and every test that is named exists."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "guarantees.md").read_text()
SEARCHES = re.findall(r"^PYTHONPATH=tests python -m (\S+) ", TEXT, re.MULTILINE)
NAMED = re.findall(r"^Test: `([^`]+)`$", TEXT, re.MULTILINE)
SECURITY = (ROOT / "docs" / "security.md").read_text()
THREATS = re.findall(r"`(tests/[\w/]+(?:\.py)?)?((?:…?::|…)\w+…?)?`", SECURITY)
"""Where a test stands, or else where the one before it does; and its name, cut where there is a "…"."""


@functools.cache
def names_in(file: Path) -> set[str]:
    """Return the tests of a file, ``Class::test`` for methods, with what a class inherits from the kit."""
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ClassDef):
            inherited = [conformance_tests(base.id) for base in node.bases if isinstance(base, ast.Name)]
            found |= {f"{node.name}::{name}" for name in set().union(*inherited)}
    return found


def conformance_tests(name: str) -> set[str]:
    from statesync import testing

    return {test for test in dir(getattr(testing, name, object)) if test.startswith("test_")}


def test_every_named_test_exists() -> None:
    assert len(NAMED) > 30
    missing = [
        named
        for file, _, name in (name.partition("::") for name in NAMED)
        if not (ROOT / file).is_file() or name not in names_in(ROOT / file)
        for named in [f"{file}::{name}"]
    ]
    assert missing == []


def test_every_test_that_a_threat_names_exists() -> None:
    named, file = 0, ROOT
    for place, name in THREATS:
        file = ROOT / place if place else file
        if place or name:
            named += 1
            assert file.exists(), place
        if name:
            told = name.strip("…:")
            names = names_in(file)
            assert told in names or ("…" in name and any(told in each for each in names)), (place, name)
    assert named > 60


def test_every_guarantee_has_a_number_of_its_own_and_a_test() -> None:
    sections = re.split(r"^(?=\*\*G\d+\.)", TEXT, flags=re.MULTILINE)[1:]
    numbers = [int(re.match(r"\*\*G(\d+)\.", section)[1]) for section in sections]  # type: ignore[index]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert [
        number for number, section in zip(numbers, sections, strict=True) if "Test: `" not in section
    ] == []


def test_every_longer_run_starts_with_the_command_that_is_written_down() -> None:
    """The folder of the tests is on the path here, too, as ``PYTHONPATH=tests`` says."""
    assert len(SEARCHES) > 3
    for module in SEARCHES:
        assert callable(importlib.import_module(module).main)
