"""Every way by which a hub may have a record that was made here: its delete is told, and never forgotten."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from peewee import TextField
from rig.device import quick_store

from statesync import ConnectionLost, RemoteError, Store, SyncOptions, UsageError, client_wins
from statesync.hub import Hub, LocalRemote, Right, create_token, prepare
from statesync.net.remote import refusal
from statesync.testing import Fault, FaultyRemote
from statesync.wire import Page, Problem, Pull, Push, PushAnswer

from ..sites import Site, note
from .hubs import RestorableHub

NewSite = Callable[..., Site]


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[NewSite]:
    opened: list[Store] = []

    def make(name: str, define_model: Callable[[Store], Any]) -> Site:
        store = quick_store(tmp_path / f"{name}.db")
        opened.append(store)
        model = define_model(store)
        store.setup()
        return Site(store, model, None)  # type: ignore[arg-type]

    yield make
    for store in opened:
        store.close()


def waiting(site: Site) -> list[tuple[str, str]]:
    told = [(change.key, change.operation) for change in site.store.pending()]
    site.fold()
    assert [(change.key, change.operation) for change in site.store.pending()] == told
    return told


def suffer(site: Site, *faults: Fault | None, **options: Any) -> None:
    """Sync; the first requests suffer these faults, and none is tried again."""
    remote = FaultyRemote(site.remote, rates={})
    remote.inject(*faults)
    with suppress(ConnectionLost, RemoteError):
        site.store.scope(remote).sync(SyncOptions(max_attempts=1, **options))


def settle(*sites: Site) -> None:
    for _ in range(3):
        for site in sites:
            site.sync(conflict_policy=client_wins)


# -- a batch that is asked for again ---------------------------------------------------------------


def test_a_doubt_is_let_go_by_the_hub_that_is_asked_for_it_and_has_another_epoch(
    pair: tuple[Site, Site], restorable: RestorableHub
) -> None:
    """The hub had applied it before the backup; the session ends once it has heard of the new epoch."""
    a, b = pair
    a.model.create(id="k", title="1")
    suffer(a, Fault.LOSE_ANSWER)
    restorable.back_up()
    b.model.create(id="more")
    b.sync()
    restorable.restore()
    b.sync()
    suffer(a, None, Fault.REFUSE)
    a.model.delete_by_id("k")
    assert waiting(a) == [("k", "delete")]
    settle(a, b)
    assert a.rows() == b.rows()
    assert "k" not in a.rows()


class _Unwilling:
    """A hub that does not even look at pushes, as one behind a proxy with a limit of its own."""

    def __init__(self, remote: LocalRemote) -> None:
        self._remote = remote
        self.space = remote.space
        self.pushes = 0

    def push(self, request: Push) -> PushAnswer:
        self.pushes += 1
        if self.pushes == 1:
            raise refusal(400, Problem("malformed", "it is not understood"))
        raise refusal(503, Problem("busy", "the hub has too much to do"), retry_after=0.0)

    def pull(self, request: Pull) -> Page:
        return self._remote.pull(request)

    def interrupt(self) -> None:
        self._remote.interrupt()

    def close(self) -> None:
        self._remote.close()


def test_a_doubt_is_let_go_where_nobody_looks_at_its_batch(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.model.create(id="k", title="1")
    suffer(a, Fault.LOSE_ANSWER)
    unwilling = _Unwilling(a.remote)
    with suppress(RemoteError):
        a.store.scope(unwilling).sync(SyncOptions(max_attempts=1))
    assert unwilling.pushes == 2
    a.model.delete_by_id("k")
    assert waiting(a) == [("k", "delete")]
    settle(a, b)
    assert a.rows() == b.rows() == {"first": (None,)}


def test_a_retry_that_is_refused_says_nothing_of_the_attempt_before(
    pair: tuple[Site, Site], restorable: RestorableHub
) -> None:
    a, b = pair
    a.model.create(id="k", title="1")
    remote = FaultyRemote(a.remote, rates={})
    remote.inject(Fault.LOSE_ANSWER, Fault.REFUSE)
    with suppress(RemoteError):
        a.store.scope(remote).sync(SyncOptions(max_attempts=2))
    restorable.back_up()
    b.model.create(id="more")
    b.sync()
    restorable.restore()
    b.sync()
    suffer(a, None, Fault.REFUSE)
    a.model.delete_by_id("k")
    assert waiting(a) == [("k", "delete")]
    settle(a, b)
    assert "k" not in {*a.rows(), *b.rows()}


def test_what_another_device_has_of_a_doubt_is_deleted_though_the_hub_has_lost_it(
    pair: tuple[Site, Site], restorable: RestorableHub
) -> None:
    a, b = pair
    restorable.back_up()
    a.model.create(id="k", title="1")
    suffer(a, Fault.LOSE_ANSWER)
    b.sync()
    restorable.restore()
    suffer(b, None, Fault.REFUSE)
    suffer(a, None, Fault.REFUSE)
    a.model.delete_by_id("k")
    assert waiting(a) == [("k", "delete")]
    for site in (a, b, a, b):
        site.sync()
    assert a.rows() == b.rows() == {"first": (None,)}
    assert a.store.conflicts() == []
    assert [(one.key, one.local, one.remote) for one in b.store.conflicts()] == [("k", {"title": "1"}, None)]


# -- a journal that says nothing of the batch any more -----------------------------------------------


def test_a_batch_that_the_journal_has_lost_may_have_been_applied(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.model.create(id="k", title="1")
    suffer(a, Fault.LOSE_ANSWER)
    with a.other_program() as plain:
        plain.execute("DELETE FROM statesync_batch")
        plain.execute("DELETE FROM statesync_payload")
    a.store.repair()
    a.model.delete_by_id("k")
    assert waiting(a) == [("k", "delete")]
    settle(a, b)
    assert a.rows() == b.rows() == {"first": (None,)}


def test_what_is_offered_anew_because_its_change_is_lost_may_be_there(
    pair: tuple[Site, Site], tmp_path: Path
) -> None:
    a, b = pair
    for number in range(60):
        a.model.create(id=f"k{number:02}", title="." * 90)
    settle(a, b)
    a.model.update(title="edited" * 20).where(a.model.id != "first").execute()
    a.fold()
    a.store.close()
    _spoil_a_page_of(Path(str(a.store.database.database)), "statesync_change")
    a.store.repair()
    offered = [one.key for one in a.store.pending() if one.operation == "insert" and one.base <= 1]
    assert offered
    a.model.delete_by_id(offered[0])
    assert (offered[0], "delete") in waiting(a)
    settle(a, b)
    assert offered[0] not in {*a.rows(), *b.rows()}
    assert a.rows() == b.rows()


def _spoil_a_page_of(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = plain.execute("PRAGMA page_size").fetchone()
        (page,) = plain.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno", (table,)
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


# -- a conflict that may not be seen -----------------------------------------------------------------


def test_a_record_of_somebody_else_that_may_not_be_read_is_at_the_hub(
    new_site: NewSite, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/guarded.db"
    prepare(url)
    guarded = Hub(url)
    a, b = new_site("a", note), new_site("b", note)
    a.remote = LocalRemote(guarded, "space", _token(guarded, *Right))
    b.remote = LocalRemote(guarded, "space", _token(guarded, Right.WRITE))
    a.model.create(id="k", title="a")
    a.sync()
    b.model.create(id="k", title="b")
    b.model.create(id="own")
    b.sync(sync_type="upload_only")
    assert [(one.key, one.parked and one.parked.code) for one in b.store.pending()] == [
        ("k", "conflict_unreadable")
    ]
    b.model.delete_by_id("k")
    assert waiting(b) == [("k", "delete")]
    b.remote = LocalRemote(guarded, "space", _token(guarded, *Right))
    settle(b, a)
    assert a.rows() == b.rows() == {"own": (None,)}
    guarded.close()


def _token(hub: Hub, *rights: Right) -> str:
    return create_token(hub.database, "space", {"*": frozenset(rights)})


# -- a file that was copied -----------------------------------------------------------------------


def test_a_copy_that_was_found_out_does_not_know_what_the_other_one_has_sent(
    pair: tuple[Site, Site], restorable: RestorableHub, new_site: NewSite, tmp_path: Path
) -> None:
    """The copy hears that it is one by its upload, and of no record yet."""
    a, b = pair
    a.model.create(id="k", title="1")
    a.fold()
    a.store.close()
    shutil.copy(tmp_path / "a.db", tmp_path / "copy.db")
    a.sync()
    copy = restorable.take(new_site("copy", note))
    suffer(copy, None, Fault.REFUSE)
    copy.model.delete_by_id("k")
    assert waiting(copy) == [("k", "delete")]
    settle(copy, a, b)
    assert a.rows() == b.rows() == copy.rows() == {"first": (None,)}


# -- a record that only waits here -------------------------------------------------------------------


def strict(store: Store) -> Any:
    class Note(store.Model):  # type: ignore[name-defined, misc]
        title = TextField(null=True, unique=True)

    return Note


@pytest.mark.parametrize("data", [{"title": ["no", "text"]}, {"title": {"no": "text"}}])
@pytest.mark.parametrize("is_made_first", [True, False])
def test_a_record_in_quarantine_is_at_the_hub(
    pair: tuple[Site, Site], data: dict[str, object], is_made_first: bool
) -> None:
    a, b = pair
    if is_made_first:
        b.model.create(id="k", title="b")
    _push(a, "k", data)
    b.sync(sync_type="download_only")
    assert [one.key for one in b.store.quarantine()] == ["k"]
    if not is_made_first:
        b.model.create(id="k", title="b")
        b.fold()
    b.model.delete_by_id("k")
    assert waiting(b) == [("k", "delete")]


def test_a_record_behind_a_unique_value_is_at_the_hub(new_site: NewSite, restorable: RestorableHub) -> None:
    a, b = restorable.take(new_site("a", note)), restorable.take(new_site("b", strict))
    b.model.create(id="own", title="1")
    a.model.create(id="k", title="1")
    a.sync()
    b.sync(sync_type="download_only")
    assert [one.key for one in b.store.quarantine()] == ["k"]
    b.model.create(id="k", title="2")
    b.fold()
    b.model.delete_by_id("k")
    assert waiting(b) == [("own", "insert"), ("k", "delete")]
    settle(b, a)
    assert a.rows() == b.rows() == {"own": ("1",)}


def _push(site: Site, key: str, data: dict[str, object]) -> None:
    """Be a client that knows nothing of tables."""
    change = {"object": "Note", "key": key, "op": "upsert", "base": 0, "data": data}
    changes = msgspec.Raw(msgspec.json.encode([change]))
    site.remote.push(Push("another client", 1, "batch", None, None, changes))


# -- starting over -----------------------------------------------------------------------------------


def test_a_delete_that_waits_is_told_to_the_same_hub_after_a_reset(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.model.delete_by_id("first")
    a.store.reset(keep_records=True)
    assert waiting(a) == [("first", "delete")]
    a.sync()
    b.sync()
    assert a.rows() == b.rows() == {}
    assert a.store.conflicts() == []


def test_a_delete_that_waits_is_nothing_to_another_hub_after_a_reset(
    pair: tuple[Site, Site], restorable: RestorableHub
) -> None:
    a, b = pair
    a.model.create(id="kept")
    a.model.delete_by_id("first")
    a.store.reset(keep_records=True)
    restorable.replace_by_another()
    a.sync()
    assert waiting(a) == []
    b.store.reset()
    b.sync()
    assert a.rows() == b.rows() == {"kept": (None,)}


# -- taking a change back ------------------------------------------------------------------------------


def test_what_was_offered_again_is_not_taken_back_by_a_delete(
    pair: tuple[Site, Site], restorable: RestorableHub
) -> None:
    """It is no change of the user's, and this device may be the only one that has the record."""
    a, b = pair
    restorable.back_up()
    a.model.create(id="k", title="1")
    a.sync()
    restorable.restore()
    a.sync(sync_type="download_only")
    assert waiting(a) == [("k", "insert")]
    with pytest.raises(UsageError, match="sync first"):
        a.store.rollback()
    assert a.rows() == {"first": (None,), "k": ("1",)}
    settle(a, b)
    assert a.rows() == b.rows() == {"first": (None,), "k": ("1",)}


def test_what_a_hub_may_have_had_is_not_taken_back(
    pair: tuple[Site, Site], restorable: RestorableHub
) -> None:
    a, b = pair
    a.model.create(id="k", title="1")
    suffer(a, Fault.LOSE_ANSWER)
    restorable.back_up()
    b.model.create(id="more")
    b.sync()
    restorable.restore()
    b.sync()
    suffer(a, None, Fault.REFUSE)
    with pytest.raises(UsageError, match="sync first"):
        a.store.rollback()
    settle(a, b)
    assert a.rows() == b.rows()
    assert "k" in a.rows()


def test_after_a_reset_no_record_is_deleted_by_taking_its_offer_back(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.store.reset(keep_records=True)
    with pytest.raises(UsageError, match="sync first"):
        a.store.rollback()
    assert a.rows() == {"first": (None,)}


def test_what_met_a_conflict_that_nobody_could_decide_is_taken_back(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.model.create(id="k", title="a")
    a.sync()
    b.model.create(id="k", title="b")

    def undecided(*sides: object) -> Any:
        raise ZeroDivisionError

    b.sync(conflict_policy=undecided)
    assert b.store.rollback() == 1
    b.sync()
    assert a.rows() == b.rows() == {"first": (None,), "k": ("a",)}
