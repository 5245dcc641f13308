"""A hub's file is taken away, or replaced, while it serves: nothing is acknowledged that nobody finds."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from statesync.hub import Hub, prepare
from statesync.hub.db.file import checkpoints
from statesync.hub.db.file.held import HeldFile

from .test_servers import pull, push, refusal


@pytest.fixture
def file(tmp_path: Path) -> Path:
    prepare(f"sqlite:///{tmp_path}/hub.db")
    return tmp_path / "hub.db"


@pytest.fixture
def new_hub(file: Path) -> Iterator[Callable[[], Hub]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Hub(f"sqlite:///{file}", without_tokens=True)))


@pytest.fixture
def hub(new_hub: Callable[[], Hub]) -> Hub:
    return new_hub()


def backup(file: Path) -> Path:
    copy = file.with_name("backup.db")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def faults(file: Path) -> list[Any]:
    """Return what SQLite finds wrong in the file as it is found by its path."""
    with closing(sqlite3.connect(file)) as connection:
        return [row for row in connection.execute("PRAGMA integrity_check") if row != ("ok",)]


def beside(file: Path) -> list[str]:
    return sorted(path.name for path in file.parent.iterdir() if path.name.startswith(f"{file.name}-wal"))


def test_a_push_to_a_file_that_is_gone_is_not_acknowledged(hub: Hub, file: Path) -> None:
    push(hub)
    hub.check_ready()
    file.unlink()
    for attempt in (lambda: push(hub, 2), lambda: pull(hub), hub.check_ready):
        status, code, words = refusal(attempt)
        assert (status, code) == (503, "database_unavailable")
        assert "no longer there" in words


def test_a_file_that_was_moved_and_is_back_has_lost_nothing(hub: Hub, file: Path) -> None:
    for number in range(1, 10):
        push(hub, number)
    file.replace(file.with_name("elsewhere.db"))
    refusal(lambda: push(hub, 10))
    file.with_name("elsewhere.db").replace(file)
    hub.check_ready()
    assert push(hub, 10) == 10
    hub.close()
    assert faults(file) == []
    with closing(Hub(hub.url, without_tokens=True)) as again:
        assert pull(again) == 10


def test_a_hub_goes_on_with_a_backup_that_was_moved_into_place_and_replays_no_log_over_it(
    hub: Hub, file: Path
) -> None:
    for number in range(1, 4):
        push(hub, number)
    copy = backup(file)
    for number in range(4, 60):
        push(hub, number, 20_000)
    hub.check_ready()
    copy.replace(file)
    status, code, words = refusal(lambda: push(hub, 60))
    assert (status, code) == (503, "database_unavailable")
    assert "another file" in words
    assert push(hub, 4) == 4
    hub.check_ready()
    assert pull(hub) == 4
    assert [name for name in beside(file) if name != "hub.db-wal"], "the old log was put aside"
    hub.close()
    assert faults(file) == []
    with closing(Hub(hub.url, without_tokens=True)) as again:
        assert pull(again) == 4


def test_readiness_tells_of_a_replaced_file_at_once_and_finds_the_new_one(hub: Hub, file: Path) -> None:
    push(hub)
    copy = backup(file)
    hub.check_ready()
    copy.replace(file)
    assert "another file" in refusal(hub.check_ready)[2]
    hub.check_ready()
    assert pull(hub) == 1


def test_a_hub_that_ends_after_its_file_was_replaced_leaves_no_old_log_beside_the_new_one(
    hub: Hub, file: Path
) -> None:
    copy = backup(file)
    for number in range(1, 60):
        push(hub, number, 20_000)
    copy.replace(file)
    hub.close()
    assert "hub.db-wal" not in beside(file)
    with closing(Hub(hub.url, without_tokens=True)) as again:
        assert push(again) == 1
    assert faults(file) == []


def test_a_write_whose_file_is_replaced_before_its_commit_is_refused_as_not_applied(
    hub: Hub, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(hub)
    copy, dialect = backup(file), hub.database.dialect
    write = dialect.write

    def write_and_lose(*arguments: Any) -> None:
        write(*arguments)
        copy.replace(file)

    with monkeypatch.context() as patch:
        patch.setattr(dialect, "write", write_and_lose)
        assert refusal(lambda: push(hub, 2))[:2] == (503, "database_unavailable")
    assert push(hub, 2) == 2
    hub.close()
    assert faults(file) == []


class LosesItsFile(sqlite3.Connection):
    """A connection whose file goes while a write is being committed."""

    path: Path

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(LosingCursor)


class LosingCursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = (), /) -> LosingCursor:
        super().execute(sql, parameters)
        if sql == "COMMIT":
            os.unlink(LosesItsFile.path)
        return self


def test_a_commit_during_which_the_file_goes_is_one_whose_outcome_is_unknown(hub: Hub, file: Path) -> None:
    push(hub)
    pool: Any = hub.database.pool
    pool.distrust()
    LosesItsFile.path = file
    pool.connect_params["factory"] = LosesItsFile
    assert refusal(lambda: push(hub, 2))[:2] == (503, "outcome_unknown")


def test_a_file_that_is_no_hub_s_is_told_in_words_until_the_hub_s_is_back(hub: Hub, file: Path) -> None:
    push(hub)
    copy, other = backup(file), file.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE note (name TEXT)")
    other.replace(file)
    refusal(lambda: push(hub, 2))
    for attempt in (lambda: push(hub, 2), lambda: pull(hub), hub.check_ready):
        status, code, words = refusal(attempt)
        assert (status, code) == (503, "database_unavailable")
        assert "has no hub" in words
    copy.replace(file)
    assert push(hub, 2) == 2
    hub.check_ready()


def test_two_hubs_of_one_file_both_go_on_with_its_backup(new_hub: Callable[[], Hub], file: Path) -> None:
    first, second = new_hub(), new_hub()
    push(first, 1)
    copy = backup(file)
    push(second, 2)
    copy.replace(file)
    refusal(lambda: push(first, 2))
    assert push(first, 2) == 2
    refusal(lambda: pull(second))
    assert pull(second) == 2
    assert push(second, 3) == 3
    assert pull(first) == 3
    first.close()
    second.close()
    assert faults(file) == []


def test_no_log_is_written_back_into_the_file_that_replaces_its_own(
    hub: Hub, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    asked, look = threading.Event(), HeldFile.is_in_place
    copy = backup(file)
    push(hub)

    def look_after_the_file_was_replaced(held: HeldFile) -> bool:
        if held.path != file or threading.current_thread().name != "statesync-checkpoints":
            return look(held)  # other tests have hubs of their own in this process
        copy.replace(file)
        found = look(held)
        asked.set()
        return found

    monkeypatch.setattr(checkpoints, "write_back", written.append)
    monkeypatch.setattr(HeldFile, "is_in_place", look_after_the_file_was_replaced)
    assert asked.wait(30)
    hub.database.stop_background()
    assert file not in written
