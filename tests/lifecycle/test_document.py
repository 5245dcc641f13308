"""docs/lifecycle.md says what the charts say, and every test that it names exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from statesync.lifecycle import CHARTS

from .document import DOCUMENT, PROMISES, ROOT, named_tests, render


@pytest.fixture(scope="module")
def text() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def collected(text: str) -> set[str]:
    files = sorted({f"tests/{name.split('::')[0]}" for name in named_tests(text)})
    without = [word for plugin in ("cacheprovider", "schemathesis") for word in ("-p", f"no:{plugin}")]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", "--assert=plain", *without]
    longer = {**os.environ, "STATESYNC_SEARCH": "6"}  # the ordinary run leaves some out
    listed = subprocess.run(
        [*command, *files], capture_output=True, text=True, cwd=ROOT, env=longer, check=False
    )
    assert listed.returncode == 0, listed.stdout + listed.stderr
    return {line.removeprefix("tests/") for line in listed.stdout.splitlines() if "::" in line}


def test_the_generated_parts_are_up_to_date(text: str) -> None:
    assert render(text) == text, "run: PYTHONPATH=tests python -m lifecycle.document"


def test_every_test_that_is_named_exists(text: str, collected: set[str]) -> None:
    known = collected | {name.split("[")[0] for name in collected if "[" in name}
    assert [name for name in named_tests(text) if name not in known] == []


def test_every_pair_has_a_row_with_its_tests(text: str) -> None:
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \| .+ \| (`[A-Z].*`) \|$", text, re.M)
    pairs = [
        (str(phase), str(trigger)) for chart in CHARTS for phase in chart.phases for trigger in chart.triggers
    ]
    assert [(phase, trigger) for phase, trigger, _ in rows] == pairs
    assert all(len(tests.split("` `")) >= 2 for _, _, tests in rows)


def test_every_promise_has_a_test(text: str) -> None:
    for number in PROMISES:
        (row,) = re.findall(rf"^\| K{number} \|.*$", text, re.M)
        assert f"session/test_promises.py::test_k{number}_" in row


def test_a_stale_part_would_be_noticed(text: str) -> None:
    assert render(text.replace("| idle | `start` | **uploading** |", "| idle | `start` | **done** |")) == text


def test_a_test_that_does_not_exist_would_be_noticed(collected: set[str]) -> None:
    assert named_tests("see `session/test_promises.py::test_k1_of_nobody` and `I[idle-start]`") == [
        "session/test_promises.py::test_k1_of_nobody",
        "lifecycle/test_machine_pairs.py::test_machine_refuses_this_illegal_pair_and_changes_nothing[idle-start]",
    ]
    assert not collected & set(
        named_tests("see `session/test_promises.py::test_k1_of_nobody` and `I[idle-start]`")
    )
