"""Programs that use statesync pass ``mypy --strict`` and pyright, and they do what they say.

The checkers read the package as an installed one: what counts is what ``py.typed`` promises.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import statesync

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
SAID = {
    "readme": "done 1 Reykjavik\n",
    "shop": """\
second waits: insert Sale, update Article
first was told: done: 2 up, 0 down
second: 2 up, 1 down
conflict: 10 7 8
tea 5 [2, 3]
nothing to cancel: True
""",
    "inspection": """\
the loop went on: True
accepted: 1 1
history: done ('Reading',) 2 committed
flowchart TB
equal: True 1
deleted here alone: 1 False
the doctor: retrack
left: 0
failed: remote_error failed closed
store_not_ready True
""",
}

WRONG = """\
from peewee import TextField
from statesync import HttpRemote, Model, Progress, Store, SyncOptions

store = Store("device.db")

@store.track
class Note(Model):
    text = TextField()

def show(progress: Progress) -> None:
    print(progress.records.upper())  # wrong: a number

scope = store.scope(HttpRemote("http://localhost", space=7))  # wrong: no name
scope.start_sync(on_success=show)  # wrong: it gets a result
print(scope.sync(SyncOptions(max_attempts=2)).stats.downloaded.lower())  # wrong: a number
store.track(Note, name=None).create(text="").txt  # wrong: no such field
store.journal("1")[0].trigger.fire()  # wrong: no such method
"""

DERIVED = """\
from peewee import TextField
from statesync import Store

store = Store("device.db")

class Airport(store.Model):
    name = TextField()

def name_of(other: Store) -> str:
    class Runway(other.Model):
        name = TextField()
    return Runway.create(name=Airport.get().name).name
"""
"""mypy refuses this: it takes no base class from a value, whatever its type."""


def programs() -> dict[str, str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert shown is not None
    return {"readme": shown[1]} | {
        name: (PROGRAMS / f"{name}.py").read_text(encoding="utf-8") for name in ("shop", "inspection")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every program, as if it were a project of its own."""
    folder = tmp_path_factory.mktemp("project")
    for name, text in (programs() | {"wrong": WRONG, "derived": DERIVED}).items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module there, with this package as the one that is installed."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(statesync.__file__).parents[1]),
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    }
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )


Complaints = dict[str, set[int]]
"""By program, the lines that a checker complains about."""


@pytest.fixture(scope="module")
def mypy(folder: Path) -> Complaints:
    names = [f"{name}.py" for name in ("readme", "shop", "inspection", "wrong")]
    ran = run(folder, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=.mypy", *names)
    assert f"(checked {len(names)} source files)" in ran.stdout, ran.stdout + ran.stderr
    return collected(
        (path, int(line)) for path, line in re.findall(r"^(\w+)\.py:(\d+): error", ran.stdout, re.MULTILINE)
    )


@pytest.fixture(scope="module")
def pyright(folder: Path) -> Complaints:
    said = asked_pyright(folder, ".")
    assert said["summary"]["filesAnalyzed"] == 5
    return collected(
        (Path(each["file"]).stem, each["range"]["start"]["line"] + 1) for each in said["generalDiagnostics"]
    )


def asked_pyright(folder: Path, *arguments: str) -> dict[str, Any]:
    ran = run(folder, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", *arguments)
    assert ran.stdout.startswith("{"), ran.stdout + ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


def collected(complaints: Iterable[tuple[str, int]]) -> Complaints:
    found: Complaints = {}
    for name, line in complaints:
        found.setdefault(name, set()).add(line)
    return found


@pytest.mark.parametrize("name", sorted({*SAID} - {"readme"}))  # test_readme.py runs the README's
def test_the_program_does_what_it_says(name: str, folder: Path, tmp_path: Path) -> None:
    ran = run(tmp_path, str(folder / f"{name}.py"))
    assert (ran.stdout, ran.stderr) == (SAID[name], "")


@pytest.mark.typed
@pytest.mark.parametrize("name", SAID)
def test_the_program_passes_mypy_and_pyright(name: str, mypy: Complaints, pyright: Complaints) -> None:
    assert (mypy.get(name), pyright.get(name)) == (None, None)


@pytest.mark.typed
def test_a_model_derived_from_the_stores_own_passes_pyright(pyright: Complaints) -> None:
    assert pyright.get("derived") is None


@pytest.mark.typed
def test_both_checkers_see_what_is_wrong_with_a_program(mypy: Complaints, pyright: Complaints) -> None:
    wrong = {number for number, line in enumerate(WRONG.splitlines(), start=1) if "# wrong" in line}
    assert len(wrong) == 6
    assert mypy["wrong"] == wrong
    assert pyright["wrong"] == wrong


@pytest.mark.typed
def test_every_public_name_has_a_type_that_needs_no_guessing(folder: Path) -> None:
    """``pyright --verifytypes`` looks at the whole package; what comes from others is theirs."""
    said = asked_pyright(folder, "--verifytypes", "statesync", "--ignoreexternal")["typeCompleteness"]
    ambiguous = [each["name"] for each in said["symbols"] if each["isExported"] and not each["isTypeKnown"]]
    assert Path(said["packageRootDirectory"]) == Path(statesync.__file__).parent
    assert said["exportedSymbolCounts"]["withKnownType"] > 2500
    assert ambiguous == []
    assert said["completenessScore"] == 1
