"""Working ahead: the next page is asked for while one is stored, the next upload composed while one is sent.

Source: section 4 of the design, and K1.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from rig.device import Device
from rig.gate import PATIENCE, Gate, pass_on, refuse, wait_for

from statesync import Phase, Session, SyncCancelled, SyncOptions
from statesync.protocol.messages import ComposeAhead
from statesync.store.upload.uploads import Uploads


@pytest.fixture
def waiting(there: Device) -> list[str]:
    """The keys of 30 records that wait on the hub."""
    keys = there.add(30)
    there.sync()
    return keys


@contextmanager
def storing_held_up(device: Device) -> Iterator[None]:
    """Keep the session from storing anything, as another program does that writes for a long time."""
    with closing(sqlite3.connect(device.store.database.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def start(device: Device) -> Session:
    return device.scope.start_sync(SyncOptions(download_batch_size=10))


def positions(gate: Gate) -> list[str]:
    """The keys that the pulls so far asked from."""
    return [seen.body["objects"]["Airport"]["scan"].get("after", "") for seen in gate.seen]


def test_the_next_page_is_asked_for_before_the_page_that_came_is_stored(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    first = gate.hold()
    session = start(here)
    first.wait()
    with storing_held_up(here):
        first.release()
        assert wait_for(lambda: len(gate.seen) == 2)
        assert here.rows() == {}
    assert session.result(PATIENCE).phase is Phase.DONE
    assert sorted(here.rows()) == waiting
    assert positions(gate) == ["", waiting[9], waiting[19]], "no page is asked for twice"


def test_k1_a_page_read_ahead_is_dropped_by_a_cancel_and_its_batch_is_never_opened(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    first, second = gate.hold(), gate.hold()
    session = start(here)
    first.wait()
    with storing_held_up(here):
        first.release()
        second.wait()
        session.cancel()
    assert isinstance(session.exception(PATIENCE), SyncCancelled)
    assert sorted(here.rows()) == waiting[:10]
    assert [batch.records for batch in here.store.session(session.id).batches] == [10]
    second.release()
    here.sync()
    assert positions(gate) == ["", waiting[9], waiting[9]], (
        "the next session goes on from the last committed batch"
    )


@pytest.mark.usefixtures("no_backoff")
def test_a_page_that_could_not_be_read_ahead_is_tried_again_by_its_own_batch(
    here: Device, gate: Gate, waiting: list[str]
) -> None:
    gate.plan(pass_on, refuse(503, "busy"))
    session = start(here)
    assert session.result(PATIENCE).phase is Phase.DONE
    assert sorted(here.rows()) == waiting
    assert [batch.attempts for batch in here.store.session(session.id).batches] == [1, 2, 1]


def test_where_no_size_is_given_pages_grow_by_what_fits_and_none_is_asked_for_twice(
    here: Device, there: Device, gate: Gate
) -> None:
    there.add(3500)
    there.sync(upload_batch_size=3500)
    gate.seen.clear()
    assert here.scope.sync().phase is Phase.DONE
    sizes = [seen.body["limit"] for seen in gate.seen]
    assert sizes[:2] == [500, 500], "the second one is asked for before anything is stored"
    assert all(500 <= size <= 5000 for size in sizes)
    assert max(sizes) > 500
    assert positions(gate) == sorted(set(positions(gate)))
    assert len(here.rows()) == 3500


def test_pages_do_not_grow_where_storing_one_takes_long(here: Device, there: Device, gate: Gate) -> None:
    there.add(1200)
    there.sync(upload_batch_size=1200)
    gate.seen.clear()
    first = gate.hold()
    session = here.scope.start_sync()
    first.wait()
    with storing_held_up(here):
        first.release()
        assert wait_for(lambda: len(gate.seen) == 2)
        time.sleep(0.3)  # so long at least the first page takes to be stored
    assert session.result(PATIENCE).phase is Phase.DONE
    assert [seen.body["limit"] for seen in gate.seen] == [500, 500, 500]


def test_pages_do_not_grow_where_records_are_large(here: Device, there: Device, gate: Gate) -> None:
    keys = there.add(1200)
    there.airport.update(name="x" * 6000).execute()
    there.sync(upload_batch_size=1200)
    gate.seen.clear()
    assert here.scope.sync().phase is Phase.DONE
    assert [seen.body["limit"] for seen in gate.seen] == [500, 500, 500]
    assert sorted(here.rows()) == keys


# -- composing ahead -------------------------------------------------------------------------------


def after_composing_ahead(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch, write: Callable[[], object]
) -> Session:
    """Upload five records, two a batch; write when the second batch is composed, and the first under way."""
    composed = threading.Event()
    real = Uploads.compose_ahead

    def compose_ahead(uploads: Uploads, wanted: ComposeAhead) -> None:
        real(uploads, wanted)
        composed.set()

    monkeypatch.setattr(Uploads, "compose_ahead", compose_ahead)
    here.add(5)
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(upload_batch_size=2))
    held.wait()
    assert composed.wait(PATIENCE)
    write()
    held.release()
    assert session.result(PATIENCE).phase is Phase.DONE
    return session


def sent(gate: Gate) -> list[list[tuple[str, object]]]:
    """The keys and names in each push."""
    pushes = [seen.body["changes"] for seen in gate.seen if seen.verb == "push"]
    return [[(change["key"], change.get("data", {}).get("name")) for change in push] for push in pushes]


def test_a_batch_composed_ahead_goes_up_as_it_is(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_composing_ahead(here, gate, monkeypatch, lambda: None)
    assert sent(gate) == [
        [("k00000", "n0"), ("k00001", "n1")],
        [("k00002", "n2"), ("k00003", "n3")],
        [("k00004", "n4")],
    ]
    assert here.operations() == {}


def test_an_edit_after_a_batch_was_composed_ahead_goes_up_with_it(
    here: Device, there: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_composing_ahead(here, gate, monkeypatch, lambda: here.edit("k00003", name="later"))
    there.sync()
    assert sent(gate)[1] == [("k00002", "n2"), ("k00003", "later")]
    assert there.field("k00003", "name") == "later"
    assert here.operations() == {}


def test_what_is_taken_back_after_a_batch_was_composed_ahead_stays_here(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_back() -> None:
        here.store.rollback(here.airport.get_by_id("k00002"))
        here.store.defer(here.airport.get_by_id("k00003"))

    after_composing_ahead(here, gate, monkeypatch, take_back)
    assert sent(gate) == [[("k00000", "n0"), ("k00001", "n1")], [("k00004", "n4")]]
    assert here.operations() == {"k00003": "insert"}


def test_an_edit_just_before_a_batch_is_composed_ahead_goes_up_once(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the records that were read, but the change that went up is only known once it is folded."""
    real, edited = Uploads.compose_ahead, threading.Event()

    def compose_ahead(uploads: Uploads, wanted: ComposeAhead) -> None:
        if not edited.is_set():
            editing = threading.Thread(target=here.edit, args=("k00003",), kwargs={"name": "later"})
            editing.start()
            editing.join()
            edited.set()
        real(uploads, wanted)

    monkeypatch.setattr(Uploads, "compose_ahead", compose_ahead)
    here.add(5)
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(upload_batch_size=2))
    held.wait()
    assert edited.wait(PATIENCE)
    held.release()
    assert session.result(PATIENCE).stats.uploaded == 5
    assert sent(gate)[1] == [("k00002", "n2"), ("k00003", "later")]
    assert here.operations() == {}
