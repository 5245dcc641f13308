from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from rig.device import Device, device_at
from rig.gate import Gate, gate_before
from rig.places import keep_bytecode, prefer_memory
from rig.search import left_out

from statesync.hub import Hub, prepare, serving
from statesync.session import driver, timers
from statesync.session.telling import pace

prefer_memory()
keep_bytecode()
gc.disable()  # what is imported and collected stays: to look for circles in it finds none


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile each file of a whole run in one of the workers: all four did it, for 15 s of a first run."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    first, every = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    tests = Path(__file__).parent
    for file in sorted(tests.rglob("test_*.py"))[first::every]:
        with suppress(Exception, pytest.skip.Exception):  # the collection imports it again, and tells why
            import_module(".".join(file.relative_to(tests).with_suffix("").parts))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take long, and end with the smallest: no worker is left with a large one."""
    left = left_out(items)
    if left:
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]
    items.sort(key=lambda item: (item.get_closest_marker("long") is None, -_size_of(item.path), item.path))


@cache
def _size_of(file: Path) -> int:
    return file.stat().st_size


def pytest_collection_finish() -> None:
    """Spare Python the search for circles in what is there for good: it was a twentieth of the run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)  # with Python's 700 it takes twice as long
    gc.enable()


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Let a worker tell of each test once, and of a set-up or an end only where it failed or was skipped.

    Six messages a test were a fiftieth of the run.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Send reports without the words that tests are selected by: a run has thousands of reports."""
    report = yield
    if report is not None and "keywords" in report:
        report["keywords"] = {}
    return report


@pytest.fixture(autouse=True)
def _hear_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests hear each step of a session, and not ten a second: most are about one of them."""
    monkeypatch.setattr(pace, "LEAST_SECONDS", 0.0)


@pytest.fixture(scope="session")
def live_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, str]]:
    """A hub on a real file that lets everybody in, and its address; tests keep apart by their spaces."""
    url = f"sqlite:///{tmp_path_factory.mktemp('hub')}/hub.db"
    prepare(url)
    hub = Hub(url, without_tokens=True)
    with serving(hub) as address:
        yield hub, address
    hub.close()


@pytest.fixture
def address(live_hub: tuple[Hub, str]) -> str:
    """The address of the hub."""
    return live_hub[1]


@pytest.fixture
def space() -> str:
    """The name of a space that nobody has used."""
    return f"space-{uuid.uuid4().hex}"


@pytest.fixture
def gate(address: str) -> Iterator[Gate]:
    """A gate in front of the hub."""
    with gate_before(address) as opened:
        yield opened


@pytest.fixture
def new_device(tmp_path: Path, address: str, space: str) -> Iterator[Callable[..., Device]]:
    """Open another device in the test's space: ``new_device(name, url=…)``."""
    with ExitStack() as stack:

        def make(name: str, url: str = address, **remote: Any) -> Device:
            return stack.enter_context(device_at(tmp_path / f"{name}.db", url, space, **remote))

        yield make


@pytest.fixture
def here(new_device: Callable[..., Device], gate: Gate) -> Device:
    """The device that a test is about: it reaches the hub through the gate."""
    return new_device("here", gate.url)


@pytest.fixture
def there(new_device: Callable[..., Device]) -> Device:
    """Another device in the same space, with a way of its own to the hub."""
    return new_device("there")


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once."""
    monkeypatch.setattr(timers, "BACKOFF_CAP", 0.0)


@pytest.fixture
def long_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait an hour before a retry: longer than any test."""
    monkeypatch.setattr(driver, "backoff", lambda attempt, at_least: 3600.0)
