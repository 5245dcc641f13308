"""A page is stored only where it was asked from, and a batch goes up only as it was composed.

Another program, or another version of the same one, may set up the store while a session runs: it waits for
nobody. What it changes is noticed by the session's next transaction, and obeyed by the next session.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from attrs import define, field
from hypothesis import event, given, settings
from hypothesis import strategies as st
from peewee import BlobField, BooleanField, FloatField, IntegerField, TextField
from rig.child import start_child
from rig.device import Device, quick_store, store_at
from rig.gate import PATIENCE, Gate
from rig.search import examples

from statesync import HttpRemote, Phase, Progress, Remote, Store, SyncOptions
from statesync.errors import StoreChanged, SyncInProgress
from statesync.hub import Hub, LocalRemote, prepare
from statesync.wire import Page, Pull, Push, PushAnswer

MANY = 200


def wide_airport(store: Store) -> Any:
    """The model of the program's next version: it has a column more."""

    class Airport(store.Model):  # type: ignore[name-defined, misc]
        name = TextField()
        elevation = IntegerField(null=True)
        latitude = FloatField(null=True)
        is_open = BooleanField(default=True)
        plan = BlobField(null=True)
        runways = IntegerField(null=True)

    return Airport


def add_column(path: Path, table: str, column: str) -> None:
    """Add a column by hand, as a program does before it sets up its next version."""
    with closing(sqlite3.connect(path, timeout=20)) as file, suppress(sqlite3.OperationalError):
        file.execute(f"ALTER TABLE {table} ADD COLUMN {column} INTEGER")


@contextmanager
def wide_device(path: Path, remote: Remote) -> Iterator[Device]:
    """Be the program's next version on the file at ``path``."""
    if path.exists():
        add_column(path, "airport", "runways")
    with store_at(path, wide_airport) as (store, airport):
        yield Device(store, airport, remote)


@pytest.fixture
def newer(tmp_path: Path, address: str, space: str) -> Iterator[Device]:
    """A device with the program's next version, whose records have the new column; they are on the hub."""
    with (
        closing(HttpRemote(address, space)) as remote,
        wide_device(tmp_path / "newer.db", remote) as device,
    ):
        device.add(MANY)
        device.airport.update(runways=device.airport.elevation).execute()
        device.sync()
        yield device


def test_the_next_version_may_set_up_while_a_sync_of_another_process_runs(
    newer: Device, new_device: Callable[..., Device], gate: Gate, space: str, tmp_path: Path
) -> None:
    old = new_device("here")
    old.sync()
    assert len(old.keys()) == MANY
    old.store.close()
    newer.add(1, first=MANY)
    newer.sync()
    path = tmp_path / "here.db"
    held = gate.hold()
    with start_child(path, gate.url, space) as child:
        held.wait()
        with wide_device(path, newer.remote) as updated:
            held.release()
            assert child.wait(PATIENCE) != 0
            last = updated.store.sessions()[-1]
            assert (last.phase, last.reason) == (Phase.FAILED, "store_changed")
            assert "sync again" in str(last.error)
            assert len(updated.keys()) == MANY
            assert updated.store.examine() == []
            updated.sync()
            assert updated.rows() == newer.rows()
            assert updated.field("k00199", "runways") == 199


def test_the_next_version_may_set_up_between_two_pages_of_a_first_sync(
    newer: Device, gate: Gate, space: str, tmp_path: Path
) -> None:
    path = tmp_path / "here.db"
    gate.plan(lambda *request: request[0].ask_hub(*request[1:]))
    held = gate.hold()
    with start_child(path, gate.url, space, download_batch_size=50) as child:
        held.wait()
        with wide_device(path, newer.remote) as updated:
            held.release()
            assert child.wait(PATIENCE) != 0
            assert updated.store.sessions()[-1].reason == "store_changed"
            updated.sync()
            assert updated.rows() == newer.rows()


