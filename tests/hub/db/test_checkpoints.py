"""The log of a hub on SQLite is written back beside the pushes; only a close waits for it."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

import pytest

from statesync.hub import Hub, prepare
from statesync.hub.db.file import checkpoints, pool
from statesync.sqlite.wal import write_back

from ..served import wait_for

PATIENCE = 30.0
PAGES_OF_OLD = 8000
"""The log's length in pages at which SQLite, told so, would write it back within a commit."""
PAGE = 4096


class Keeper:
    """Stands for ``write_back``: waits for ``go`` before each call of the real one."""

    def __init__(self) -> None:
        self.go, self.begun, self.ended = threading.Event(), threading.Event(), threading.Event()

    def write_back(self, path: Path) -> None:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        write_back(path)
        self.ended.set()


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    keeper = Keeper()
    monkeypatch.setattr(checkpoints, "write_back", keeper.write_back)
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    yield keeper
    keeper.go.set()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    prepare(f"sqlite:///{tmp_path}/hub.db")
    return tmp_path / "hub.db"


def open_hub(file: Path) -> Hub:
    return Hub(f"sqlite:///{file}", without_tokens=True)


def fill(hub: Hub, megabytes: int) -> None:
    """Push records of a megabyte each, one a push."""
    client = str(uuid.uuid4())
    for number in range(1, megabytes + 1):
        change = {
            "object": "Plan",
            "key": str(number),
            "op": "upsert",
            "base": 0,
            "data": {"x": "x" * 1_000_000},
        }
        body = {"client": client, "number": number, "batch": str(uuid.uuid4()), "changes": [change]}
        hub.push("acme", json.dumps({**body, "hub": None, "epoch": None}).encode())


@pytest.fixture
def new_threads() -> Callable[[], list[str]]:
    """Tell which threads this test has brought into being."""
    before = set(threading.enumerate())
    return lambda: [thread.name for thread in set(threading.enumerate()) - before]


def test_no_push_waits_until_the_log_is_written_back(file: Path, keeper: Keeper) -> None:
    hub, before = open_hub(file), file.stat().st_size
    fill(hub, 40)  # all of them are answered while nothing is written back
    assert file.with_name("hub.db-wal").stat().st_size > PAGES_OF_OLD * PAGE
    assert file.stat().st_size == before
    keeper.go.set()
    assert keeper.ended.wait(PATIENCE)
    hub.close()
    assert file.stat().st_size > PAGES_OF_OLD * PAGE


@pytest.mark.parametrize(
    ("pages", "megabytes"), [(3_200, 15), pytest.param(32_000, 140, marks=pytest.mark.exhaustive)]
)
def test_a_log_that_is_not_written_back_in_time_is_not_left_to_grow(
    file: Path, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, pages: int, megabytes: int
) -> None:
    assert pool._PRAGMAS["wal_autocheckpoint"] == 32_000
    monkeypatch.setitem(pool._PRAGMAS, "wal_autocheckpoint", pages)
    hub = open_hub(file)
    fill(hub, megabytes)
    assert file.with_name("hub.db-wal").stat().st_size < (megabytes - 1) * 1_000_000
    keeper.go.set()
    hub.close()


def test_a_close_waits_for_the_writing_back_and_leaves_nothing_behind(
    file: Path, keeper: Keeper, new_threads: Callable[[], list[str]]
) -> None:
    hub = open_hub(file)
    fill(hub, 1)
    assert keeper.begun.wait(PATIENCE)
    closing = threading.Thread(target=hub.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    keeper.go.set()
    closing.join(PATIENCE)
    assert keeper.ended.is_set()
    assert new_threads() == []
    assert not file.with_name("hub.db-wal").exists()


def test_a_hub_that_only_reads_has_no_thread_for_it(file: Path, new_threads: Callable[[], list[str]]) -> None:
    hub = open_hub(file)
    with hub.database.reading():
        hub.database.run("SELECT count(*) FROM record").fetchone()
    assert new_threads() == []
    fill(hub, 1)
    assert new_threads() == ["statesync-checkpoints"]
    hub.close()


def test_a_write_is_stored_where_no_thread_can_be_started_and_the_next_one_follows(
    file: Path, new_threads: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process has too many threads for a moment; nothing but the log's length depends on this one."""
    start = threading.Thread.start

    def crowded(thread: threading.Thread) -> None:
        if thread.name == "statesync-checkpoints":
            raise RuntimeError("can't start new thread")
        start(thread)

    hub = open_hub(file)
    monkeypatch.setattr(threading.Thread, "start", crowded)
    fill(hub, 2)
    monkeypatch.undo()
    fill(hub, 1)
    assert new_threads() == ["statesync-checkpoints"]
    hub.close()


class ClosedMeanwhile(SimpleQueue[None]):
    """What is wanted, before whose first clearing somebody closes."""

    def __init__(self, close: Callable[[], None]) -> None:
        super().__init__()
        self.closing = threading.Thread(target=close, daemon=True)

    def empty(self) -> bool:
        is_cleared = threading.current_thread().name == "statesync-checkpoints"
        if is_cleared and self.closing.ident is None:
            self.closing.start()
            wait_for(lambda: self.qsize() > 0, "it is not closed")
        return super().empty()


def test_a_hub_that_is_closed_in_any_moment_of_a_writing_back_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    one = checkpoints.Checkpoints(tmp_path / "hub.db", lambda: False)
    wanted = one._wanted = ClosedMeanwhile(one.close)
    one.note_write()
    assert one._thread is not None
    one._thread.join(PATIENCE)
    wanted.closing.join(PATIENCE)
    assert [each.is_alive() for each in (one._thread, wanted.closing)] == [False, False]


def test_a_hub_whose_process_changes_its_folder_keeps_to_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        prepare(f"sqlite:///{tmp_path / name / 'hub.db'}")
    monkeypatch.setattr(checkpoints, "PAUSE", 0.01)
    monkeypatch.chdir(tmp_path / "here")
    mine, others = tmp_path / "here" / "hub.db", tmp_path / "there" / "hub.db"
    before, not_mine = mine.stat().st_size, others.read_bytes()
    with closing(Hub("sqlite:///hub.db", without_tokens=True)) as hub:
        monkeypatch.chdir(tmp_path / "there")
        hub.check_ready()
        fill(hub, 1)
        wait_for(lambda: mine.stat().st_size > before, "the log is not written back")
    assert others.read_bytes() == not_mine
