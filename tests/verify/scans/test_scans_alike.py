"""Real stores and hubs do in scans what the model does; each obligation that the store leaves out shows.

The obligations O1 to O25 are those of ``docs/scan.md``. Here they are left out of the real store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from rig.search import some

from statesync.store import quarantine
from statesync.store.cursors import applied, knowledge, rereads
from statesync.store.cursors.cursor import Cursor
from statesync.store.download import pages, scans
from statesync.store.download.downloads import Downloads
from statesync.store.download.scans import Range
from statesync.store.outbox import changes
from statesync.store.upload import verdicts
from statesync.verify.system.happening import Kind
from statesync.verify.system.world import Options
from statesync.wire import Scanned

from ..alike import FEW_FIT, UNFIT, AlikeMachine
from ..test_alike import EVERYTHING, UNTIL_DOWNLOAD_IS_UNDER_WAY, UNTIL_UPLOAD_IS_UNDER_WAY, A, B, sync

Happens = Callable[[AlikeMachine], None]
Sabotage = Callable[[pytest.MonkeyPatch], None]

DOWNLOAD = Options(uploads=False)


def begin(both: AlikeMachine, pages: int, options: Options = DOWNLOAD) -> None:
    """Let device b begin to read from the start, and store so many pages."""
    both.begin(B, options, 0)
    for _ in range(pages):
        before = both.world.device.scan
        while both.world.device.scan == before and both.world.talk is not None:
            both.go_on(1)
    assert both.world.device.scan is not None


def four_records(both: AlikeMachine) -> None:
    for key in "wxyz":
        both.write(A, key, "one")
    sync(both, A)


def others_write_amid_a_first_read(both: AlikeMachine) -> None:
    four_records(both)
    begin(both, 2)
    for key, text in (("x", None), ("y", "two"), ("v", "one"), ("zz", "one")):
        both.write_there(key, text)
    both.go_on(EVERYTHING)


def what_was_sent_is_deleted_before_the_first_read(both: AlikeMachine) -> None:
    both.write(B, "y", "one")
    sync(both, B, downloads=False)
    four_records(both)
    both.write(A, "y", None)
    sync(both, A)
    sync(both, B)


def what_it_sent_itself_is_read_and_then_cleared(both: AlikeMachine) -> None:
    """Device b has sent v, y and zz before it reads; a has written y since, b writes v amid the read."""
    for key in ("v", "y", "zz"):
        both.write(B, key, "one")
    sync(both, B, downloads=False)
    sync(both, A)
    for key in ("x", "y"):
        both.write(A, key, "two")
    sync(both, A)
    begin(both, 2)
    both.write(B, "v", "two")
    both.go_on(2)
    both.do(Kind.CANCEL)
    both.go_on(EVERYTHING)
    sync(both, B)
    both.start_over(B, Kind.CLEAR)
    sync(both, B)
    assert [key for key, _ in both.world.devices[B].rows] == ["v", "x", "y", "zz"]


def own_writes_amid_a_first_read(both: AlikeMachine) -> None:
    """Some wait, behind the position and before it; others go up between two sessions."""
    four_records(both)
    begin(both, 1)
    both.write(B, "w", "two")
    both.write(B, "xx", "mine")
    both.go_on(2)
    both.do(Kind.CANCEL)
    both.go_on(EVERYTHING)
    both.write(B, "zz", "mine")
    sync(both, B, downloads=False)
    both.write(B, "zzz", "mine")
    begin(both, 1)
    both.go_on(EVERYTHING)
    both.write(B, "zz", "mine again")
    sync(both, B)


def a_forgotten_delete(both: AlikeMachine) -> None:
    """Device b has read everything, was away, and now follows a hub that has forgotten a delete."""
    four_records(both)
    sync(both, B)
    both.write(A, "y", None)
    sync(both, A)
    for key in "wz":
        both.write(A, key, "two")
    sync(both, A)


def an_edit_amid_what_is_read_again(both: AlikeMachine) -> None:
    a_forgotten_delete(both)
    both.begin(B, DOWNLOAD, 0)
    both.do(Kind.PURGE)
    while both.world.device.scan is None:
        both.go_on(1)
    for key in "wxy":
        both.write(B, key, "mine")
    both.go_on(EVERYTHING)
    sync(both, B)


def a_scan_begins_anew(both: AlikeMachine) -> None:
    """Another delete is forgotten amid the scan; what it has read is a floor."""
    a_forgotten_delete(both)
    both.begin(B, DOWNLOAD, 0)
    both.do(Kind.PURGE)
    while both.world.device.scan is None or both.world.device.scan.after < "x":
        both.go_on(1)
    both.write_there("z", None)
    both.do(Kind.PURGE)
    while not both.world.device.floors:
        both.go_on(1)
    both.write(B, "w", "mine")
    both.write(B, "z", "mine")
    both.go_on(EVERYTHING)
    sync(both, B)


def another_epoch_amid_a_scan(both: AlikeMachine) -> None:
    """Some of what the scan has read is lost."""
    both.write(A, "y", "one")
    sync(both, A)
    both.back_up()
    for key in "wxz":
        both.write(A, key, "one")
    sync(both, A)
    begin(both, 2)
    both.do(Kind.RESTORE)
    both.go_on(EVERYTHING)
    sync(both, B)
    sync(both, B)


def an_offer_in_vain(both: AlikeMachine) -> None:
    """Device b may not write what the hub has lost. Device a brings another record in its place."""
    both.write(A, "y", "one")
    sync(both, A)
    both.back_up()
    both.write(A, "x", "one")
    sync(both, A)
    sync(both, B)
    both.begin(B, DOWNLOAD, 0)
    both.do(*UNTIL_DOWNLOAD_IS_UNDER_WAY, Kind.RESTORE)
    both.go_on(EVERYTHING)
    both.begin(B, Options(), 0)
    both.do(*UNTIL_UPLOAD_IS_UNDER_WAY, Kind.FORBID)
    both.go_on(EVERYTHING)
    (offer,) = both.world.devices[B].outbox
    assert (offer.is_mere_offer, offer.is_parked) == (True, True)
    both.write(A, "x", "two")
    sync(both, A)
    sync(both, B)
    assert both.world.devices[B].outbox == ()


def what_does_not_fit_in_a_scan(both: AlikeMachine) -> None:
    """Device b has y waiting, which is deleted, and z, which is written amid the scan."""
    for key, text in (("x", "one"), ("y", UNFIT), ("z", UNFIT)):
        both.write(A, key, text)
    sync(both, A)
    sync(both, B)
    both.write(A, "y", None)
    sync(both, A)
    both.begin(B, DOWNLOAD, 0)
    both.do(Kind.PURGE)
    while both.world.device.scan is None:
        both.go_on(1)
    both.write_there("z", "two")
    both.go_on(EVERYTHING)


def a_conflict_amid_a_scan(both: AlikeMachine) -> None:
    """What it brought is newer than the scan, which has not come to it."""
    four_records(both)
    begin(both, 1)
    both.do(Kind.CANCEL)
    both.go_on(EVERYTHING)
    both.write(A, "y", "two")
    sync(both, A)
    both.write(B, "y", "mine")
    sync(both, B, policy="server_wins", downloads=False)
    begin(both, 2)
    both.write(B, "y", "mine again")
    both.go_on(EVERYTHING)
    sync(both, B)


def an_older_hub_amid_a_scan(both: AlikeMachine) -> None:
    four_records(both)
    begin(both, 2)
    both.write_there("w", None)
    both.take_the_place_of_the_hub()
    both.go_on(EVERYTHING)
    sync(both, B)


def the_store_is_set_up_amid_a_scan(both: AlikeMachine) -> None:
    four_records(both)
    begin(both, 2)
    both.do(Kind.SET_UP)
    both.go_on(EVERYTHING)
    sync(both, B)


def the_triggers_are_made_anew_amid_a_scan(both: AlikeMachine) -> None:
    four_records(both)
    begin(both, 2)
    both.do(Kind.CANCEL)
    both.go_on(EVERYTHING)
    both.begin(B, DOWNLOAD, 0)
    both.do(*UNTIL_DOWNLOAD_IS_UNDER_WAY, Kind.TRACK_ANEW)
    both.go_on(EVERYTHING)
    sync(both, B)


def one_range_is_read_again(both: AlikeMachine) -> None:
    four_records(both)
    sync(both, B)
    both.write(A, "x", "two")
    sync(both, A)
    both.repair(B, "w", "y")
    both.begin(B, DOWNLOAD, 0)
    both.go_on(EVERYTHING)


def a_range_is_read_again_at_an_older_hub(both: AlikeMachine) -> None:
    four_records(both)
    sync(both, B)
    both.repair(B, "w", "y")
    both.take_the_place_of_the_hub()
    sync(both, B)
    sync(both, B)


HISTORIES: list[Happens] = [
    others_write_amid_a_first_read,
    what_was_sent_is_deleted_before_the_first_read,
    own_writes_amid_a_first_read,
    what_it_sent_itself_is_read_and_then_cleared,
    an_edit_amid_what_is_read_again,
    a_scan_begins_anew,
    another_epoch_amid_a_scan,
    an_offer_in_vain,
    what_does_not_fit_in_a_scan,
    a_conflict_amid_a_scan,
    an_older_hub_amid_a_scan,
    the_store_is_set_up_amid_a_scan,
    the_triggers_are_made_anew_amid_a_scan,
    one_range_is_read_again,
    a_range_is_read_again_at_an_older_hub,
]


@contextmanager
def both_in(folder: Path, happens: Happens) -> Iterator[AlikeMachine]:
    rules = FEW_FIT if happens is what_does_not_fit_in_a_scan else None
    machine = type("Machine", (AlikeMachine,), {"folder": folder, "table_rules": rules})()
    try:
        yield machine
    finally:
        machine.teardown()


@pytest.mark.parametrize("happens", some(HISTORIES, 4))
def test_the_two_are_alike_where_this_happens_amid_a_scan(tmp_path: Path, happens: Happens) -> None:
    with both_in(tmp_path, happens) as both:
        happens(both)


# -- sabotages -----------------------------------------------------------------------------------------


def replacing(module: Any, name: str, change: Callable[[Any], Any]) -> Sabotage:
    """Return what puts something careless in the place of a function of the store."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(module, name, change(getattr(module, name)))

    apply.__name__ = f"{name}"
    return apply