def test_a_batch_that_was_under_way_is_settled_by_the_version_that_set_up_meanwhile(
    here: Device, there: Device, gate: Gate
) -> None:
    """The hub has taken it: its receipt answers the next session, and nothing goes up twice."""
    here.add(3)
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    path = Path(here.store.database.database)
    with wide_device(path, there.remote) as updated:
        held.release()
        assert isinstance(session.exception(PATIENCE), StoreChanged)
        assert len(updated.store.pending()) == 3
        updated.sync()
        assert updated.store.pending() == []
        assert updated.store.examine() == []
    pushes = [seen.body["batch"] for seen in gate.seen if seen.verb == "push"]
    assert len(pushes) == 1
    there.sync()
    assert there.keys() == ["k00000", "k00001", "k00002"]


def test_setting_up_the_same_version_again_disturbs_no_session(
    here: Device, there: Device, gate: Gate
) -> None:
    there.add(5)
    there.sync()
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(download_batch_size=2))
    held.wait()
    here.store.setup()
    with quick_store(Path(here.store.database.database)) as other:

        class Unrelated(other.Model):  # type: ignore[name-defined, misc]
            text = TextField()

        other.setup()
        Unrelated.create(text="not in the session's scope")
    held.release()
    assert session.result(PATIENCE).stats.downloaded == 5
    assert here.rows() == there.rows()


def test_a_program_that_runs_on_works_with_the_objects_as_another_has_described_them(
    here: Device, there: Device
) -> None:
    """What its triggers log by now, it must not read by what it knew when it began."""
    here.add(2)
    here.sync()
    with wide_device(Path(here.store.database.database), there.remote) as updated:
        updated.airport.update(runways=4, name="wide").where(updated.airport.id == "k00000").execute()
        assert [change.key for change in here.store.pending()] == ["k00000"]
        here.store.mark_for_upload()  # folds, with the new column
        assert here.store.rollback() == 1
        assert updated.field("k00000", "name") == "n0"
        assert updated.field("k00000", "runways") is None
        assert here.store.examine() == []


@pytest.mark.parametrize(
    "moved",
    [
        "UPDATE statesync_cursor SET cursor = 0",
        "UPDATE statesync_cursor SET rereading = 'epoch'",
        'UPDATE statesync_cursor SET filter = \'{"name": ["x"]}\'',
        "UPDATE statesync_space SET client = 'another'",
        "DELETE FROM statesync_cursor",
    ],
)
def test_a_page_is_stored_only_where_it_was_asked_from(
    here: Device, there: Device, gate: Gate, moved: str
) -> None:
    there.add(1)
    there.sync()
    here.sync()
    there.add(1, first=1)
    there.sync()
    held = gate.hold()
    session = here.scope.start_sync()
    held.wait()
    with closing(sqlite3.connect(here.store.database.database)) as file, file:
        file.execute(moved)
    held.release()
    assert isinstance(session.exception(PATIENCE), StoreChanged)
    assert here.keys() == ["k00000"]


# -- in any order, at any point ------------------------------------------------------------------------


def old_note(store: Store) -> Any:
    class Note(store.Model):  # type: ignore[name-defined, misc]
        text = TextField()

    return Note


def new_note(store: Store) -> Any:
    class Note(store.Model):  # type: ignore[name-defined, misc]
        text = TextField()
        extra = IntegerField(null=True)

    return Note


@define(eq=False)
class Meddler:
    """Another program on the file of a session, which does one thing at each of the chosen points.

    A point is a request before the hub has heard it, its answer before the device has, or what follows a
    commit. ``described`` tells whether it has described an object anew.
    """

    path: Path
    remote: Remote
    plan: dict[int, str]
    points: int = 0
    described: bool = False
    wrong: list[BaseException] = field(factory=list)

    def pass_by(self, *_: object) -> None:
        self.points += 1
        wanted = self.plan.get(self.points)
        if wanted is not None:
            try:
                getattr(self, wanted)()
            except BaseException as error:
                self.wrong.append(error)
                raise

    def set_up_new(self) -> None:
        add_column(self.path, "note", "extra")
        self._set_up(new_note)

    def set_up_old(self) -> None:
        self._set_up(old_note)

    def _set_up(self, model: Callable[[Store], Any]) -> None:
        with quick_store(self.path) as store:
            model(store)
            before = self._descriptions()
            store.setup()
            self.described |= self._descriptions() != before

    def track_another(self) -> None:
        with quick_store(self.path) as store:

            class Other(store.Model):  # type: ignore[name-defined, misc]
                text = TextField()

            store.setup()
            Other.create(text="another model's")

    def clear(self) -> None:
        self._refused(lambda store: store.clear(discard_pending=True))

    def reset(self) -> None:
        self._refused(lambda store: store.reset(keep_records=True))

    def repair(self) -> None:
        self._refused(lambda store: store.repair())

    def sync_filtered(self) -> None:
        narrow = SyncOptions(filter={"Note": {"text": "nothing"}})
        self._refused(lambda store: store.scope(self.remote).sync(narrow))

    def _refused(self, act: Callable[[Store], object]) -> None:
        """Do what no session may run beside: it is refused, unless the session has just ended."""
        with Store.open(self.path) as store:
            running = store.sessions()[-1].reason is None
            with suppress(SyncInProgress):
                act(store)
                assert not running or store.sessions()[-1].phase.name in ("DONE", "FAILED")

    def _descriptions(self) -> list[str]:
        with closing(sqlite3.connect(self.path)) as file:
            return file.execute("SELECT description FROM statesync_object WHERE name = 'Note'").fetchall()


