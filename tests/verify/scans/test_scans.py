"""Reading from the start by scans keeps every promise, and each obligation that is left out is noticed.

The obligations O1 to O26 are those of ``docs/scan.md``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve
from rig.search import some

from statesync.lifecycle import Phase
from statesync.values import Direction
from statesync.verify.modelled import (
    adapting,
    downloads,
    feeds,
    hub,
    others,
    quarantine,
    ranges,
    scans,
    uploads,
)
from statesync.verify.modelled import device as device_of_the_model
from statesync.verify.modelled.adapting import reread
from statesync.verify.modelled.device import MISSED_DELETES, Device, add_change
from statesync.verify.modelled.hub import Hub
from statesync.verify.modelled.records import Record
from statesync.verify.modelled.wire import Page, Pull, Request, Scan, Scanned
from statesync.verify.system import deleted, driver, promises, steps, storage, waiting
from statesync.verify.system.explore import check_scenarios
from statesync.verify.system.happening import Kind
from statesync.verify.system.scans import promises as scanning
from statesync.verify.system.scenarios import POLICIES, SCANS, Scenario
from statesync.verify.system.world import Asked, Talk, World

from ..reaching import reached

BROKEN_OFF, WRITTEN, EDITED, _, ADDED, MISSED, RESTORED = SCANS[:7]
MISFITS, FILTERED, LOCAL, CHANGED, DISK, VERSIONS, OBJECTS = SCANS[7:14]
DAMAGED = SCANS[15]
OWN, OWN_LOST = SCANS[18:20]
INDEXED = SCANS[21]


def test_every_promise_holds_with_each_accident_alone() -> None:
    """What every run can afford, some of them; all of them together are a run of their own."""
    alone = some([evolve(each, accidents={kind: 1}) for each in SCANS for kind in each.accidents], 16)
    seen = check_scenarios(alone)
    assert seen.violations == ()
    assert len(alone) > 3
    assert all(part.runs > 10 for part in seen.explored)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", SCANS, ids=lambda scenario: scenario.name)
def test_every_promise_holds_in_every_interleaving(
    scenario: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    report = check_scenarios([scenario])
    with capsys.disabled():
        print("", *report.explored, sep="\n")
    assert report.violations == ()
    assert report.runs > 10_000


def test_a_scan_is_cancelled_between_two_pages_and_the_next_session_goes_on_with_it() -> None:
    """The worlds have what they are about."""
    seen = reached(evolve(BROKEN_OFF, accidents={Kind.CANCEL: 1}).worlds("server_wins"))
    begun = [world for world in seen if world.ended is Phase.CANCELLED and world.talk is not None]
    asked = [world.talk.request for world in begun if world.talk is not None]
    positions = {
        feed.scan.after for each in asked if isinstance(each, Pull) for feed in each.feeds if feed.scan
    }
    assert positions >= {"x", "y"}


def test_own_changes_go_up_between_two_pages_of_a_scan() -> None:
    seen = reached(evolve(EDITED, accidents={Kind.EDIT: 1, Kind.CANCEL: 1}).worlds("server_wins"))
    between = [world for world in seen if world.ended is Phase.CANCELLED and world.devices[0].scan]
    written = {each.key for world in between for each in world.written if each.writer == "a"}
    assert "z" in written


def test_a_scan_begins_anew_with_what_it_has_read_as_a_floor() -> None:
    seen = reached(evolve(MISSED, accidents={Kind.DELETE_THERE: 1, Kind.PURGE: 1}).worlds("server_wins"))
    floors = {world.devices[0].floors for world in seen}
    assert any(len(each) == 1 for each in floors)
    assert all(tops == sorted(tops, reverse=True) for tops in ([top for top, _ in each] for each in floors))


def test_one_object_is_followed_while_another_one_is_scanned() -> None:
    fresh, *_, beside = OBJECTS.worlds("server_wins", times=0)
    ends = {world for first in (fresh, beside) for world in reached({first}) if world.is_over}
    assert all(device.beside and device.beside.rows for world in ends for device in world.devices)
    a = beside.devices[0]
    assert a.beside is not None
    assert (a.cursor > 0, a.beside.cursor, len(a.beside.rows)) == (True, 0, 2)


def test_what_a_device_has_sent_itself_does_not_come_back_with_its_first_read() -> None:
    fresh = OWN.worlds("server_wins", times=0)[0]
    got = {key for world in reached({fresh}) for key, _ in world.devices[0].received}
    assert got == {"w", "x", "y", "z"}


def test_a_session_is_broken_off_while_it_builds_an_index_and_a_later_one_builds_it() -> None:
    amid = {Kind.CANCEL: 1, Kind.CRASH: 1, Kind.ROLL_BACK: 1}
    seen = reached(evolve(INDEXED, accidents=amid).worlds("server_wins"))
    building = [world for world in seen if world.talk is not None and world.talk.builds]
    assert {world.ended for world in building} == {None, Phase.CANCELLED, Phase.FAILED}
    waits = [world for world in seen if world.ended is not None and ranges.index_waits(world.devices[0])]
    assert {world.ended for world in waits} == {Phase.CANCELLED, Phase.FAILED}
    assert {world.devices[0].cursor > 0 for world in waits} == {False, True}


# -- sabotages -----------------------------------------------------------------------------------------

Sabotage = Callable[[pytest.MonkeyPatch], None]


def follow_from_the_head(patch: pytest.MonkeyPatch) -> None:
    """O1: let the feed start at the head of the end."""
    move = ranges.move

    def moved(device: Device, scanned: Scanned) -> Device:
        after = move(device, scanned)
        return evolve(after, cursor=device.head) if scanned.done else after

    patch.setattr(ranges, "move", moved)


def serve_pages_below_the_horizon(patch: pytest.MonkeyPatch) -> None:
    """O2: look at the horizon only when the feed is read."""
    missed = hub._has_missed_deletes

    def careless(known: Hub, request: Pull, last: int) -> bool:
        is_scan = any(feed.scan is not None for feed in request.feeds)
        return not is_scan and missed(known, request, last)

    patch.setattr(hub, "_has_missed_deletes", careless)


def never_look_at_the_horizon(patch: pytest.MonkeyPatch) -> None:
    """O2: neither for a scan nor for the feed after it."""
    patch.setattr(hub, "_has_missed_deletes", lambda known, request, last: False)
    patch.setattr(scanning, "FOLLOWED", None)


def replace_nothing_on_a_first_read(patch: pytest.MonkeyPatch) -> None:
    """O3."""
    replace = ranges.replace
    patch.setattr(
        ranges,
        "replace",
        lambda device, page, scanned: replace(device, page, scanned) if device.rereading else device,
    )


def delete_what_is_pending(patch: pytest.MonkeyPatch) -> None:
    """O4."""
    patch.setattr(
        ranges,
        "_stays",
        lambda device, scanned, key: key in device.local or dict(device.ahead).get(key, 0) > scanned.since,
    )


def overwrite_what_is_pending(patch: pytest.MonkeyPatch) -> None:
    """O5."""
    aside = downloads._left_aside
    patch.setattr(
        downloads,
        "_left_aside",
        lambda device, page: (device, list(page.entries)) if page.scans else aside(device, page),
    )


def with_range(
    patch: pytest.MonkeyPatch, changed: Callable[[list[Record], Scanned], tuple[list[Record], Scanned]]
) -> None:
    found = scans._range
    patch.setattr(scans, "_range", lambda *what: changed(*found(*what)))


def tell_of_no_stubs(patch: pytest.MonkeyPatch) -> None:
    """O6."""
    with_range(patch, lambda told, scanned: (told, evolve(scanned, stubs=())))


def take_what_is_newer_along(patch: pytest.MonkeyPatch) -> None:
    """O7: make entries of what the feed will bring."""
    patch.setattr(scans, "_is_newer", lambda record, asked: False)


def base_everything_on_the_beginning(patch: pytest.MonkeyPatch) -> None:
    """O8: take the whole object for read as soon as its scan has begun."""
    patch.setattr(device_of_the_model, "is_scanned", lambda device, key: device.scan is not None)


def base_nothing_on_the_position(patch: pytest.MonkeyPatch) -> None:
    """O8: take nothing for read before the scan is done."""
    patch.setattr(device_of_the_model, "is_scanned", lambda device, key: False)


def use_a_page_of_the_session_before(patch: pytest.MonkeyPatch) -> None:
    """O9: let the next session have the page that was asked for ahead, and take it for any other."""
    finished, request, sent = driver._finished, driver._request, driver._sent

    def careless(world: World, talk: Talk) -> tuple[World, str | None]:
        over, broken = finished(world, talk)
        if over.talk is None or talk.ahead is None or over.running != world.running:
            return over, broken
        return evolve(over, talk=evolve(over.talk, ahead=talk.ahead)), broken

    def of_any_time(device: Device, talk: Talk, direction: Direction) -> Request:
        is_page = talk.ahead is not None and direction is Direction.DOWNLOAD
        return talk.ahead.request if is_page and talk.ahead else request(device, talk, direction)

    def beside(world: World, talk: Talk, direction: Direction) -> tuple[World, Talk]:
        if direction is Direction.DOWNLOAD:
            return sent(world, talk, direction)
        world, after = sent(world, evolve(talk, ahead=None), direction)
        return world, evolve(after, ahead=talk.ahead)

    patch.setattr(driver, "_finished", careless)
    patch.setattr(driver, "_sent", beside)
    patch.setattr(driver, "_request", of_any_time)


def follow_without_tombstones(patch: pytest.MonkeyPatch) -> None:
    """O10."""
    wanted = feeds._is_wanted
    patch.setattr(
        feeds, "_is_wanted", lambda record, *what: record.data is not None and wanted(record, *what)
    )


def forget_floors(patch: pytest.MonkeyPatch) -> None:
    """O11, and in another epoch O12."""
    patch.setattr(adapting, "_floors", lambda device: ())


def go_on_in_another_epoch(patch: pytest.MonkeyPatch) -> None:
    """O12: keep the position."""
    patch.setattr(adapting, "reread", lambda device, why: evolve(reread(device, why), scan=device.scan))


def replace_all_that_follows(patch: pytest.MonkeyPatch) -> None:
    """O13."""
    patch.setattr(
        ranges,
        "_is_in_range",
        lambda device, scanned, key: key > ("" if device.scan is None else device.scan.after),
    )


def forget_the_position_in_the_end(patch: pytest.MonkeyPatch) -> None:
    """O14: keep it in memory alone."""
    over = driver.next_session

    def careless(world: World, phase: Phase) -> World:
        return over(driver.with_device(world, evolve(world.device, scan=None)), phase)

    patch.setattr(driver, "next_session", careless)


def move_the_position_alone(patch: pytest.MonkeyPatch) -> None:
    """O14: store the records of a page some other time."""
    patch.setattr(quarantine, "write", lambda device, entries: (device, ()))


def release_stubs(patch: pytest.MonkeyPatch) -> None:
    """O15: let what waits go where the feed will bring a newer version."""
    replace = ranges.replace

    def careless(device: Device, page: Page, scanned: Scanned) -> Device:
        return quarantine.release(replace(device, page, scanned), scanned.stubs)

    patch.setattr(ranges, "replace", careless)


def keep_what_waits(patch: pytest.MonkeyPatch) -> None:
    """O15: let what waits stay where the hub has it no more."""
    replace = ranges.replace
    patch.setattr(ranges, "replace", lambda device, *what: evolve(replace(device, *what), held=device.held))


def delete_what_is_local_only(patch: pytest.MonkeyPatch) -> None:
    """O16."""
    stays = ranges._stays
    patch.setattr(ranges, "_stays", lambda device, *what: stays(evolve(device, local=()), *what))


def note_nothing_that_was_written(patch: pytest.MonkeyPatch) -> None:
    """O17: leave it to the stubs, of which there are none behind the end."""
    patch.setattr(uploads, "_note_written", lambda device, change, verdict: device)


def look_behind_the_end(patch: pytest.MonkeyPatch) -> None:
    """O18."""
    found = scans._range

    def unbounded(
        there: list[Record], asked: Scan, spared: str | None, *bounds: int
    ) -> tuple[list[Record], Scanned]:
        last = there[-1].key if there else asked.until
        return found(there, evolve(asked, until=max(last, asked.until)), spared, *bounds)

    patch.setattr(scans, "_range", unbounded)


def store_a_page_wherever_the_device_is(patch: pytest.MonkeyPatch) -> None:
    """O19."""
    patch.setattr(storage, "asked_from", lambda device: Asked(device.client, (0, None, 0, 0, 0)))
    patch.setitem(steps.OTHERS, Kind.SET_UP, lambda device: reread(device, MISSED_DELETES))


def compare_nothing_at_an_older_hub(patch: pytest.MonkeyPatch) -> None:
    """O20: take the page of an older hub for the first one of a first read."""
    patch.setattr(downloads, "reread", lambda device, why: evolve(device, scan=None, received=()))


def offer_what_is_lost_on_what_was_read(patch: pytest.MonkeyPatch) -> None:
    """O21."""

    def careless(
        device: Device, key: str, operation: str, image: None, base: int, *, since: int, offered: bool
    ) -> Device:
        return add_change(device, key, operation, image, max(base, since), since=since, offered=offered)

    patch.setattr(ranges, "add_change", careless)


def forget_all_that_is_ahead(patch: pytest.MonkeyPatch) -> None:
    """O22."""
    move = ranges.move

    def careless(device: Device, scanned: Scanned) -> Device:
        passed = {key for key, _ in device.ahead if ranges._is_in_range(device, scanned, key)}
        after = move(device, scanned)
        return evolve(after, ahead=tuple(each for each in after.ahead if each[0] not in passed))

    patch.setattr(ranges, "move", careless)


def replace_all_behind_one_range(patch: pytest.MonkeyPatch) -> None:
    """O24."""
    is_in = ranges._is_in_range
    patch.setattr(ranges, "_is_in_range", lambda device, *what: is_in(evolve(device, part=False), *what))


def move_the_cursor_behind_one_range(patch: pytest.MonkeyPatch) -> None:
    """O24: read the range as it is now, and follow the feed from there."""
    begun = others.repaired
    patch.setattr(
        others,
        "repaired",
        lambda device, low, high: evolve(begun(device, low, high), scan=Scan(device.cursor + 1, low, high)),
    )
    move = ranges.move
    patch.setattr(
        ranges,
        "move",
        lambda device, scanned: evolve(
            move(device, scanned), cursor=scanned.since if scanned.done else device.cursor
        ),
    )


def take_an_object_that_does_not_come_for_one_of_an_older_hub(patch: pytest.MonkeyPatch) -> None:
    """O23: a page may be full before it comes to an object."""
    page_of = downloads._of

    def careless(page: Page, name: str) -> Page:
        return evolve(page_of(page, name), scans=tuple(each for each in page.scans if each[0] == name))

    patch.setattr(downloads, "_of", careless)


def store_all_of_a_page_as_one_object(patch: pytest.MonkeyPatch) -> None:
    """O23."""
    patch.setattr(downloads, "_of", lambda page, name: page)


def let_feeds_pass_while_scans_go_on(patch: pytest.MonkeyPatch) -> None:
    """O23: say that the feeds are read up to the head, where a page has nothing but scans."""
    page_of = hub._page_of_scans

    def careless(known: Hub, request: Pull) -> Page:
        page = page_of(known, request)
        return evolve(page, cursors=tuple((name, at and page.head) for name, at in page.cursors))

    patch.setattr(hub, "_page_of_scans", careless)


def spare_what_is_read_again(patch: pytest.MonkeyPatch) -> None:
    """O25: take it for granted that the device has what it wrote itself."""
    patch.setattr(downloads, "_spares", lambda device: True)


def spare_what_a_filter_hides(patch: pytest.MonkeyPatch) -> None:
    """O25: ask for no own records although there is a filter, which may hide some."""
    patch.setattr(downloads, "_spares", lambda device: device.rereading is None)


def say_nothing_of_what_is_spared(patch: pytest.MonkeyPatch) -> None:
    """O25: leave own records out, as a feed does."""
    found = scans._range

    def careless(there: list[Record], asked: Scan, spared: str | None, *room: int) -> object:
        told, scanned = found(there, asked, spared, *room)
        own = {each.key for each in told if each.writer == spared and each.version <= asked.since}
        return told, evolve(scanned, stubs=tuple(key for key in scanned.stubs if key not in own))

    patch.setattr(scans, "_range", careless)


def end_without_the_index(patch: pytest.MonkeyPatch) -> None:
    """O26: be done when everything is read."""
    patch.setattr(ranges, "index_waits", lambda device: False)


def leave_no_mark(patch: pytest.MonkeyPatch) -> None:
    """O26: drop the index, and remember it in the session alone."""
    put_off = ranges.put_off_index

    def forgetful(device: Device, scanned: Scanned) -> Device:
        after = put_off(device, scanned)
        return evolve(after, index=ranges.Index.LOST) if after is not device else device

    patch.setattr(ranges, "put_off_index", forgetful)


SABOTAGES: list[tuple[Sabotage, str, Scenario, tuple[Kind, ...]]] = [
    (end_without_the_index, scanning.BUILT, INDEXED, ()),
    (leave_no_mark, scanning.BUILT, INDEXED, (Kind.CRASH,)),
    (follow_from_the_head, promises.COMPLETE, WRITTEN, (Kind.WRITE_THERE,)),
    (serve_pages_below_the_horizon, scanning.FOLLOWED, WRITTEN, (Kind.DELETE_THERE, Kind.PURGE)),
    (never_look_at_the_horizon, promises.AGREED, WRITTEN, (Kind.DELETE_THERE, Kind.PURGE)),
    (replace_nothing_on_a_first_read, scanning.PASSED, MISSED, (Kind.CANCEL,)),
    (delete_what_is_pending, scanning.KEPT, MISSED, (Kind.EDIT,)),
    (overwrite_what_is_pending, promises.NOTHING_LOST, EDITED, (Kind.EDIT,)),
    (tell_of_no_stubs, scanning.KEPT, MISSED, (Kind.WRITE_THERE,)),
    (take_what_is_newer_along, promises.NOTHING_STAGED, WRITTEN, (Kind.WRITE_THERE,)),
    (base_everything_on_the_beginning, waiting.CONTESTED, MISSED, (Kind.EDIT,)),
    (base_nothing_on_the_position, scanning.FOUNDED, MISSED, (Kind.EDIT,)),
    (use_a_page_of_the_session_before, promises.ARRIVED, EDITED, (Kind.EDIT, Kind.CANCEL)),
    (follow_without_tombstones, promises.AGREED, WRITTEN, (Kind.DELETE_THERE,)),
    (forget_floors, scanning.FOUNDED, MISSED, (Kind.EDIT,)),
    (forget_floors, scanning.GIVEN_BACK, RESTORED, (Kind.EDIT,)),
    (go_on_in_another_epoch, scanning.PASSED, RESTORED, (Kind.EDIT,)),
    (replace_all_that_follows, scanning.KEPT, MISSED, (Kind.EDIT,)),
    (forget_the_position_in_the_end, promises.NOTHING_STAGED, BROKEN_OFF, (Kind.CANCEL,)),
    (move_the_position_alone, scanning.PASSED, BROKEN_OFF, (Kind.CANCEL,)),
    (release_stubs, waiting.WAITS, MISFITS, (Kind.WRITE_THERE,)),
    (keep_what_waits, promises.AGREED, MISFITS, (Kind.MIGRATE,)),
    (delete_what_is_local_only, scanning.KEPT, LOCAL, (Kind.CRASH,)),
    (note_nothing_that_was_written, promises.COMPLETE, BROKEN_OFF, (Kind.CANCEL,)),
    (look_behind_the_end, scanning.BOUNDED, ADDED, (Kind.WRITE_THERE,)),
    (store_a_page_wherever_the_device_is, promises.COMPLETE, CHANGED, (Kind.SET_UP,)),
    (compare_nothing_at_an_older_hub, promises.AGREED, VERSIONS, (Kind.CANCEL,)),
    (offer_what_is_lost_on_what_was_read, deleted.RETURNED, RESTORED, (Kind.EDIT,)),
    (replace_all_behind_one_range, promises.COMPLETE, DAMAGED, (Kind.CANCEL,)),
    (move_the_cursor_behind_one_range, scanning.PASSED, DAMAGED, (Kind.CANCEL,)),
    (take_an_object_that_does_not_come_for_one_of_an_older_hub, scanning.ONWARD, OBJECTS, (Kind.CANCEL,)),
    (store_all_of_a_page_as_one_object, promises.ARRIVED, OBJECTS, (Kind.CANCEL,)),
    (let_feeds_pass_while_scans_go_on, promises.AGREED, OBJECTS, (Kind.DELETE_THERE,)),
    (forget_all_that_is_ahead, scanning.FOUNDED, EDITED, (Kind.EDIT,)),
    (spare_what_is_read_again, scanning.PASSED, OWN_LOST, (Kind.CLEAR_ALL,)),
    (spare_what_a_filter_hides, scanning.PASSED, OWN, (Kind.CANCEL,)),
    (say_nothing_of_what_is_spared, scanning.KEPT, OWN, (Kind.CANCEL,)),
]


@pytest.mark.sabotage
@pytest.mark.parametrize(
    ("sabotage", "broken", "scenario", "kinds"), SABOTAGES, ids=lambda each: getattr(each, "__name__", "")
)
def test_an_obligation_that_is_left_out_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Sabotage,
    broken: str,
    scenario: Scenario,
    kinds: tuple[Kind, ...],
) -> None:
    sabotage(monkeypatch)
    small = evolve(scenario, accidents=dict.fromkeys(kinds, 1))
    found = {each.statement for policy in POLICIES for each in check_scenarios([small], [policy]).violations}
    assert broken in found
