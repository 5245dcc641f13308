"""What the modelled hub answers to a scan, and what the modelled device makes of that, written by hand."""

from __future__ import annotations

import pytest

from statesync.verify.evolving import evolve
from statesync.verify.modelled.hub import Hub, pull, push
from statesync.verify.modelled.wire import (
    Change,
    Entry,
    Feed,
    Fields,
    Filter,
    Page,
    Pull,
    Push,
    PushAnswer,
    Refusal,
    Scan,
    Scanned,
    fields,
)
from statesync.wire import EPOCH_CHANGED, HORIZON_PASSED


def text(words: str) -> Fields:
    return fields({"text": words})


def written(hub: Hub, writer: str, *records: tuple[str, str | None], name: str = "Note") -> Hub:
    receipt = hub.receipt(writer)
    number = 1 + (receipt.number if receipt else 0)
    changes = tuple(
        Change(name, key, hub.head, None if words is None else text(words)) for key, words in records
    )
    hub, answer = push(hub, Push(writer, number, f"{writer}{number}", "hub", hub.epoch, changes))
    assert isinstance(answer, PushAnswer)
    return hub


def asked(
    hub: Hub, *scans: Scan, limit: int = 9, wanted: Filter | None = None, cursor: int = 0
) -> Page | Refusal:
    """Ask for scans of Note and Tag, and with ``cursor`` for the feed of Tag."""
    feeds = [
        Feed(name, 0, filter=wanted, scan=scan) for name, scan in zip(("Note", "Tag"), scans, strict=False)
    ]
    if cursor:
        feeds.append(Feed("Tag", cursor))
    receipt = hub.receipt("reader")
    return pull(hub, Pull("reader", receipt.number if receipt else 0, None, None, tuple(feeds), limit))[1]


def page_of(answer: Page | Refusal) -> Page:
    assert isinstance(answer, Page)
    return answer


THREE = written(Hub(scans=True), "ann", ("c", "3"), ("a", "1"), ("b", "2"))


def test_records_come_in_the_order_of_their_keys_and_the_feed_goes_on_from_where_the_scan_began() -> None:
    page = page_of(asked(THREE, Scan(), limit=2))
    assert [(each.key, each.version) for each in page.entries] == [("a", 2), ("b", 3)]
    assert page.scans == (("Note", Scanned(3, "c", "b", False)),)
    assert (page.cursors, page.more) == ((("Note", 0),), True)
    last = page_of(asked(THREE, Scan(3, "b", "c"), limit=2))
    assert last.entries == (Entry("Note", "c", 1, text("3")),)
    assert last.scans == (("Note", Scanned(3, "c", "c", True)),)
    assert (last.cursors, last.more) == ((("Note", 3),), False)


def test_what_is_newer_than_the_beginning_is_a_stub_whoever_wrote_it() -> None:
    later = written(written(THREE, "bob", ("b", "2 of bob")), "reader", ("a", "1 of reader"))
    page = page_of(asked(later, Scan(3, "", "c")))
    assert [each.key for each in page.entries] == ["c"]
    assert page.scans == (("Note", Scanned(3, "c", "c", True, ("a", "b"))),)
    assert (page.cursors, page.more) == ((("Note", 3),), True)


def test_a_deleted_record_is_neither_entry_nor_stub() -> None:
    page = page_of(asked(written(THREE, "bob", ("b", None)), Scan(3, "", "c")))
    assert [each.key for each in page.entries] == ["a", "c"]
    assert dict(page.scans)["Note"].stubs == ()


def test_a_scan_looks_at_nothing_beyond_the_last_record_of_its_beginning() -> None:
    page = page_of(asked(written(THREE, "bob", ("d", "4"), ("e", "5")), Scan(3, "b", "c")))
    assert [each.key for each in page.entries] == ["c"]
    assert dict(page.scans)["Note"] == Scanned(3, "c", "c", True)