def follows_from_the_head(follow: Any) -> Any:
    """O1."""

    def careless(connection: sqlite3.Connection, cursor: Cursor, scanned: Scanned, *rest: Any) -> None:
        follow(connection, cursor, scanned, *rest)
        if scanned.done:
            connection.execute("UPDATE statesync_cursor SET cursor = (SELECT head FROM statesync_space)")

    return careless


def replaces_nothing_on_a_first_read(replace: Any) -> Any:
    """O3."""

    def careless(connection: sqlite3.Connection, looked_at: Range, *rest: Any) -> Any:
        if looked_at.cursor.rereading is None:
            return scans.Replaced()
        return replace(connection, looked_at, *rest)

    return careless


def without(part: str) -> Callable[[Any], Any]:
    """Return what takes one condition out of those on the rows that go."""

    def change(unshown: Any) -> Any:
        def careless(looked_at: Range) -> str:
            conditions = unshown.fget(looked_at).split(" AND ")
            return " AND ".join(each for each in conditions if part not in each)

        return property(careless)

    return change


def passes_everything(holds: Any) -> Any:
    """O13, and of one range O24."""
    return lambda looked_at, key: f"{key} COLLATE BINARY > :after"


def leaves_the_position(follow: Any) -> Any:
    """O14."""
    return lambda connection, cursor, scanned, *rest: (
        follow(connection, cursor, scanned, *rest) if scanned.done else None
    )


