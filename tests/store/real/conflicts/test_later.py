"""A conflict that a policy leaves for later waits, visible with both sides, until it is resolved."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from typing import Any

import pytest
from peewee import DateField, JSONField, TextField

from statesync import LATER, Conflict, ConflictEntry, Phase, Store, SyncType, UsageError

from ..sites import Site

NewSite = Callable[..., Site]
KEY = "k"


def plan(store: Store) -> Any:
    class Plan(store.Model):  # type: ignore[name-defined, misc]
        title = TextField()
        day = DateField(null=True, column_name="on_day")
        tags = JSONField(null=True)

    return Plan


def edit(site: Site, **values: Any) -> None:
    assert site.model.update(values).where(site.model.id == KEY).execute() == 1


def later(conflict: Conflict) -> object:
    return LATER


@pytest.fixture
def pair(new_site: NewSite) -> tuple[Site, Site]:
    """Two devices that have both edited the title of one record; the second has synced."""
    a, b = new_site("a", plan), new_site("b", plan)
    a.model.create(id=KEY, title="1", day=datetime.date(2026, 1, 2), tags={"a": 1})
    a.sync()
    b.sync()
    edit(b, title="theirs")
    b.sync()
    edit(a, title="mine")
    return a, b


@pytest.fixture
def waiting(pair: tuple[Site, Site]) -> tuple[Site, Site]:
    """The same two, and the first has left the conflict for later."""
    assert pair[0].sync(conflict_policy=later).phase is Phase.DONE
    return pair


def titles(entry: ConflictEntry) -> list[Any]:
    sides = (entry.base, entry.local, entry.remote)
    return [None if side is None else side["title"] for side in sides]


def the_waiting(site: Site) -> ConflictEntry:
    (entry,) = site.store.conflicts(waiting=True)
    return entry


def title(site: Site) -> str:
    return str(site.model.get_by_id(KEY).title)


# -- what a policy is given ------------------------------------------------------------------------


def noting(seen: list[Conflict]) -> Callable[[Conflict], object]:
    """A policy that leaves everything for later, and keeps what it was asked."""

    def policy(conflict: Conflict) -> object:
        seen.append(conflict)
        return LATER

    return policy


def test_a_policy_sees_the_sides_as_instances_with_the_programs_values(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    seen: list[Conflict] = []
    edit(a, tags={"b": [2]})
    a.sync(conflict_policy=noting(seen))
    (conflict,) = seen
    assert (conflict.object, conflict.key) == ("Plan", KEY)
    assert conflict.before.tags == conflict.theirs.tags == {"a": 1}
    assert conflict.mine.tags == {"b": [2]}
    assert conflict.mine.day == datetime.date(2026, 1, 2)
    assert [row.title for row in (conflict.before, conflict.mine, conflict.theirs)] == ["1", "mine", "theirs"]
    assert {type(row) for row in (conflict.before, conflict.mine, conflict.theirs)} == {a.model}
    assert conflict.base == {"title": "1", "on_day": "2026-01-02", "tags": '{"a":1}'}


def test_a_policy_may_answer_with_an_instance(pair: tuple[Site, Site]) -> None:
    a, b = pair

    def both(conflict: Conflict) -> object:
        conflict.theirs.tags = conflict.theirs.tags | {"title": conflict.mine.title}
        conflict.theirs.day = datetime.date(2027, 3, 4)
        return conflict.theirs

    a.sync(conflict_policy=both)
    b.sync()
    for site in (a, b):
        found = site.model.get_by_id(KEY)
        assert (found.title, found.day) == ("theirs", datetime.date(2027, 3, 4))
        assert found.tags == {"a": 1, "title": "mine"}


def test_a_policy_may_answer_with_fields_and_the_programs_values(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.sync(conflict_policy=lambda conflict: {"day": datetime.date(2027, 3, 4), "tags": {"c": 3}})
    found = a.model.get_by_id(KEY)
    assert (found.title, found.day, found.tags) == ("theirs", datetime.date(2027, 3, 4), {"c": 3})


def test_a_deleted_side_has_no_instance(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    seen: list[Conflict] = []
    a.model.delete_by_id(KEY)
    a.sync(conflict_policy=noting(seen))
    assert seen[0].mine is None
    assert seen[0].theirs.title == "theirs"


def test_an_instance_of_another_record_is_refused(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    result = a.sync(conflict_policy=lambda conflict: a.model(id="other", title="x"))
    assert [(error.key, error.code) for error in result.errors.upload] == [(KEY, "policy_failed")]
    assert title(a) == "mine"


# -- what waits ------------------------------------------------------------------------------------


def test_it_waits_visible_with_both_sides(waiting: tuple[Site, Site]) -> None:
    a, _ = waiting
    entry = the_waiting(a)
    assert (entry.object, entry.key, entry.waiting, entry.kept) == ("Plan", KEY, True, None)
    assert titles(entry) == ["1", "mine", "theirs"]
    (change,) = a.store.pending()
    assert (change.key, change.in_conflict, change.error) == (KEY, True, None)
    assert a.store.conflicts() == []
    assert title(a) == "mine"


def test_the_session_that_found_it_tells_of_it(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    result = a.sync(conflict_policy="later")
    assert [(entry.key, entry.waiting) for entry in result.conflicts] == [(KEY, True)]
    assert result.errors.upload == ()


def test_no_later_session_repeats_anything(
    waiting: tuple[Site, Site], caplog: pytest.LogCaptureFixture
) -> None:
    a, _ = waiting

    def fail(conflict: Conflict) -> object:
        raise AssertionError("nobody asks again")

    a.model.create(id="other", title="goes up")
    for uploaded in (1, 0):
        result = a.sync(conflict_policy=fail)
        assert (result.stats.uploaded, result.errors.upload, result.conflicts) == (uploaded, (), ())
        assert len(result.stats.batches or ()) == 0
    assert caplog.records == []
    assert titles(the_waiting(a)) == ["1", "mine", "theirs"]


def test_a_newer_remote_side_replaces_the_one_that_was_kept(waiting: tuple[Site, Site]) -> None:
    a, b = waiting
    edit(b, title="theirs again")
    b.sync()
    a.sync()
    assert titles(the_waiting(a)) == ["1", "mine", "theirs again"]
    a.store.resolve(the_waiting(a), "local")
    assert a.sync().conflicts == ()
    b.sync()
    assert title(a) == title(b) == "mine"


def test_a_delete_at_the_hub_replaces_it_too(waiting: tuple[Site, Site]) -> None:
    a, b = waiting
    b.model.delete_by_id(KEY)
    b.sync()
    a.sync()
    assert titles(the_waiting(a)) == ["1", "mine", None]
    a.store.resolve(the_waiting(a), "remote")
    assert (a.rows(), a.store.pending()) == ({}, [])


def test_a_further_edit_keeps_it_waiting(waiting: tuple[Site, Site]) -> None:
    a, b = waiting
    edit(a, title="mine again")
    assert a.sync().stats.uploaded == 0
    assert titles(the_waiting(a)) == ["1", "mine again", "theirs"]
    b.sync()
    assert title(b) == "theirs"


def test_a_local_delete_keeps_it_waiting(waiting: tuple[Site, Site]) -> None:
    a, b = waiting
    a.model.delete_by_id(KEY)
    assert a.sync().stats.uploaded == 0
    assert titles(the_waiting(a)) == ["1", None, "theirs"]
    a.store.resolve(the_waiting(a), "local")
    a.sync()
    b.sync()
    assert a.rows() == b.rows() == {}


# -- settling it -----------------------------------------------------------------------------------


def test_the_local_side_goes_up_with_the_next_session(waiting: tuple[Site, Site]) -> None:
    a, b = waiting
    a.store.resolve(the_waiting(a), "local")
    (change,) = a.store.pending()
    assert (change.operation, change.base, change.in_conflict) == ("update", 2, False)
    (entry,) = a.store.conflicts()
    assert entry.kept is not None
    assert (entry.kept["title"], entry.waiting) == ("mine", False)
    assert a.store.conflicts(waiting=True) == []
    assert a.sync().conflicts == ()
    b.sync()
    assert title(a) == title(b) == "mine"


def test_the_remote_side_needs_no_upload(waiting: tuple[Site, Site]) -> None:
    a, b = waiting
    a.store.resolve(the_waiting(a), "remote")
    assert title(a) == "theirs"
    assert a.store.pending() == []
    edit(a, title="edited after")
    assert a.sync(sync_type=SyncType.UPLOAD_ONLY).conflicts == ()
    b.sync()
    assert title(b) == "edited after"


def test_an_edit_of_the_remote_side_is_no_conflict_where_the_feed_has_not_come_so_far(
    pair: tuple[Site, Site],
) -> None:
    a, _ = pair
    a.sync(sync_type=SyncType.UPLOAD_ONLY, conflict_policy=later)
    a.store.resolve(the_waiting(a), "remote")
    edit(a, title="edited after")
    (change,) = a.store.pending()
    assert change.base == 2
    assert a.sync(sync_type=SyncType.UPLOAD_ONLY).conflicts == ()


def test_values_settle_it_and_leave_the_rest_to_the_hub(waiting: tuple[Site, Site]) -> None:
    a, b = waiting
    edit(b, tags={"hub": True})
    b.sync()
    a.sync()
    a.store.resolve(the_waiting(a), {"title": "both", "day": datetime.date(2030, 1, 1)})
    a.sync()
    b.sync()
    for site in (a, b):
        found = site.model.get_by_id(KEY)
        assert (found.title, found.day, found.tags) == ("both", datetime.date(2030, 1, 1), {"hub": True})


def test_a_record_that_is_lost_here_is_not_deleted_by_a_decision_for_this_side(
    waiting: tuple[Site, Site],
) -> None:
    """As by a damaged page: nobody has deleted it, so there is no local side."""
    a, b = waiting
    a.unseen("DELETE FROM plan")
    entry = the_waiting(a)
    refused(a, entry, "local", "is not here any more")
    a.store.resolve(entry, "remote")
    assert title(a) == "theirs"
    a.sync()
    b.sync()
    assert title(b) == "theirs"


def test_it_can_be_named_by_its_number(waiting: tuple[Site, Site]) -> None:
    a, _ = waiting
    a.store.resolve(the_waiting(a).id, "remote")
    assert title(a) == "theirs"


def test_a_rollback_settles_it_for_the_hub_and_logs_what_was_here(waiting: tuple[Site, Site]) -> None:
    a, _ = waiting
    assert a.store.rollback() == 1
    assert title(a) == "theirs"
    (entry,) = a.store.conflicts()
    assert titles(entry) == ["1", "mine", "theirs"]
    assert a.store.conflicts(waiting=True) == []


@pytest.mark.parametrize("end", ["clear", "reset", "drop"])
def test_who_throws_the_changes_away_throws_it_away_too(waiting: tuple[Site, Site], end: str) -> None:
    a, _ = waiting
    getattr(a.store, end)(**({} if end == "drop" else {"discard_pending": True}))
    assert a.execute("SELECT * FROM statesync_conflict") == []


# -- bringing back ---------------------------------------------------------------------------------


def logged(pair: tuple[Site, Site], policy: str = "server_wins") -> ConflictEntry:
    pair[0].sync(conflict_policy=policy)
    (entry,) = pair[0].store.conflicts()
    return entry


def test_the_loser_of_a_logged_conflict_comes_back_as_an_ordinary_edit(pair: tuple[Site, Site]) -> None:
    a, b = pair
    entry = logged(pair)
    assert title(a) == "theirs"
    a.store.resolve(entry, "local")
    assert a.operations() == {KEY: "update"}
    assert a.sync().conflicts == ()
    b.sync()
    assert title(a) == title(b) == "mine"


def test_what_was_not_at_stake_stays_as_it_is_now(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    entry = logged(pair)
    edit(a, tags={"later": 1})
    a.store.resolve(entry, "local")
    assert (title(a), a.model.get_by_id(KEY).tags) == ("mine", {"later": 1})


def test_a_record_that_the_hub_deleted_comes_back(new_site: NewSite, pair: tuple[Site, Site]) -> None:
    a, b = pair
    b.model.delete_by_id(KEY)
    b.sync()
    entry = logged(pair)
    assert a.rows() == {}
    a.store.resolve(entry, "local")
    a.sync()
    b.sync()
    assert title(a) == title(b) == "mine"


def test_what_the_hub_lost_to_the_device_comes_back(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.store.resolve(logged(pair, "client_wins"), "remote")
    assert title(a) == "theirs"
    assert a.operations() == {KEY: "update"}


# -- what is refused -------------------------------------------------------------------------------


def refused(a: Site, conflict: Any, choice: object, words: str) -> None:
    """It is refused in these words, and nothing has changed."""
    before = a.rows(), a.store.pending(), a.store.conflicts(), a.store.conflicts(waiting=True)
    with pytest.raises(UsageError, match=words):
        a.store.resolve(conflict, choice)
    assert (a.rows(), a.store.pending(), a.store.conflicts(), a.store.conflicts(waiting=True)) == before


def test_nobody_resolves_twice(waiting: tuple[Site, Site]) -> None:
    a, _ = waiting
    entry = the_waiting(a)
    a.store.resolve(entry, "remote")
    refused(a, entry, "local", "has been resolved already")
    refused(a, entry.id, "remote", "nothing to bring back")


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("both", "'local', 'remote' or values"),
        ({"colour": "red"}, r"no columns \['colour'\]; it has title, on_day, tags"),
        ({"id": "other"}, r"no columns \['id'\]"),
        ({"title": None}, "its table refuses that record"),
        ({"title": object()}, "title"),
        ({"title": 2**70}, "title"),
        (7, "7 is no record of Plan"),
    ],
)
def test_values_that_do_not_fit_are_refused(waiting: tuple[Site, Site], choice: Any, words: str) -> None:
    a, _ = waiting
    refused(a, the_waiting(a), choice, words)


def test_values_that_do_not_fit_a_logged_one_are_refused(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    entry = logged(pair)
    refused(a, entry, {"colour": "red"}, "no columns")
    refused(a, entry, {"title": None}, "its table refuses that record")


def test_a_record_that_was_deleted_after_its_conflict_is_not_made_anew(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    entry = logged(pair)
    a.model.delete_by_id(KEY)
    a.sync()
    refused(a, entry, "local", "was deleted after its conflict")


def test_a_conflict_that_nobody_knows_is_refused(pair: tuple[Site, Site]) -> None:
    refused(pair[0], 7, "local", "there is no conflict 7")


# -- a policy that fails ---------------------------------------------------------------------------


def test_a_policy_that_fails_is_told_of_each_session_and_explained_once(
    pair: tuple[Site, Site], caplog: pytest.LogCaptureFixture
) -> None:
    a, _ = pair

    def fail(conflict: Conflict) -> object:
        raise ZeroDivisionError("broken")

    caplog.set_level(logging.WARNING)
    for _ in range(3):
        result = a.sync(conflict_policy=fail)
        assert [(error.key, error.code) for error in result.errors.upload] == [(KEY, "policy_failed")]
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is not None