@define(eq=False)
class Meddled:
    """A remote at which somebody else comes by, before and after each request."""

    remote: Remote
    meddler: Meddler

    @property
    def space(self) -> str:
        return self.remote.space

    def push(self, request: Push) -> PushAnswer:
        self.meddler.pass_by()
        answer = self.remote.push(request)
        self.meddler.pass_by()
        return answer

    def pull(self, request: Pull) -> Page:
        self.meddler.pass_by()
        page = self.remote.pull(request)
        self.meddler.pass_by()
        return page

    def interrupt(self) -> None:
        self.remote.interrupt()

    def close(self) -> None:
        self.remote.close()


ACTIONS = ["set_up_new", "set_up_old", "track_another", "clear", "reset", "repair", "sync_filtered"]
plans = st.dictionaries(st.integers(1, 24), st.sampled_from(ACTIONS), max_size=3)


@settings(max_examples=examples(7), deadline=None)
@given(plan=plans, waiting=st.integers(0, 4), begun=st.booleans())
def test_whatever_another_program_does_at_any_point_of_a_session_all_agree_after_the_next(
    plan: dict[int, str], waiting: int, begun: bool
) -> None:
    """``begun``: the device has synced before; ``waiting`` changes go up with the session."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        prepare(f"sqlite:///{folder}/hub.db")
        hub = stack.enter_context(closing(Hub(f"sqlite:///{folder}/hub.db", without_tokens=True)))
        remote, options = LocalRemote(hub, "space"), SyncOptions(download_batch_size=2, upload_batch_size=2)
        there, theirs = stack.enter_context(store_at(folder / "there.db", new_note))
        here, ours = stack.enter_context(store_at(folder / "here.db", old_note))
        for number in range(4):
            theirs.create(id=f"t{number}", text="theirs", extra=number)
        there.scope(remote).sync()
        if begun:
            here.scope(remote).sync()
            theirs.create(id="t9", text="later", extra=9)
            there.scope(remote).sync()
        for number in range(waiting):
            ours.create(id=f"h{number}", text="ours")
        meddler = Meddler(folder / "here.db", remote, plan)
        session = here.scope(Meddled(remote, meddler)).start_sync(options, on_progress=_told(meddler))
        error = session.exception(PATIENCE)
        assert meddler.wrong == []
        assert error is None or (isinstance(error, StoreChanged) and meddler.described), error
        event(f"ended by {type(error).__name__}")
        here.close()
        add_column(folder / "here.db", "note", "extra")
        again, now = stack.enter_context(store_at(folder / "here.db", new_note))
        for store in (again, there, again):
            store.scope(remote).sync()
        assert again.pending() == []
        assert again.examine() == []
        wanted = {row[0]: row[1:] for row in theirs.select().tuples()}
        assert wanted.keys() >= {f"t{number}" for number in range(4)} | {f"h{n}" for n in range(waiting)}
        assert {row[0]: row[1:] for row in now.select().tuples()} == wanted


def _told(meddler: Meddler) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.outcome is None:  # after the end the store is anybody's
            meddler.pass_by()

    return tell