def goes_on_in_another_epoch(start_over: Any) -> Any:
    """O12."""

    def careless(connection: sqlite3.Connection, name: str, why: str) -> None:
        kept = connection.execute("SELECT since, after, until FROM statesync_cursor").fetchone()
        start_over(connection, name, why)
        if why == "epoch":
            connection.execute("UPDATE statesync_cursor SET since = ?, after = ?, until = ?", kept)

    return careless


def forgets_newer_ones(pass_over: Any) -> Any:
    """O22."""

    def careless(connection: sqlite3.Connection, looked_at: Range) -> None:
        pass_over(connection, evolve(looked_at, scanned=Scanned(1 << 60, "", "", done=True)))

    return careless


def offers_on_what_was_read(offer_again: Any) -> Any:
    """O21."""

    def careless(*what: Any, since: int = 0, base: int = 1) -> None:
        offer_again(*what, base=max(base, since), since=since)

    return careless


def lets_no_scan_go(let_go: Any) -> Any:
    """O20."""
    return lambda self, connection, page, positions, parts: (page, dict(positions), parts)


def moves_the_cursor_too(follow: Any) -> Any:
    """O24."""

    def careless(connection: sqlite3.Connection, cursor: Cursor, scanned: Scanned, *rest: Any) -> None:
        follow(connection, cursor, scanned, *rest)
        if cursor.is_part and scanned.done:
            connection.execute("UPDATE statesync_cursor SET cursor = (SELECT head FROM statesync_space)")

    return careless


