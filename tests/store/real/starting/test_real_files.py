"""A store is its real file, whatever it is called, and whoever sets it up together with others."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from peewee import TextField
from rig import TESTS
from rig.child import on_a_device
from rig.device import Device, airport_model, quick_store
from rig.gate import PATIENCE, Gate
from rig.search import examples, some

from statesync import BadOptions, HttpRemote, Store, SyncInProgress, SyncOptions, UsageError

TOGETHER = len(some(range(4), 2))


def as_symlink(path: Path) -> Path:
    link = path.with_name("link.db")
    link.symlink_to(path)
    return link


def as_hop_through_folders(path: Path) -> Path:
    (path.parent / "a").mkdir()
    return path.parent / "a" / ".." / "." / path.name


def as_folder_symlink(path: Path) -> Path:
    folder = path.parent / "folder"
    folder.symlink_to(path.parent)
    return folder / path.name


NAMES = [as_symlink, as_hop_through_folders, as_folder_symlink]


@pytest.mark.parametrize("other_name", NAMES)
def test_every_name_of_a_file_is_one_store_with_one_lock(
    here: Device, there: Device, gate: Gate, other_name: Callable[[Path], Path]
) -> None:
    there.add(1)
    there.sync()
    path = Path(here.store.database.database)
    with Store(other_name(path)) as other:
        airport_model(other)
        other.setup()
        held = gate.hold()
        session = here.scope.start_sync()
        held.wait()
        for forbidden in (other.clear, other.repair, other.scope(there.remote).sync):
            with pytest.raises(SyncInProgress):
                forbidden()
        assert other.session(session.id).reason is None, "a live session was taken for an interrupted one"
        held.release()
        session.result(PATIENCE)
        assert other.scope(there.remote).sync().stats.downloaded == 0
    assert here.keys() == ["k00000"]
    assert not (path.parent / "link.db.lock").exists()


def test_a_link_to_a_file_that_is_not_there_yet_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "device.db")
    with quick_store(tmp_path / "link.db") as store:
        airport_model(store)
        store.setup()
    assert {"device.db", "device.db.lock"} <= set(os.listdir(tmp_path / "real"))
    assert sorted(os.listdir(tmp_path)) == ["link.db", "real"]


def test_a_relative_path_stays_the_file_that_it_was_when_the_program_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, space: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with (
        quick_store(Path("device.db")) as store,
        quick_store(tmp_path / "device.db") as same,
        closing(HttpRemote(address, space)) as remote,
    ):
        airport, seen = airport_model(store), airport_model(same)
        store.setup()
        monkeypatch.chdir(tmp_path / "elsewhere")
        airport.create(id="k", name="n")
        same.setup()
        assert seen.get_by_id("k").name == "n"
        assert store.scope(remote).sync().stats.uploaded == 1
    assert os.listdir(tmp_path / "elsewhere") == []


# -- several that start at once ------------------------------------------------------------------------

_SET_UP = """
import sys
from pathlib import Path
from peewee import TextField
from statesync import Store

store = Store(sys.argv[1])

class Note(store.Model):
    text = TextField()

print("ready", flush=True)
sys.stdin.readline()
store.setup()
Note.create(id=sys.argv[2], text="n")
assert store.examine() == []
store.close()
"""


def set_up_at_once(path: Path) -> list[str]:
    """Let several processes set the file up at the same moment; return what went wrong."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _SET_UP, str(path), f"k{number}"],
            env=on_a_device(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=TESTS.parent,
        )
        for number in range(TOGETHER)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    said = [child.communicate(timeout=60)[1] for child in children]
    return [error for child, error in zip(children, said, strict=True) if child.returncode]