def test_a_record_that_does_not_match_is_passed_over_and_one_that_is_newer_is_a_stub_all_the_same() -> None:
    later = written(THREE, "bob", ("b", "2 of bob"))
    page = page_of(asked(later, Scan(3, "", "c"), wanted=(("text", ("1",)),)))
    assert [each.key for each in page.entries] == ["a"]
    assert dict(page.scans)["Note"] == Scanned(3, "c", "c", True, ("b",))


def test_a_page_ends_where_it_has_looked_at_enough() -> None:
    page = page_of(asked(evolve(THREE, few=1, looks=1), Scan(), limit=2, wanted=(("text", ("3",)),)))
    assert page.entries == ()
    assert (page.scans, page.more) == ((("Note", Scanned(3, "c", "b", False)),), True)


def test_a_page_carries_so_many_bytes_and_one_record_more() -> None:
    page = page_of(asked(evolve(THREE, carries=1), Scan()))
    assert [each.key for each in page.entries] == ["a"]
    assert dict(page.scans)["Note"] == Scanned(3, "c", "a", False)


def test_an_empty_space_is_read_by_one_page() -> None:
    page = page_of(asked(Hub(scans=True), Scan()))
    assert (page.entries, page.scans) == ((), (("Note", Scanned(0, "", "", True)),))
    assert (page.cursors, page.more) == ((("Note", 0),), False)


@pytest.mark.parametrize(("limit", "served"), [(2, ["Note"]), (4, ["Note", "Tag"]), (9, ["Note", "Tag"])])
def test_a_page_has_the_scans_of_several_objects_as_far_as_it_goes(limit: int, served: list[str]) -> None:
    hub = written(THREE, "ann", ("a", "tag a"), ("b", "tag b"), name="Tag")
    page = page_of(asked(hub, Scan(), Scan(), limit=limit))
    assert [name for name, _ in page.scans] == served
    assert page.more == (limit < 5)
    assert len(page.entries) == min(limit, 5)


def test_feeds_wait_until_the_scans_are_done() -> None:
    hub = written(THREE, "ann", ("a", "tag a"), name="Tag")
    page = page_of(asked(hub, Scan(), limit=9, cursor=1))
    assert {each.object for each in page.entries} == {"Note"}
    assert (page.cursors, page.more) == ((("Note", 4), ("Tag", 1)), True)


PURGED = evolve(written(THREE, "bob", ("b", None)), purged_through=4)


@pytest.mark.parametrize("scan", [Scan(3, "", "c"), Scan(3, "a", "c"), Scan(3, "c", "c")])
def test_a_scan_that_began_below_the_horizon_is_refused_on_every_page(scan: Scan) -> None:
    assert asked(PURGED, scan) == Refusal(HORIZON_PASSED)


def test_a_scan_that_begins_is_not_refused_whatever_its_device_has_uploaded() -> None:
    feed = Feed("Note", 0, scan=Scan())
    _, answer = pull(PURGED, Pull("ann", 1, None, None, (feed,), 9))
    assert isinstance(answer, Page)


def test_a_scan_of_a_version_that_there_is_not_says_that_the_hub_was_restored() -> None:
    answer = pull(THREE, Pull("ann", 1, None, 1, (Feed("Note", 0, scan=Scan(9, "a", "c")),), 9))[1]
    assert isinstance(answer, Refusal)
    assert answer.code == EPOCH_CHANGED


def test_a_hub_of_an_older_version_passes_over_what_is_said_of_scans() -> None:
    older = evolve(PURGED, scans=False)
    feed = Feed("Note", 0, own=True)
    plain = pull(older, Pull("reader", 0, None, None, (feed,), 2))
    with_scan = evolve(feed, scan=Scan(3, "a", "c"))
    assert pull(older, Pull("reader", 0, None, None, (with_scan,), 2)) == plain
    assert page_of(plain[1]).scans == ()
    assert [each.key for each in page_of(plain[1]).entries] == ["c", "a"]
