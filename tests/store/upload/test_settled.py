"""What the hub has taken of an upload stands in the outbox for a while, and counts for nothing there."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rig.device import Device
from rig.gate import PATIENCE, Gate, Hold, pass_on, rejecting
from rig.walls import Wall

from statesync import AllRejected, Phase, Progress, Session, StoreTooNew, SyncOptions
from statesync.store.outbox import lookup, parking, preview, queue, settled, shared, signs, soundness
from statesync.store.outbox.fold import fold
from statesync.store.outbox.queue import Run, Window
from statesync.store.tracking import registry

BATCH = 2
FIRST = "k00000"
"""It is in the first batch."""


def place(here: Device) -> Path:
    return Path(here.store.database.database)


@contextmanager
def amid_an_upload(here: Device, gate: Gate, *, taken: int, **options: Any) -> Iterator[tuple[Session, Hold]]:
    """Hold an upload once the hub has taken so many batches, and let it go on after the block."""
    gate.plan(*[pass_on] * taken)
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(upload_batch_size=BATCH, **options))
    held.wait()
    try:
        yield session, held
    finally:
        held.release()
        session.wait(PATIENCE)


def range_of(path: Path) -> tuple[int, int] | None:
    """Return from which position to which one everything is settled."""
    with closing(sqlite3.connect(path)) as plain:
        found: tuple[int, int] | None = plain.execute("SELECT first, last FROM statesync_settled").fetchone()
        return found


def rows_of_outbox(path: Path) -> int:
    with closing(sqlite3.connect(path)) as plain:
        return int(plain.execute("SELECT count(*) FROM statesync_change").fetchone()[0])


def often_pushed(gate: Gate) -> Counter[str]:
    """Return how often each record went up."""
    batches = [seen.body["changes"] for seen in gate.seen if seen.verb == "push"]
    return Counter(change["key"] for batch in batches for change in batch)


def copied(here: Device, name: str) -> Path:
    """Return a copy of the file as it stands."""
    copy = place(here).with_name(name)
    with closing(sqlite3.connect(place(here))) as whole, closing(sqlite3.connect(copy)) as left:
        whole.backup(left)
    return copy


# -- readers -----------------------------------------------------------------------------------------

_RUN = Run(1, 2, "Airport", 1, 0, 0, 0)
_ALL = Window(0, 99, 99, 0.0, skip_failed=False)

READERS: dict[str, Callable[[sqlite3.Connection, Any], object]] = {
    "changes_of_object": lambda c, _: lookup.changes_of_object(c, "Airport"),
    "changes_of_record": lambda c, _: lookup.changes_of_record(c, "Airport", FIRST),
    "version_of": lambda c, _: lookup.version_of(c, "Airport", FIRST),
    "pending_among": lambda c, _: lookup.pending_among(c, "Airport", [FIRST, "k00009"]),
    "records_before": lambda c, _: lookup.records_before(c, "Airport", "", None),
    "spared_columns": lambda c, _: lookup.spared_columns(c, "Airport"),
    "PENDING_KEYS": lambda c, _: c.execute(lookup.PENDING_KEYS, {"object": "Airport"}).fetchall(),
    "last_position": lambda c, _: queue.last_position(c),
    "any_waiting": lambda c, objects: c.execute(f"SELECT {queue.any_waiting(objects)}").fetchall(),
    "has_waiting": lambda c, _: queue.has_waiting(c, after=0, up_to=2),
    "has_more": lambda c, objects: queue.has_more(c, objects, after=0, up_to=2, now=0.0),
    "count_waiting": lambda c, objects: queue.count_waiting(c, objects, 0.0),
    "mark_of_ready": lambda c, objects: queue.mark_of_ready(c, objects, 0.0),
    "count_by_why": lambda c, objects: queue.count_by_why(c, objects),
    "count_pending": lambda c, _: queue.count_pending(c, "Airport"),
    "waiting_in": lambda c, objects: queue.waiting_in(c, objects, _ALL),
    "marks_in": lambda c, objects: queue.marks_in(c, objects, _ALL),
    "run_in": lambda c, objects: queue.run_in(c, objects, _ALL),
    "records_of_run": lambda c, objects: queue.records_of_run(c, objects["Airport"], _RUN),
    "is_still_there": lambda c, objects: queue.is_still_there(c, objects, Window(0, 2, 2, 0.0, False), _RUN),
    "parked": lambda c, _: (parking.counts(c), parking.count(c, "Airport")),
    "pending": preview.pending,
    "has_pending": preview.has_pending,
    "pending_of_record": lambda c, objects: preview.pending_of_record(c, objects["Airport"], FIRST),
    "sign": lambda c, _: signs.of_outbox(c),
    "counts": lambda c, _: soundness.counts(c),
    "count_stray": lambda c, _: soundness.count_stray(c, []),
    "count_contradictions": lambda c, objects: soundness.count_contradictions(c, objects["Airport"]),
    "count_missing": lambda c, objects: soundness.count_missing(c, objects["Airport"]),
    "are_mere_offers": lambda c, _: shared.are_mere_offers(c, "batch"),
}


@pytest.mark.parametrize("waits", [True, False], ids=["others wait", "nothing waits"])
def test_who_looks_cannot_tell_what_is_settled_from_what_is_gone(
    here: Device, gate: Gate, *, waits: bool
) -> None:
    here.add(10)
    with amid_an_upload(here, gate, taken=3):
        settled_ones, gone = copied(here, "settled.db"), copied(here, "gone.db")
    assert range_of(settled_ones) == (1, 6)
    with closing(sqlite3.connect(settled_ones)) as one, closing(sqlite3.connect(gone)) as other:
        with one, other:
            other.execute("DELETE FROM statesync_change WHERE position <= 6")
            other.execute("DELETE FROM statesync_settled")
            for each in (one, other):
                each.execute("UPDATE airport SET name = 'edited' WHERE id IN (?, 'k00009')", (FIRST,))
                if not waits:
                    each.execute("DELETE FROM statesync_change WHERE position > 6")
                    each.execute("DELETE FROM statesync_log_Airport")
        objects = registry.load(one)
        for name, look in READERS.items():
            assert look(one, objects) == look(other, objects), name
        assert preview.has_pending(one, objects) is waits


def test_amid_an_upload_only_what_the_hub_has_not_taken_waits(here: Device, gate: Gate) -> None:
    keys = here.add(10)
    with amid_an_upload(here, gate, taken=3) as (session, held):
        assert range_of(place(here)) == (1, 6)
        assert rows_of_outbox(place(here)) == 10, "else nothing is tested here"
        assert list(here.operations()) == keys[6:]
        assert here.store.examine() == []
        assert here.store.wait_for(here.airport.get_by_id(FIRST), timeout=0).outcome == "accepted"
        with pytest.raises(TimeoutError):
            here.store.wait_for(here.airport.get_by_id("k00006"), timeout=0)
        held.release()
        session.result(PATIENCE)
    assert here.operations() == {}
    assert not here.store.has_pending()


# -- writers -----------------------------------------------------------------------------------------

Edit = Callable[[Device], object]


def _by_plain_sqlite(here: Device) -> None:
    with closing(sqlite3.connect(place(here))) as plain, plain:
        plain.execute("UPDATE airport SET name = 'edited' WHERE id = ?", (FIRST,))


def _anew(here: Device) -> None:
    here.delete(FIRST)
    here.airport.create(id=FIRST, name="edited")


EDITS: dict[str, Edit] = {
    "edited": lambda here: here.edit(FIRST, name="edited"),
    "edited by another program": _by_plain_sqlite,
    "deleted": lambda here: here.delete(FIRST),
    "deleted and made anew": _anew,
}

MEANWHILE: dict[str, Edit] = {
    "nothing": lambda _: None,
    "a fold": lambda here: here.scope.defer(here.airport.get_by_id("k00009")),
    "a rollback": lambda here: here.store.rollback(here.airport.get_by_id("k00009")),
}


@pytest.mark.crossed
@pytest.mark.parametrize("meanwhile", MEANWHILE.values(), ids=MEANWHILE)
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_right_after_its_upload_was_taken_goes_up_by_itself(
    here: Device, there: Device, gate: Gate, edit: Edit, meanwhile: Edit
) -> None:
    here.add(10)
    with amid_an_upload(here, gate, taken=3) as (session, held):
        assert range_of(place(here)) == (1, 6)
        edit(here)
        before = here.operations()
        assert FIRST in before
        meanwhile(here)
        assert here.operations().get(FIRST) == before[FIRST]
        held.release()
        session.result(PATIENCE)
    assert list(here.operations()) in ([FIRST], [FIRST, "k00009"], ["k00009", FIRST])
    if "k00009" in here.operations():
        here.scope.mark_for_upload(here.airport.get_by_id("k00009"))
    here.sync()
    there.sync()
    assert here.operations() == {}
    assert there.rows() == here.rows()
    assert (FIRST in there.rows()) == (edit is not EDITS["deleted"])
    if FIRST in there.rows():
        assert there.field(FIRST, "name") == "edited"
    often = often_pushed(gate)
    assert often.pop(FIRST) == 2
    assert set(often.values()) == {1}
    assert here.store.conflicts() == []


def test_what_waits_is_what_a_fold_makes_of_it_amid_an_upload_too(here: Device, gate: Gate) -> None:
    here.add(10)
    with amid_an_upload(here, gate, taken=3):
        here.edit(FIRST, name="edited")
        here.delete("k00001")
        here.edit("k00009", name="edited")
        said, copy = here.store.pending(), copied(here, "copy.db")
    with closing(sqlite3.connect(copy)) as plain:
        objects = registry.load(plain)
        fold(plain, objects)
        assert preview.pending(plain, objects) == said
        assert plain.execute("SELECT count(*) FROM statesync_change").fetchone() == (len(said),)
    assert [(one.key, one.operation) for one in said] == [
        *[(f"k0000{number}", "insert") for number in (6, 7, 8, 9)],
        (FIRST, "update"),
        ("k00001", "delete"),
    ]


def test_a_change_that_is_not_as_it_went_up_is_not_settled(here: Device, there: Device, gate: Gate) -> None:
    """A program with an older version of the library, which has the file open, folds an edit into it."""
    here.add(10)
    with amid_an_upload(here, gate, taken=3) as (session, held):
        with closing(sqlite3.connect(place(here))) as plain, plain:
            plain.execute("UPDATE airport SET name = 'edited' WHERE id = ?", (FIRST,))
            plain.execute("DELETE FROM statesync_log_Airport")
            plain.execute("UPDATE statesync_change SET revision = 2 WHERE key = ?", (FIRST,))
        assert FIRST in here.operations()
        held.release()
        session.result(PATIENCE)
    assert here.operations() == {FIRST: "insert"}
    here.sync(conflict_policy="client_wins")
    there.sync()
    assert there.field(FIRST, "name") == "edited"
    assert here.operations() == {}


# -- ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["done", "cancelled", "rejected", "with a download"])
def test_nothing_that_is_settled_outlives_its_session(here: Device, gate: Gate, way: str) -> None:
    keys = here.add(10)
    gate.plan(*[pass_on] * 3)
    held = gate.hold(rejecting() if way == "rejected" else pass_on)
    kind = "full" if way == "with a download" else "upload_only"
    session = here.scope.start_sync(SyncOptions(upload_batch_size=BATCH, sync_type=kind))
    held.wait()
    assert range_of(place(here)) == (1, 6)
    if way == "cancelled":
        session.cancel()
    held.release()
    session.wait(PATIENCE)
    expected = {"cancelled": keys[8:], "rejected": keys[6:8]}.get(way, [])
    assert session.phase is (Phase.CANCELLED if way == "cancelled" else Phase.DONE)
    assert range_of(place(here)) is None
    assert list(here.operations()) == expected
    assert rows_of_outbox(place(here)) == len(expected)


def test_a_session_whose_thread_does_not_come_back_leaves_nothing_settled(here: Device) -> None:
    keys, wall = here.add(10), Wall()
    begun = set()

    def hang_in_the_fourth(progress: Progress) -> None:
        begun.add(progress.batch)
        if len(begun) == 4:
            wall()

    session = here.scope.start_sync(SyncOptions(upload_batch_size=BATCH), on_progress=hang_in_the_fourth)
    assert wall.entered.wait(PATIENCE)
    assert range_of(place(here)) == (1, 4)
    session.cancel(grace=0)
    session.wait(PATIENCE)
    assert session.phase is Phase.FAILED  # its batch may have reached the hub
    assert range_of(place(here)) is None
    assert list(here.operations()) == keys[4:]
    assert rows_of_outbox(place(here)) == 6
    wall.remove()
    assert list(here.operations()) == keys[4:]


@pytest.mark.parametrize("is_edited", [False, True])
def test_a_device_that_was_killed_amid_an_upload_sends_nothing_again_that_was_taken(
    here: Device,
    there: Device,
    gate: Gate,
    new_device: Callable[..., Device],
    *,
    is_edited: bool,
) -> None:
    keys = here.add(10)
    gate.plan(*[pass_on] * 3)
    held = gate.hold(before_hub=True)
    session = here.scope.start_sync(SyncOptions(upload_batch_size=BATCH, max_attempts=1))
    held.wait()
    copy = copied(here, "killed.db")
    if is_edited:
        with closing(sqlite3.connect(copy)) as plain, plain:
            plain.execute("UPDATE airport SET name = 'edited' WHERE id = ?", (FIRST,))
    held.then = lambda *_: None  # the hub never hears of what this process would still send
    session.cancel()
    held.release()
    session.wait(PATIENCE)
    here.store.close()
    assert range_of(copy) == (1, 6)
    again = new_device("killed", gate.url)
    assert again.store.examine() == []
    assert (range_of(copy), rows_of_outbox(copy)) == (None, 4)
    assert list(again.operations()) == keys[6:] + [FIRST] * is_edited
    again.sync(upload_batch_size=BATCH)
    again.sync()
    assert range_of(copy) is None
    assert (again.operations(), rows_of_outbox(copy)) == ({}, 0)
    there.sync()
    assert there.rows() == again.rows()
    assert (there.field(FIRST, "name") == "edited") == is_edited
    often = often_pushed(gate)
    assert [often[key] for key in keys[1:6]] == [1] * 5
    assert often[FIRST] == 1 + is_edited


# -- bounds ------------------------------------------------------------------------------------------


def test_no_more_is_settled_than_one_transaction_may_take_out(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "MOST", 4)
    here.add(14)
    ranges = []
    holds = [gate.hold() for _ in range(7)]
    session = here.scope.start_sync(SyncOptions(upload_batch_size=BATCH))
    for held in holds:
        held.wait()
        ranges.append((range_of(place(here)), rows_of_outbox(place(here))))
        held.release()
    session.result(PATIENCE)
    assert ranges == [
        (None, 14),
        ((1, 2), 14),
        ((1, 4), 14),
        (None, 8),
        ((7, 8), 8),
        ((7, 10), 8),
        (None, 2),
    ]
    assert here.operations() == {}


def test_nothing_is_settled_before_more_than_an_outbox_of_which_much_can_be_taken_out_at_once(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "FEW", 6)
    here.add(10)
    with amid_an_upload(here, gate, taken=1):
        assert (range_of(place(here)), rows_of_outbox(place(here))) == (None, 8)
    here.add(8, first=10)
    with amid_an_upload(here, gate, taken=1):
        assert (range_of(place(here)), rows_of_outbox(place(here))) == ((11, 12), 8)


def test_what_waits_in_front_of_a_batch_goes_on_waiting(here: Device, there: Device, gate: Gate) -> None:
    here.add(2)
    gate.plan(rejecting())
    with pytest.raises(AllRejected):
        here.sync(sync_type="upload_only")
    here.add(6, first=2)
    with amid_an_upload(here, gate, taken=2):
        assert range_of(place(here)) is None
        assert list(here.operations()) == ["k00000", "k00001", "k00006", "k00007"]
    assert list(here.operations()) == ["k00000", "k00001"]
    here.store.retry()
    here.sync()
    there.sync()
    assert there.rows() == here.rows()


# -- formats -----------------------------------------------------------------------------------------


def test_a_file_of_format_17_goes_on_with_what_waits(here: Device, there: Device) -> None:
    here.add(3)
    here.store.close()
    with closing(sqlite3.connect(place(here))) as plain, plain:
        plain.execute("DROP TABLE statesync_settled")
        plain.execute("UPDATE statesync_meta SET value = 17 WHERE key = 'format'")
    here.store.setup()
    assert here.operations() == dict.fromkeys(["k00000", "k00001", "k00002"], "insert")
    here.sync(upload_batch_size=1)
    there.sync()
    assert there.rows() == here.rows()


def test_a_version_that_knows_nothing_of_it_refuses_the_file(
    here: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.store.close()
    monkeypatch.setattr("statesync.store.schema.migrating.FORMAT", 17)
    with pytest.raises(StoreTooNew, match="format 18, this one knows 17"):
        here.store.setup()
