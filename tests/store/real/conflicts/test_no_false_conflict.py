"""No conflict is reported where the device's base is the hub's record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from statesync import BadOptions, Conflict, SyncOptions, SyncType

from ..sites import Site, note

NewSite = Callable[..., Site]

UP = SyncType.UPLOAD_ONLY
KEY = "k"


def edit(site: Site, title: str) -> None:
    assert site.model.update(title=title).where(site.model.id == KEY).execute() == 1


@pytest.fixture
def pair(new_site: NewSite) -> tuple[Site, Site]:
    """Two devices with one record, which the second has edited since, and the first as well."""
    a, b = new_site("a", note), new_site("b", note)
    a.model.create(id=KEY, title="1")
    a.sync()
    b.sync()
    edit(b, "theirs")
    b.sync()
    edit(a, "mine")
    return a, b


def exceptions(site: Site) -> list[tuple[Any, ...]]:
    return site.execute("SELECT object, key, version FROM statesync_base")


def base_of(site: Site) -> int:
    (change,) = site.store.pending()
    return change.base


def test_an_edit_of_what_a_conflict_has_brought_is_no_conflict(pair: tuple[Site, Site]) -> None:
    a, b = pair
    assert len(a.sync(sync_type=UP, conflict_policy="server_wins").conflicts) == 1
    assert a.rows() == {KEY: ("theirs",)}
    edit(a, "mine after all")
    result = a.sync(sync_type=UP, conflict_policy="server_wins")
    assert (result.conflicts, result.stats.uploaded) == ((), 1)
    b.sync()
    assert a.rows() == b.rows() == {KEY: ("mine after all",)}
    assert len(a.store.conflicts()) == 1


def test_the_base_of_such_an_edit_is_the_version_that_came(pair: tuple[Site, Site]) -> None:
    """Version 1 is the record, 2 the other's edit; pending() says what a fold makes of it."""
    a, _ = pair
    a.sync(sync_type=UP, conflict_policy="server_wins")
    edit(a, "again")
    assert base_of(a) == 2
    a.fold()
    assert base_of(a) == 2


def test_a_rollback_of_a_merge_leads_back_to_the_version_that_came(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.sync(sync_type=UP, conflict_policy="server_wins")
    edit(a, "again")
    assert a.store.rollback() == 1
    assert a.rows() == {KEY: ("theirs",)}
    edit(a, "once more")
    assert base_of(a) == 2


def test_a_later_edit_of_somebody_else_is_a_conflict_all_the_same(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.sync(sync_type=UP, conflict_policy="server_wins")
    edit(b, "theirs again")
    b.sync()
    edit(a, "mine again")
    (conflict,) = a.sync(sync_type=UP, conflict_policy="server_wins").conflicts
    assert [side and side["title"] for side in (conflict.base, conflict.local, conflict.remote)] == [
        "theirs",
        "mine again",
        "theirs again",
    ]


def test_what_was_remembered_is_gone_once_the_feed_has_come_so_far(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.sync(sync_type=UP, conflict_policy="server_wins")
    assert exceptions(a) == [("Note", KEY, 2)]
    a.sync()
    assert exceptions(a) == []


def test_a_conflict_behind_the_cursor_is_not_remembered(pair: tuple[Site, Site]) -> None:
    """A download has read the other's edit already, and kept it beside ours."""
    a, _ = pair
    a.sync(sync_type=SyncType.DOWNLOAD_ONLY)
    a.sync(sync_type=UP, conflict_policy="server_wins")
    assert a.rows() == {KEY: ("theirs",)}
    assert exceptions(a) == []
    edit(a, "again")
    assert a.sync(sync_type=UP, conflict_policy="server_wins").conflicts == ()


@pytest.mark.parametrize("end", ["clear", "reset", "drop"])
def test_who_starts_over_forgets_it(pair: tuple[Site, Site], end: str) -> None:
    a, _ = pair
    a.sync(sync_type=UP, conflict_policy="server_wins")
    getattr(a.store, end)()
    assert exceptions(a) == []


def test_a_record_that_is_read_again_from_the_start_keeps_its_base(pair: tuple[Site, Site]) -> None:
    """Another filter sets the cursor back; nobody is asked about an edit of what the hub has."""
    a, b = pair
    a.sync(conflict_policy="client_wins")
    b.sync()
    edit(b, "theirs")
    b.sync()
    a.sync()
    asked: list[Conflict] = []
    a.execute(
        "UPDATE statesync_cursor SET cursor = 0, rereading = 'horizon', reread_from = cursor RETURNING 1"
    )
    edit(a, "mine")
    result = a.sync(sync_type=UP, conflict_policy=asked.append)
    assert (asked, result.conflicts) == ([], ())
    b.sync()
    assert b.rows() == {KEY: ("mine",)}


def test_a_delete_of_what_the_hub_has_is_no_conflict(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.sync(sync_type=UP, conflict_policy="server_wins")
    a.model.delete_by_id(KEY)
    assert a.sync(sync_type=UP, conflict_policy="server_wins").conflicts == ()
    b.sync()
    assert a.rows() == b.rows() == {}


def test_a_record_that_both_made_and_this_device_deleted_comes_from_the_hub(new_site: NewSite) -> None:
    a, b = new_site("a", note), new_site("b", note)
    b.model.create(id=KEY, title="theirs")
    b.sync()
    a.model.create(id=KEY, title="mine")
    a.sync(sync_type=SyncType.DOWNLOAD_ONLY)
    a.model.delete_by_id(KEY)
    for _ in range(2):
        a.sync()
        b.sync()
    assert a.rows() == b.rows()


def test_a_policy_of_three_records_still_works(pair: tuple[Site, Site]) -> None:
    a, _ = pair

    def both(base: Any, local: Any, remote: Any) -> Any:
        return {"title": f"{base['title']} {local['title']} {remote['title']}"}

    a.sync(conflict_policy=both)
    assert a.rows() == {KEY: ("1 mine theirs",)}
    with pytest.raises(BadOptions, match="neither a Conflict"):
        SyncOptions(conflict_policy=lambda one, two: None)