@pytest.mark.parametrize("attempt", range(examples(1)))
def test_processes_that_set_up_one_fresh_file_at_once_all_succeed(tmp_path: Path, attempt: int) -> None:
    assert set_up_at_once(tmp_path / "fresh.db") == []
    with closing(sqlite3.connect(tmp_path / "fresh.db")) as file:
        assert file.execute("SELECT count(*) FROM note").fetchone() == (TOGETHER,)
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_processes_that_bring_one_old_file_to_this_format_at_once_all_succeed(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with quick_store(path) as store:
        _note(store)
        store.setup()
    with closing(sqlite3.connect(path)) as file:
        file.executescript(_TO_FORMAT_3)
    assert set_up_at_once(path) == []
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM statesync_log_Note").fetchone() == (TOGETHER,)


def _note(store: Store) -> None:
    class Note(store.Model):  # type: ignore[name-defined, misc]
        text = TextField()


_TO_FORMAT_3 = """
DROP INDEX statesync_change_spared;
ALTER TABLE statesync_change DROP COLUMN spared;
ALTER TABLE statesync_cursor DROP COLUMN unread;
ALTER TABLE statesync_change DROP COLUMN shared;
DROP TABLE statesync_local;
DROP TRIGGER statesync_Note_insert_before;
DROP TRIGGER statesync_Note_insert;
DROP TRIGGER statesync_Note_update;
DROP TRIGGER statesync_Note_delete;
DROP TRIGGER statesync_Note_rekey;
DROP TRIGGER statesync_Note_rekey_before;
DROP TABLE statesync_log_Note;
CREATE TABLE statesync_log (object TEXT NOT NULL, key TEXT NOT NULL, changed INTEGER NOT NULL, image TEXT);
DROP TABLE statesync_tracking;
INSERT INTO statesync_meta VALUES ('tracking', 1);
UPDATE statesync_meta SET value = 3 WHERE key = 'format';
"""


def test_threads_with_stores_of_their_own_set_up_one_fresh_file_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(TOGETHER)

    def set_up() -> None:
        with Store(tmp_path / "fresh.db") as store:
            airport_model(store)
            together.wait()
            store.setup()

    with ThreadPoolExecutor(TOGETHER) as pool:
        for done in [pool.submit(set_up) for _ in range(TOGETHER)]:
            done.result()


# -- what cannot be is said at once --------------------------------------------------------------------


def begin_by_peewee(here: Device) -> Callable[[], object]:
    transaction = here.store.database.atomic()
    transaction.__enter__()
    return lambda: transaction.__exit__(None, None, None)


def begin_by_sql(here: Device) -> Callable[[], object]:
    database: Any = here.store.database
    raw = database.connection()
    raw.execute("BEGIN")
    return lambda: raw.execute("COMMIT")


@pytest.mark.parametrize("begin", [begin_by_peewee, begin_by_sql])
@pytest.mark.parametrize("start", ["sync", "start_sync"])
def test_a_sync_inside_a_transaction_is_refused_at_once_and_leaves_nothing_behind(
    here: Device, begin: Callable[[Device], Callable[[], object]], start: str
) -> None:
    here.add(1)
    end = begin(here)
    with pytest.raises(UsageError, match="inside a transaction"):
        getattr(here.scope, start)()
    end()
    assert here.store.sessions() == []
    assert here.sync().stats.uploaded == 1


@pytest.mark.parametrize("keep", [0, -1, 1.5, "many"])
def test_a_history_that_keeps_no_session_is_refused(tmp_path: Path, keep: int) -> None:
    with pytest.raises(BadOptions, match="keep_sessions"):
        Store(tmp_path / "device.db", keep_sessions=keep)


def test_a_history_of_one_session_keeps_the_last(tmp_path: Path, address: str, space: str) -> None:
    with (
        quick_store(tmp_path / "device.db", keep_sessions=1) as store,
        closing(HttpRemote(address, space)) as remote,
    ):
        airport_model(store)
        store.setup()
        last = [store.scope(remote).sync(SyncOptions()).session for _ in range(3)][-1]
        assert [session.id for session in store.sessions()][-1] == last
