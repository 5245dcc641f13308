"""What was deleted, and forgotten by the hub, comes back by no read from the start: it is a conflict.

After a hub was restored its devices offer what it has lost. A record that it has not may also be one that was
deleted so long ago that the hub has forgotten it: whoever may have missed that asks, and the answer is in the
conflict log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rig.device import quick_store

from statesync import ConnectionLost, RemoteError, Store, SyncOptions
from statesync.testing import Fault, FaultyRemote

from ..real.local.hubs import RestorableHub
from ..real.sites import Site, note

NewSite = Callable[[str], Site]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RestorableHub]:
    hub = RestorableHub(tmp_path / "restorable.db")
    yield hub
    hub.close()


@pytest.fixture
def new(tmp_path: Path, hub: RestorableHub) -> Iterator[NewSite]:
    opened: list[Store] = []

    def make(name: str) -> Site:
        store = quick_store(tmp_path / f"{name}.db")
        opened.append(store)
        model = note(store)
        store.setup()
        return hub.take(Site(store, model, None))  # type: ignore[arg-type]

    yield make
    for store in opened:
        store.close()


def read(site: Site, pages: int, **options: Any) -> None:
    """Sync, a record a page, and have so many requests answered; the next one fails."""
    remote = FaultyRemote(site.remote, rates={})
    remote.inject(*[None] * pages, Fault.REFUSE)
    with suppress(ConnectionLost, RemoteError):
        site.store.scope(remote).sync(SyncOptions(max_attempts=1, download_batch_size=1, **options))


def lose(hub: RestorableHub, site: Site) -> None:
    """Restore the hub from a backup of just now: what ``site`` has written since is lost."""
    hub.back_up()
    site.model.create(id=f"after the backup {len(site.rows())}")
    site.sync()
    hub.restore()
    site.sync()


def delete_long_ago(hub: RestorableHub, site: Site, *keys: str) -> None:
    site.sync()
    for key in keys:
        site.model.delete_by_id(key)
    site.sync()
    hub.forget_deletes()


def logged(site: Site) -> list[tuple[str, Any, Any]]:
    return [(one.key, one.local, one.remote) for one in site.store.conflicts()]


@pytest.fixture
def pair(new: NewSite) -> tuple[Site, Site]:
    home, away = new("home"), new("away")
    home.model.create(id="first")
    home.sync()
    home.model.create(id="k", title="1")
    home.sync()
    away.sync()
    return home, away


def settle(*sites: Site) -> None:
    for _ in range(2):
        for site in sites:
            site.sync()


# -- offers ----------------------------------------------------------------------------------------


def test_it_is_not_offered_by_who_was_away_meanwhile(pair: tuple[Site, Site], hub: RestorableHub) -> None:
    home, away = pair
    delete_long_ago(hub, home, "k")
    lose(hub, home)
    settle(away, home)
    assert "k" not in {*home.rows(), *away.rows()}
    assert home.rows() == away.rows()
    assert logged(away) == [("k", {"title": "1"}, None)]


def test_it_is_not_offered_by_who_has_only_uploaded(
    new: NewSite, pair: tuple[Site, Site], hub: RestorableHub
) -> None:
    home, _ = pair
    sender = new("sender")
    sender.model.create(id="sent", title="2")
    sender.sync(sync_type="upload_only")
    delete_long_ago(hub, home, "sent")
    lose(hub, home)
    settle(sender, home)
    assert "sent" not in {*home.rows(), *sender.rows()}
    assert home.rows() == sender.rows()
    assert logged(sender) == [("sent", {"title": "2"}, None)]


def test_it_is_not_offered_by_who_had_begun_to_read_what_it_missed(
    pair: tuple[Site, Site], hub: RestorableHub
) -> None:
    """It has read records before k that are newer than the delete, and not learnt of the delete by that."""
    home, away = pair
    delete_long_ago(hub, home, "k")
    home.model.create(id="a newer")
    home.sync()
    home.model.create(id="newest")
    home.sync()
    read(away, 3)
    assert {"k", "a newer"} <= away.rows().keys()
    lose(hub, home)
    settle(away, home)
    assert "k" not in {*home.rows(), *away.rows()}
    assert home.rows() == away.rows()
    assert logged(away) == [("k", {"title": "1"}, None)]


def test_it_is_not_offered_where_the_hub_is_restored_twice(
    pair: tuple[Site, Site], hub: RestorableHub
) -> None:
    home, away = pair
    delete_long_ago(hub, home, "k")
    lose(hub, home)
    home.model.create(id="newer")
    home.sync()
    read(away, 3)
    assert "k" in away.rows()
    assert "newer" not in away.rows()
    lose(hub, home)
    settle(away, home)
    assert "k" not in {*home.rows(), *away.rows()}
    assert home.rows() == away.rows()
    assert logged(away) == [("k", {"title": "1"}, None)]


def test_a_delete_that_was_made_before_anybody_had_found_the_backup_is_a_conflict(
    pair: tuple[Site, Site], hub: RestorableHub
) -> None:
    """Its version is one that the other device has seen already, of something else."""
    home, away = pair
    hub.back_up()
    away.model.create(id="lost")
    away.sync()
    hub.restore()
    home.model.delete_by_id("k")
    home.sync()
    settle(away, home, away)
    assert away.rows() == home.rows() == {"first": (None,), "lost": (None,)}
    assert logged(away) == [("k", {"title": "1"}, None)]


# -- edits, while it is read again -------------------------------------------------------------------


def test_an_edit_amid_the_read_of_what_was_missed_does_not_bring_it_back(
    pair: tuple[Site, Site], hub: RestorableHub
) -> None:
    home, away = pair
    delete_long_ago(hub, home, "k")
    home.model.create(id="a newer")
    home.sync()
    home.model.create(id="newest")
    home.sync()
    read(away, 3)
    assert {"k", "a newer"} <= away.rows().keys()
    away.model.update(title="edited").where(away.model.id == "k").execute()
    settle(away, home)
    assert "k" not in {*home.rows(), *away.rows()}
    assert logged(away) == [("k", {"title": "edited"}, None)]


@pytest.mark.parametrize("folds", [True, False])
def test_an_edit_amid_the_read_after_a_new_epoch_does_not_bring_it_back(
    pair: tuple[Site, Site], hub: RestorableHub, folds: bool
) -> None:
    home, away = pair
    delete_long_ago(hub, home, "k")
    lose(hub, home)
    home.model.create(id="a newer")
    home.sync()
    home.model.create(id="newest")
    home.sync()
    read(away, 4)
    assert "k" in away.rows()
    assert "newest" not in away.rows()
    away.model.update(title="edited").where(away.model.id == "k").execute()
    assert [(one.key, one.base) for one in away.store.pending()] == [("k", 1)]
    if folds:
        away.fold()
        assert [(one.key, one.base) for one in away.store.pending()] == [("k", 1)]
    settle(away, home)
    assert "k" not in {*home.rows(), *away.rows()}
    assert logged(away) == [("k", {"title": "edited"}, None)]


# -- what was lost, and never deleted ----------------------------------------------------------------


@pytest.fixture
def remembering_little(pair: tuple[Site, Site], hub: RestorableHub) -> tuple[Site, Site]:
    """Both agree, and the hub has forgotten a delete that both have heard of."""
    home, away = pair
    home.model.create(id="gone")
    settle(home, away)
    delete_long_ago(hub, home, "gone")
    away.sync()
    return home, away


def test_an_edit_of_what_a_restored_hub_has_lost_is_no_conflict(
    remembering_little: tuple[Site, Site], hub: RestorableHub
) -> None:
    home, away = remembering_little
    hub.back_up()
    away.model.create(id="lost", title="1")
    away.sync()
    hub.restore()
    away.model.update(title="2").where(away.model.id == "lost").execute()
    settle(away, home)
    assert away.rows() == home.rows() == {"first": (None,), "k": ("1",), "lost": ("2",)}
    assert logged(away) == logged(home) == []


def test_an_edit_amid_the_read_of_what_a_restored_hub_has_lost_is_no_conflict(
    remembering_little: tuple[Site, Site], hub: RestorableHub
) -> None:
    home, away = remembering_little
    hub.back_up()
    away.model.create(id="lost", title="1")
    away.sync()
    hub.restore()
    read(away, 2)
    away.model.update(title="2").where(away.model.id == "lost").execute()
    settle(away, home)
    assert away.rows() == home.rows() == {"first": (None,), "k": ("1",), "lost": ("2",)}
    assert logged(away) == logged(home) == []


def test_an_edit_of_a_record_that_the_restored_hub_has_is_held_against_it(
    remembering_little: tuple[Site, Site], hub: RestorableHub
) -> None:
    """What is known of deletes says nothing of edits: the other one's is newer, and in the log."""
    home, away = remembering_little
    lose(hub, home)
    home.model.update(title="home").where(home.model.id == "k").execute()
    home.sync()
    away.model.update(title="away").where(away.model.id == "k").execute()
    settle(away, home)
    assert away.rows() == home.rows()
    assert [(one.key, one.local, one.remote) for one in away.store.conflicts()] == [
        ("k", {"title": "away"}, {"title": "home"})
    ]
