"""The wire under fuzz, both ways: a liar on one side never damages the other."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig.places import memory
from rig.search import examples

from statesync import SyncOptions
from statesync.errors import InternalError, StoreError
from statesync.hub import Refused
from statesync.wire import Page, PushAnswer

from ..checks import check_journal, check_sessions
from ..field import SPACE, Device, device, evidence, local_hub, open_hub
from .lies import LIES, Liar, Lie, changed

OPTIONS = SyncOptions(upload_batch_size=3, download_batch_size=3, max_attempts=1)

fuzz = settings(
    max_examples=examples(12),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)


@contextmanager
def copy_of(morning: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory()) as name:
        yield Path(shutil.copytree(morning, Path(name) / "day"))


@fuzz
@given(lies=LIES, at=st.integers(1, 8))
def test_a_lying_hub_never_damages_a_device(morning: Path, lies: list[Lie], at: int) -> None:
    with (
        copy_of(morning) as folder,
        local_hub(folder / "hub.db") as hub,
        device(folder / "a.db") as a,
        evidence(folder) as found,
    ):
        for one in (Liar(hub, lies, at), hub):
            failure = a.store.scope(one).start_sync(OPTIONS).exception()
            assert not isinstance(failure, InternalError | StoreError), repr(failure)
            check_sound(a, found)


def check_sound(a: Device, found: sqlite3.Connection) -> None:
    assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert found.execute("SELECT is_on FROM statesync_tracking").fetchall() == [(1,)]
    check_sessions(a, {})
    check_journal(found)
    a.store.pending()
    a.rows()


UPSERT = {
    "object": "Note",
    "key": "s1",
    "op": "upsert",
    "base": 3,
    "data": {"text": "x", "number": 1, "done": False},
}
DELETE = {"object": "Note", "key": "s2", "op": "delete", "base": 3}
NEW = {
    "object": "Note",
    "key": "new",
    "op": "upsert",
    "base": 0,
    "data": {"text": "y", "number": None, "done": True},
}
PUSH = {
    "client": "stranger",
    "number": 1,
    "batch": "b",
    "hub": None,
    "epoch": None,
    "changes": [UPSERT, DELETE, NEW],
}
PULL = {
    "client": "stranger",
    "number": 0,
    "hub": None,
    "epoch": None,
    "objects": {"Note": {"cursor": 0, "own": True, "filter": {"text": ["x", None]}}},
    "limit": 3,
}


@fuzz
@given(push=LIES, pull=LIES)
def test_a_lying_device_never_damages_the_hub(morning: Path, push: list[Lie], pull: list[Lie]) -> None:
    with copy_of(morning) as folder:
        hub = open_hub(folder / "hub.db")
        for document, lies, work, kind in ((PUSH, push, hub.push, PushAnswer), (PULL, pull, hub.pull, Page)):
            answer = _ask(work, changed(json.dumps(document).encode(), lies))
            if isinstance(answer, Refused):
                assert 400 <= answer.status < 500, answer
            else:
                msgspec.json.decode(answer, type=kind)
        hub.close()
        check_hub(folder)
        with local_hub(folder / "hub.db") as remote, device(folder / "b.db") as b, evidence(folder) as found:
            failure = b.store.scope(remote).start_sync(OPTIONS).exception()
            assert not isinstance(failure, InternalError), repr(failure)  # a record may not fit its table
            check_sound(b, found)


@fuzz
@given(body=st.binary(max_size=200))
def test_noise_is_refused(morning: Path, body: bytes) -> None:
    with copy_of(morning) as folder:
        hub = open_hub(folder / "hub.db")
        for work in (hub.push, hub.pull):
            answer = _ask(work, body)
            assert isinstance(answer, Refused), "noise was taken for a request"
            assert answer.status in (400, 422)
        hub.close()


def _ask(work: Callable[[str, bytes], bytes], body: bytes) -> bytes | Refused:
    try:
        return work(SPACE, body)
    except Refused as refused:
        return refused


def check_hub(folder: Path) -> None:
    """Every record is under a version of its own up to the head, and is JSON."""
    with closing(sqlite3.connect(folder / "hub.db")) as found:
        assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((head,),) = found.execute("SELECT head FROM space WHERE space = ?", (SPACE,))
        rows = found.execute("SELECT version, deleted, data FROM record WHERE space = ?", (SPACE,)).fetchall()
    versions = [version for version, _, _ in rows]
    assert len(set(versions)) == len(versions)
    assert all(0 < version <= head for version in versions)
    for _, deleted, data in rows:
        assert data is None if deleted else isinstance(json.loads(data), dict)
