"""A delete is forgotten only where the record certainly never left the device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from statesync import ConnectionLost, RemoteError, SyncOptions, client_wins, server_wins
from statesync.testing import Fault, FaultyRemote

from ..sites import Site
from .hubs import RestorableHub

NewSite = Callable[..., Site]


def waiting(site: Site) -> list[tuple[str, str]]:
    told = [(change.key, change.operation) for change in site.store.pending()]
    site.fold()
    assert [(change.key, change.operation) for change in site.store.pending()] == told
    return told


# -- a restored hub (the first program) ------------------------------------------------------------


@pytest.fixture
def offered_again(pair: tuple[Site, Site], restorable: RestorableHub) -> tuple[Site, Site]:
    """Both have k, which the hub has lost; the first has read again, and so offers it."""
    a, b = pair
    restorable.back_up()
    a.model.create(id="k", title="1")
    a.sync()
    b.sync()
    restorable.restore()
    a.sync(sync_type="download_only")
    assert waiting(a) == [("k", "insert")]
    return a, b


def check_that_it_is_gone(a: Site, b: Site, other_reads_first: bool) -> None:
    """Sync both; the record k is on none of them, and in the log of the other.

    That one had it, and a hub does not tell whether it was deleted before or after the backup took its place.
    """
    if other_reads_first:
        b.sync(sync_type="download_only")
    for _ in range(2):
        for site in (a, b):
            site.sync()
    assert a.rows() == b.rows() == {"first": (None,)}
    logged = [(one.key, one.local, one.remote) for one in b.store.conflicts()]
    assert logged == [("k", {"title": "1"}, None)]


@pytest.mark.parametrize("other_reads_first", [False, True])
def test_a_record_that_was_offered_again_and_deleted_does_not_come_back(
    offered_again: tuple[Site, Site], other_reads_first: bool
) -> None:
    a, b = offered_again
    a.model.delete_by_id("k")
    assert waiting(a) == [("k", "delete")]
    check_that_it_is_gone(a, b, other_reads_first)


@pytest.mark.crossed
@pytest.mark.parametrize("other_reads_first", [False, True])
@pytest.mark.parametrize("resets_first", [False, True])
def test_the_delete_of_what_a_restored_hub_has_lost_is_told_to_it_after_a_reset_too(
    offered_again: tuple[Site, Site], resets_first: bool, other_reads_first: bool
) -> None:
    """The hub has nothing to delete, and the other device has the record: so the delete is kept for it."""
    a, b = offered_again
    if not resets_first:
        a.model.delete_by_id("k")
    a.store.reset(keep_records=True)
    if resets_first:
        a.model.delete_by_id("k")
    assert ("k", "delete") in waiting(a)
    check_that_it_is_gone(a, b, other_reads_first)


@pytest.mark.parametrize("policy", [server_wins, client_wins])
def test_a_record_that_another_device_has_brought_back_meanwhile_is_a_conflict_in_the_log(
    offered_again: tuple[Site, Site], policy: Any
) -> None:
    a, b = offered_again
    b.sync()
    b.sync()
    a.model.delete_by_id("k")
    a.sync(conflict_policy=policy)
    a.sync()
    b.sync()
    assert [(one.key, one.local, one.remote) for one in a.store.conflicts()] == [("k", None, {"title": "1"})]
    assert a.rows() == b.rows()
    assert ("k" in a.rows()) is (policy is server_wins)


def test_what_was_offered_again_reaches_a_hub_that_was_restored_once_more(
    offered_again: tuple[Site, Site], restorable: RestorableHub
) -> None:
    a, b = offered_again
    b.model.create(id="more")
    b.sync()
    a.sync(sync_type="download_only")
    restorable.restore()
    for _ in range(3):
        for site in (a, b):
            site.sync()
    assert a.rows() == b.rows() == {"first": (None,), "k": ("1",), "more": (None,)}
    assert a.store.conflicts() == b.store.conflicts() == []


def test_the_delete_of_what_was_offered_to_the_same_hub_after_a_reset_is_told(
    pair: tuple[Site, Site],
) -> None:
    a, b = pair
    a.store.reset(keep_records=True)
    a.model.delete_by_id("first")
    assert waiting(a) == [("first", "delete")]
    a.sync(conflict_policy=client_wins)
    a.sync()
    b.sync()
    assert a.rows() == b.rows() == {}


# -- a newer remote side (the second program) ------------------------------------------------------


@pytest.mark.parametrize("policy", [server_wins, client_wins])
def test_a_key_that_two_devices_make_and_one_deletes_ends_alike_on_both(
    pair: tuple[Site, Site], policy: Any
) -> None:
    a, b = pair
    a.model.create(id="k", title="a")
    a.sync()
    b.model.create(id="k", title="b")
    b.sync(sync_type="download_only")
    b.model.delete_by_id("k")
    assert waiting(b) == [("k", "delete")]
    b.sync(conflict_policy=policy)
    for site in (b, a, b):
        site.sync()
    assert a.rows() == b.rows()
    assert ("k" in a.rows()) is (policy is server_wins)
    assert [(one.key, one.local, one.remote) for one in b.store.conflicts()] == [("k", None, {"title": "a"})]


def test_a_conflict_that_could_not_be_resolved_tells_that_the_hub_has_the_record(
    pair: tuple[Site, Site],
) -> None:
    a, b = pair
    a.model.create(id="k", title="a")
    a.sync()
    b.model.create(id="k", title="b")

    def undecided(*sides: object) -> Any:
        raise ZeroDivisionError

    b.sync(conflict_policy=undecided)
    b.model.delete_by_id("k")
    assert waiting(b) == [("k", "delete")]
    b.sync(conflict_policy=client_wins)
    b.sync()
    a.sync()
    assert "k" not in {*a.rows(), *b.rows()}


# -- let go from a doubt ---------------------------------------------------------------------------


def test_a_record_whose_doubt_was_let_go_is_deleted_at_the_hub(
    pair: tuple[Site, Site], restorable: RestorableHub
) -> None:
    """The hub applied it, and its answer was lost; then a backup with that batch took the hub's place."""
    a, b = pair
    a.model.create(id="k", title="1")
    remote = FaultyRemote(a.remote, rates={})
    remote.inject(Fault.LOSE_ANSWER)
    with suppress(ConnectionLost):
        a.store.scope(remote).sync(SyncOptions(max_attempts=1))
    restorable.back_up()
    b.model.create(id="more")
    b.sync()
    restorable.restore()
    b.sync()
    a.sync(sync_type="download_only")
    assert ("k", "insert") in waiting(a)
    a.model.delete_by_id("k")
    assert ("k", "delete") in waiting(a)
    for _ in range(3):
        for site in (a, b):
            site.sync(conflict_policy=client_wins)
    assert a.rows() == b.rows()
    assert "k" not in a.rows()


# -- what is forgotten all the same ----------------------------------------------------------------


def test_a_record_that_was_made_and_deleted_here_is_nothing(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.model.create(id="k")
    a.fold()
    a.model.delete_by_id("k")
    assert waiting(a) == []
    assert a.sync().stats.uploaded == 0


def test_a_record_of_a_batch_that_was_refused_as_a_whole_is_nothing(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.model.create(id="k")
    remote = FaultyRemote(a.remote, rates={})
    remote.inject(Fault.REFUSE)
    with suppress(RemoteError):
        a.store.scope(remote).sync(SyncOptions(max_attempts=1))
    a.model.delete_by_id("k")
    assert waiting(a) == []
