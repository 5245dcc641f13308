"""A rule of a table that holds a record fast is told of in words when that is to go; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from statesync import Phase, StoreError, UsageError
from statesync.hub import Hub, LocalRemote
from statesync.wire import Page, Pull

from ..sites import Site
from .tables import item, trigger

NewSite = Callable[..., Site]
rules = pytest.mark.parametrize("action", ["ABORT, 'not here'", "ROLLBACK, 'not here'", "IGNORE"])
tables = pytest.mark.parametrize("is_unique", [False, True])


def make_site(new_site: NewSite, when: str, condition: str, action: str, *, is_unique: bool) -> Site:
    """Open a device that has synced one record, k, and then got a rule; the rule's text is "fast"."""
    site = new_site("a", item)
    if is_unique:
        site.execute("CREATE UNIQUE INDEX one ON item (title)")
    site.model.create(id="k", title="fast" if condition.startswith("OLD") else "free")
    site.sync()
    site.execute(trigger(when, condition, action))
    return site


def held(site: Site) -> tuple[Any, ...]:
    return site.rows(), site.store.pending(), site.store.quarantine(), site.store.database.in_transaction()


@rules
@tables
@pytest.mark.parametrize("forget", ["clear", "reset"])
def test_forgetting_records_that_a_rule_holds_fast_is_refused_and_changes_nothing(
    new_site: NewSite, action: str, is_unique: bool, forget: str
) -> None:
    a = make_site(new_site, "BEFORE DELETE", "OLD.title = 'fast'", action, is_unique=is_unique)
    a.model.create(id="other", title="x")
    a.sync()
    before = held(a)
    with pytest.raises(UsageError, match=r"Item stay.*item.*nothing was changed.*drop"):
        getattr(a.store, forget)()
    assert held(a) == before
    a.execute("DROP TRIGGER mine")
    getattr(a.store, forget)()
    assert a.rows() == {}
    a.sync()
    assert a.rows().keys() == {"k", "other"}


@rules
@tables
def test_a_new_record_that_a_rule_holds_fast_is_not_taken_back_and_its_change_waits(
    new_site: NewSite, action: str, is_unique: bool
) -> None:
    a = make_site(new_site, "BEFORE DELETE", "OLD.title = 'fast'", action, is_unique=is_unique)
    a.model.create(id="new", title="fast" if not is_unique else "first")
    a.execute("UPDATE item SET title = 'free' WHERE id = 'k'")
    a.execute("UPDATE item SET title = 'fast' WHERE id = 'new'")
    before = held(a)
    with pytest.raises(UsageError, match=r"Item new cannot be taken back.*(not here|passes over)"):
        a.store.rollback(a.model.get_by_id("new"))
    assert held(a) == before
    a.execute("DROP TRIGGER mine")
    assert a.store.rollback() == 2
    assert a.rows() == {"k": ("fast", None)}


@rules
def test_an_edit_that_a_rule_lets_nobody_undo_waits(new_site: NewSite, action: str) -> None:
    a = make_site(new_site, "BEFORE UPDATE", "NEW.title = 'free'", action, is_unique=False)
    a.execute("UPDATE item SET title = 'edited'")
    before = held(a)
    with pytest.raises(UsageError, match=r"Item k cannot be taken back.*(not here|passes over)"):
        a.store.rollback()
    assert held(a) == before


@pytest.mark.parametrize("action", ["ABORT, 'not here'", "IGNORE"])
def test_an_edit_is_taken_back_where_a_rule_only_forbids_deletes(new_site: NewSite, action: str) -> None:
    """A table with unique values has its records deleted on the way, where that is possible."""
    a = make_site(new_site, "BEFORE DELETE", "OLD.title = 'fast'", action, is_unique=True)
    a.execute("UPDATE item SET title = 'free'")
    a.execute("UPDATE item SET title = 'fast'")
    a.execute("UPDATE item SET n = 5")
    assert a.store.rollback() == 1
    assert (a.rows(), a.store.pending()) == ({"k": ("fast", None)}, [])


def test_what_rolls_a_transaction_back_is_told_of_and_not_what_comes_of_it(new_site: NewSite) -> None:
    a = make_site(new_site, "BEFORE DELETE", "OLD.title = 'fast'", "ROLLBACK, 'not here'", is_unique=False)
    before = held(a)
    with pytest.raises(StoreError, match="not here"), a.store.untracked():
        a.execute("DELETE FROM item")
    assert held(a) == before
    a.execute("UPDATE item SET title = 'free'")
    assert a.operations() == {"k": "update"}


@rules
@pytest.mark.parametrize("choice", ["server_wins", "later"])
def test_a_delete_that_wins_a_conflict_waits_while_a_rule_holds_the_record(
    new_site: NewSite, action: str, choice: str
) -> None:
    a = make_site(new_site, "BEFORE DELETE", "OLD.title = 'fast'", action, is_unique=False)
    b = new_site("b", item)
    b.sync()
    b.model.delete().execute()
    b.sync()
    a.execute("UPDATE item SET n = 5")
    result = a.sync(conflict_policy=choice)
    if choice == "later":
        (entry,) = a.store.conflicts(waiting=True)
        with pytest.raises(UsageError, match=r"Item k stays as it is.*(not here|passes over)"):
            a.store.resolve(entry, "remote")
    else:
        assert [error.key for error in result.errors.upload] == ["k"]
    assert (a.rows(), a.operations()) == ({"k": ("fast", 5)}, {"k": "update"})


class WithoutScans(LocalRemote):
    """A way to a hub of the version before, which passes over what it does not know of a request."""

    def pull(self, request: Pull) -> Page:
        feeds = {name: replace(feed, scan=None) for name, feed in request.objects.items()}
        return super().pull(replace(request, objects=feeds))


@rules
@pytest.mark.parametrize("way", [LocalRemote, WithoutScans])
def test_a_record_that_went_unseen_and_is_held_fast_stops_no_session_and_goes_with_the_rule(
    new_site: NewSite, hub: Hub, action: str, way: type[LocalRemote]
) -> None:
    """The hub has forgotten the deletes, so they are found by a read from the start."""
    a = make_site(new_site, "BEFORE DELETE", "OLD.title = 'fast'", action, is_unique=False)
    b = new_site("b", item)
    b.sync()
    b.model.create(id="other", title="x")
    b.sync()
    a.sync()
    b.model.delete().execute()
    b.sync()
    hub.purge("space", 1 << 60)
    a.remote = way(hub, "space")
    for _ in range(2):
        result = a.sync()
        assert (result.phase, result.quarantined) == (Phase.DONE, 1)
        (waiting,) = a.store.quarantine()
        assert (waiting.key, waiting.record) == ("k", None)
        assert a.rows() == {"k": ("fast", None)}
    a.execute("DROP TRIGGER mine")
    assert a.sync().quarantined == 0
    assert (a.rows(), a.store.pending()) == ({}, [])