def knows_no_scan(base_sql: Any) -> Any:
    """O8: a base below what was read."""

    def careless(connection: sqlite3.Connection, name: str) -> Any:
        connection.execute("SAVEPOINT careless")
        connection.execute("UPDATE statesync_cursor SET since = 0")
        base = base_sql(connection, name)
        connection.execute("ROLLBACK TO careless")
        connection.execute("RELEASE careless")
        return base

    return careless


def takes_all_for_read(base_sql: Any) -> Any:
    """O8: a base above what was read."""

    def careless(connection: sqlite3.Connection, name: str) -> Any:
        base = base_sql(connection, name)
        return evolve_base(base, base.version.replace(" <= (SELECT after ", " > (SELECT '' "))

    return careless


def evolve_base(base: Any, version: str) -> Any:
    return base._replace(version=version)


def has_no_floors(floors_after: Any) -> Any:
    """O11."""
    return lambda cursor: "[]"


def takes_every_cursor_for_the_same(_: Any) -> Any:
    """O19."""
    return lambda one, other: True


def releases_stubs(replace: Any) -> Any:
    """O15: what waits goes, though the feed brings a newer version of it."""

    def careless(connection: sqlite3.Connection, looked_at: Range, *rest: Any) -> Any:
        found = replace(connection, looked_at, *rest)
        quarantine.release(connection, looked_at.tracked.name, looked_at.scanned.stubs)
        return found

    return careless


def nothing_waits(pending_among: Any) -> Any:
    """O5."""
    return lambda connection, name, keys: set()


SABOTAGES: list[tuple[str, Sabotage, Happens]] = [
    ("O1", replacing(applied, "follow_scan", follows_from_the_head), others_write_amid_a_first_read),
    (
        "O3",
        replacing(scans, "replace", replaces_nothing_on_a_first_read),
        what_was_sent_is_deleted_before_the_first_read,
    ),
    ("O4", replacing(Range, "unshown", without("statesync_change")), own_writes_amid_a_first_read),
    ("O5", replacing(pages, "pending_among", nothing_waits), an_edit_amid_what_is_read_again),
    ("O8", replacing(knowledge, "base_sql", knows_no_scan), own_writes_amid_a_first_read),
    ("O8", replacing(knowledge, "base_sql", takes_all_for_read), an_edit_amid_what_is_read_again),
    ("O11", replacing(Cursor, "floors_after", has_no_floors), a_scan_begins_anew),
    ("O12", replacing(rereads, "start_over", goes_on_in_another_epoch), another_epoch_amid_a_scan),
    ("O13", replacing(Range, "holds", passes_everything), an_edit_amid_what_is_read_again),
    ("O14", replacing(applied, "follow_scan", leaves_the_position), others_write_amid_a_first_read),
    (
        "O15",
        replacing(quarantine, "release_those", lambda _: lambda *what: 0),
        what_does_not_fit_in_a_scan,
    ),
    ("O15", replacing(scans, "replace", releases_stubs), what_does_not_fit_in_a_scan),
    (
        "O17",
        replacing(verdicts, "_note_written", lambda _: lambda *what: None),
        own_writes_amid_a_first_read,
    ),
    (
        "O19",
        replacing(Cursor, "__eq__", takes_every_cursor_for_the_same),
        the_triggers_are_made_anew_amid_a_scan,
    ),
    ("O20", replacing(Downloads, "_let_scans_go", lets_no_scan_go), an_older_hub_amid_a_scan),
    ("O21", replacing(changes, "offer_again", offers_on_what_was_read), another_epoch_amid_a_scan),
    ("O22", replacing(scans, "pass_over", forgets_newer_ones), a_conflict_amid_a_scan),
    ("O24", replacing(Range, "holds", passes_everything), one_range_is_read_again),
    ("O24", replacing(applied, "follow_scan", moves_the_cursor_too), one_range_is_read_again),
    (
        "O25",
        replacing(Cursor, "_has_its_own", lambda _: lambda cursor: True),
        what_it_sent_itself_is_read_and_then_cleared,
    ),
    (
        "O25",
        replacing(Cursor, "_has_its_own", lambda _: lambda cursor: False),
        what_it_sent_itself_is_read_and_then_cleared,
    ),
]


@pytest.mark.sabotage
@pytest.mark.parametrize(
    ("obligation", "sabotage", "happens"), SABOTAGES, ids=lambda each: getattr(each, "__name__", each)
)
def test_an_obligation_that_the_store_leaves_out_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obligation: str, sabotage: Sabotage, happens: Happens
) -> None:
    sabotage(monkeypatch)
    with both_in(tmp_path, happens) as both, pytest.raises(AssertionError, match="differ after"):
        happens(both)
