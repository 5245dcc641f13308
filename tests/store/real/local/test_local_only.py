"""What was written in ``untracked()`` is local only: nothing sends it, and nothing but news overwrites it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from peewee import ForeignKeyField, TextField

from statesync import Difference, Store, client_wins

from ..sites import Site, note
from .hubs import Meanwhile, RestorableHub

NewSite = Callable[..., Site]

LOCAL = {"i": ("made here",), "u": ("written here",), "o": ("o",)}
"""What the device has after the local writes: it has deleted d."""
AT_HUB = {"u": ("u",), "d": ("d",), "o": ("o",)}


@pytest.fixture
def restorable(tmp_path: Path) -> Iterator[RestorableHub]:
    hub = RestorableHub(tmp_path / "restorable.db")
    yield hub
    hub.close()


@pytest.fixture
def pair(new_site: NewSite, restorable: RestorableHub) -> tuple[Site, Site]:
    """Two devices with u, d and o; the first has written all but o locally, and i."""
    a, b = restorable.take(new_site("a", note)), restorable.take(new_site("b", note))
    for key in AT_HUB:
        a.model.create(id=key, title=key)
    a.sync()
    b.sync()
    write_locally(a)
    assert a.operations() == {}
    return a, b


READ_AGAIN = "UPDATE statesync_cursor SET cursor = 0, rereading = 'horizon', reread_from = cursor"
"""What a device does that has missed deletes."""


def write_locally(a: Site) -> None:
    with a.store.untracked():
        a.model.create(id="i", title="made here")
        a.model.update(title="written here").where(a.model.id == "u").execute()
        a.model.delete_by_id("d")


def edit(site: Site, key: str, title: str) -> None:
    assert site.model.update(title=title).where(site.model.id == key).execute() == 1


# -- what is left alone ----------------------------------------------------------------------------


def with_another_filter(a: Site, hub: RestorableHub) -> None:
    a.sync(filter={"Note": {"title": "o"}})
    assert a.rows() == LOCAL
    a.sync()


def with_a_new_column(a: Site, hub: RestorableHub) -> None:
    a.execute("ALTER TABLE note ADD COLUMN size INTEGER")
    with Store(a.store.database.database) as later:

        class Note(later.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True)
            size = TextField(null=True)

        later.setup()
        later.scope(a.remote).sync()


def with_a_doctor(a: Site, hub: RestorableHub) -> None:
    a.execute("UPDATE statesync_cursor SET cursor = -7")
    assert a.store.examine() != []
    assert a.store.repair() == []
    a.sync()


def with_lost_triggers(a: Site, hub: RestorableHub) -> None:
    a.execute("DROP TRIGGER statesync_Note_update")
    assert a.store.repair() == []
    a.sync()


def with_a_restored_hub(a: Site, hub: RestorableHub) -> None:
    hub.back_up()
    a.model.create(id="later", title="lost by the hub")
    a.sync()
    a.model.delete_by_id("later")
    a.sync()
    hub.restore()
    a.sync()


def with_missed_deletes(a: Site, hub: RestorableHub) -> None:
    a.execute(READ_AGAIN)
    a.sync()


REREADS = [
    with_another_filter,
    with_a_new_column,
    with_a_doctor,
    with_lost_triggers,
    with_a_restored_hub,
    with_missed_deletes,
]


@pytest.mark.parametrize("begin", REREADS)
def test_a_read_from_the_start_leaves_it_alone_and_nobody_gets_it(
    pair: tuple[Site, Site], restorable: RestorableHub, begin: Callable[[Site, RestorableHub], None]
) -> None:
    a, b = pair
    begin(a, restorable)
    for _ in range(2):
        assert (a.rows(), a.operations()) == (LOCAL, {})
        a.sync()
        b.sync()
    assert b.rows() == AT_HUB
    assert a.store.examine() == []
    assert a.store.scope(a.remote).diagnose().is_consistent()


def test_a_hub_that_lost_the_record_is_not_offered_what_is_local_only(
    new_site: NewSite, restorable: RestorableHub
) -> None:
    a, b = restorable.take(new_site("a", note)), restorable.take(new_site("b", note))
    a.sync()
    restorable.back_up()
    for name in AT_HUB:
        a.model.create(id=name, title=name)
    a.sync()
    write_locally(a)
    restorable.restore()
    for site in (a, a, b):
        site.sync()
    assert b.rows() == {"o": ("o",)}
    assert a.rows() == LOCAL


def test_an_older_version_of_a_restored_hub_is_no_news(
    pair: tuple[Site, Site], restorable: RestorableHub
) -> None:
    a, b = pair
    restorable.back_up()
    edit(b, "u", "second")
    edit(b, "d", "second")
    b.sync()
    a.sync()
    write_locally_again = a.store.untracked()
    with write_locally_again:
        edit(a, "u", "written here")
        a.model.delete_by_id("d")
    restorable.restore()
    a.sync()
    assert a.rows() == LOCAL
    assert a.operations() == {}


def test_own_writes_that_the_feed_has_not_shown_are_no_news(new_site: NewSite) -> None:
    """The device has uploaded, and never read: its cursor is behind its own writes."""
    a = new_site("a", note)
    a.model.create(id="u", title="u")
    a.sync(sync_type="upload_only")
    with a.store.untracked():
        edit(a, "u", "written here")
    a.sync()
    a.execute(READ_AGAIN)
    a.sync()
    assert a.rows() == {"u": ("written here",)}


def with_another_filter_back(a: Site) -> None:
    a.sync(filter={"Note": {"title": "nothing"}})
    a.sync()


def test_a_hundred_syncs_of_others_leave_it_alone(pair: tuple[Site, Site]) -> None:
    a, b = pair
    for number in range(5):
        edit(b, "o", f"{number}")
        b.sync()
        a.sync()
    assert a.rows() == {**LOCAL, "o": ("4",)}


# -- what ends it ----------------------------------------------------------------------------------


def test_a_newer_version_of_the_hub_is_an_ordinary_download(pair: tuple[Site, Site]) -> None:
    a, b = pair
    edit(b, "u", "news")
    edit(b, "d", "news")
    b.model.create(id="i", title="news")
    b.sync()
    a.sync()
    assert a.rows() == b.rows() == {"u": ("news",), "d": ("news",), "i": ("news",), "o": ("o",)}
    assert a.store.scope(a.remote).diagnose().objects[0].local_only == 0


def test_a_delete_at_the_hub_is_news_of_what_it_had(pair: tuple[Site, Site]) -> None:
    a, b = pair
    b.model.delete_by_id("u")
    b.sync()
    a.sync()
    assert a.rows() == {"i": LOCAL["i"], "o": ("o",)}


@pytest.mark.parametrize(
    ("statement", "operation", "at_hub"),
    [
        ("UPDATE note SET title = 'x' WHERE id = 'i'", ("i", "insert", 0), {**AT_HUB, "i": ("x",)}),
        ("UPDATE note SET title = 'x' WHERE id = 'u'", ("u", "update", 3), {**AT_HUB, "u": ("x",)}),
        ("INSERT INTO note VALUES ('d', 'x')", ("d", "update", 3), {**AT_HUB, "d": ("x",)}),
        ("REPLACE INTO note VALUES ('i', 'x')", ("i", "insert", 0), {**AT_HUB, "i": ("x",)}),
        ("DELETE FROM note WHERE id = 'u'", ("u", "delete", 3), {"d": ("d",), "o": ("o",)}),
        ("DELETE FROM note WHERE id = 'i'", None, AT_HUB),
    ],
)
def test_a_tracked_write_of_it_is_an_ordinary_change(
    pair: tuple[Site, Site], statement: str, operation: tuple[str, str, int] | None, at_hub: Any
) -> None:
    a, b = pair
    a.execute(statement)
    told = [(change.key, change.operation, change.base) for change in a.store.pending()]
    assert told == ([operation] if operation else [])
    a.fold()
    assert [(change.key, change.operation, change.base) for change in a.store.pending()] == told
    result = a.sync()
    b.sync()
    assert (b.rows(), result.conflicts) == (at_hub, ())
    assert a.store.examine() == []
    left = {"i", "u", "d"} - ({operation[0]} if operation else {"i"})
    assert a.store.scope(a.remote).diagnose().objects[0].local_only == len(left)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE note SET title = 'x'",
        "UPDATE note SET title = 'x' WHERE id = 'i'; UPDATE note SET title = 'y' WHERE id = 'i'",
        "DELETE FROM note WHERE id = 'u'",
        "INSERT INTO note VALUES ('d', 'x')",
        "INSERT INTO note VALUES ('d', 'x'); DELETE FROM note WHERE id = 'd'",
    ],
)
@pytest.mark.parametrize("begin", REREADS[:1])
def test_a_rollback_leads_back_to_what_was_local_only(
    pair: tuple[Site, Site],
    restorable: RestorableHub,
    statement: str,
    begin: Callable[[Site, RestorableHub], None],
) -> None:
    a, _ = pair
    for one in statement.split(";"):
        a.execute(one)
        a.fold()
    assert a.operations() != {}
    a.store.rollback()
    assert (a.rows(), a.operations()) == (LOCAL, {})
    begin(a, restorable)
    assert (a.rows(), a.operations()) == (LOCAL, {})


def test_a_rollback_takes_the_hubs_record_where_that_is_newer(pair: tuple[Site, Site]) -> None:
    a, b = pair
    edit(a, "u", "tracked")
    edit(b, "u", "news")
    b.sync()
    a.sync(sync_type="download_only")
    a.store.rollback()
    assert a.rows()["u"] == ("news",)


# -- what waits already ----------------------------------------------------------------------------


def test_a_local_delete_of_an_edited_record_takes_nothing_from_the_hub(pair: tuple[Site, Site]) -> None:
    a, b = pair
    edit(a, "o", "edited")
    with a.store.untracked():
        a.model.delete_by_id("o")
        assert a.operations() == {}
    assert a.operations() == {}
    a.sync()
    b.sync()
    assert b.rows() == AT_HUB
    with_another_filter_back(a)
    assert "o" not in a.rows()


def test_a_new_record_that_is_deleted_locally_is_nothing(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.model.create(id="n", title="n")
    with a.store.untracked():
        a.model.delete_by_id("n")
    assert a.operations() == {}
    assert a.store.scope(a.remote).diagnose().objects[0].local_only == 3


def test_a_change_that_waits_goes_up_with_what_its_record_is_then(pair: tuple[Site, Site]) -> None:
    a, b = pair
    edit(a, "o", "edited")
    with a.store.untracked():
        edit(a, "o", "edited and more")
    a.sync()
    b.sync()
    assert b.rows()["o"] == ("edited and more",)
    assert a.store.scope(a.remote).diagnose().objects[0].local_only == 3


def test_a_delete_that_waits_reaches_the_hub_whatever_is_made_here_locally(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.model.delete_by_id("o")
    with a.store.untracked():
        a.model.create(id="o", title="only here")
        assert a.operations() == {"o": "delete"}
    assert a.store.examine() == []
    a.sync()
    b.sync()
    assert "o" not in b.rows()
    with_another_filter_back(a)
    assert a.rows()["o"] == ("only here",)
    edit(a, "o", "x")
    assert a.operations() == {"o": "insert"}


def test_a_delete_that_is_in_conflict_and_stays_spares_what_is_here_locally(pair: tuple[Site, Site]) -> None:
    a, b = pair
    edit(b, "o", "news")
    b.sync()
    a.model.delete_by_id("o")
    with a.store.untracked():
        a.model.create(id="o", title="only here")
    a.sync(conflict_policy=client_wins)
    a.sync()
    b.sync()
    assert "o" not in b.rows()
    assert a.rows()["o"] == ("only here",)


def during_the_upload(a: Site, happens: Callable[[], object]) -> None:
    def once() -> None:
        with a.store.untracked():
            happens()
        a.store.database.close()

    a.store.scope(Meanwhile(a.remote, once)).sync()


def test_a_local_write_during_the_upload_stays_local(pair: tuple[Site, Site]) -> None:
    a, b = pair
    edit(a, "o", "sent")
    during_the_upload(a, lambda: edit(a, "o", "only here"))
    assert a.operations() == {}
    a.sync()
    b.sync()
    assert b.rows()["o"] == ("sent",)
    with_another_filter_back(a)
    assert a.rows()["o"] == ("only here",)


@pytest.mark.parametrize("is_new", [False, True])
def test_a_local_delete_during_the_upload_stays_local(pair: tuple[Site, Site], is_new: bool) -> None:
    a, b = pair
    if is_new:
        a.model.create(id="n", title="sent")
    else:
        edit(a, "o", "sent")
    key = "n" if is_new else "o"
    during_the_upload(a, lambda: a.model.delete_by_id(key))
    assert a.operations() == {}
    a.sync()
    b.sync()
    assert b.rows()[key] == ("sent",)
    with_another_filter_back(a)
    assert key not in a.rows()
    a.model.create(id=key, title="again")
    assert a.operations() == {key: "update"}


def test_a_local_write_after_a_tracked_one_during_the_upload_goes_up_with_it(pair: tuple[Site, Site]) -> None:
    a, b = pair
    edit(a, "u", "sent")

    def tracked_then_local() -> None:
        edit(a, "u", "tracked")
        with a.store.untracked():
            edit(a, "u", "tracked, and more")
        a.store.database.close()

    a.store.scope(Meanwhile(a.remote, tracked_then_local)).sync()
    assert a.operations() == {"u": "update"}
    a.sync()
    b.sync()
    assert a.rows()["u"] == b.rows()["u"] == ("tracked, and more",)


def test_what_is_removed_after_its_upload_is_removed_if_it_was_local_only(
    pair: tuple[Site, Site],
) -> None:
    a, b = pair
    edit(a, "i", "tracked")
    a.sync(remove_after_upload=True)
    b.sync()
    assert b.rows()["i"] == ("tracked",)
    assert "i" not in a.rows()
    assert "u" in a.rows()


# -- how it is written -----------------------------------------------------------------------------


def family(store: Store) -> Any:
    class Parent(store.Model):  # type: ignore[name-defined, misc]
        code = TextField(null=True, unique=True)

    class Child(store.Model):  # type: ignore[name-defined, misc]
        parent = ForeignKeyField(Parent, null=True, on_delete="CASCADE", on_update="CASCADE")

    return Parent


STATEMENTS = {
    "insert": ["INSERT INTO parent VALUES ('n', 'new')"],
    "insert and delete": ["INSERT INTO parent VALUES ('n', 'new')", "DELETE FROM parent WHERE id = 'n'"],
    "replace by key": ["REPLACE INTO parent VALUES ('p', 'other')"],
    "replace by unique value": ["REPLACE INTO parent VALUES ('n', 'P')"],
    "ignored": ["INSERT OR IGNORE INTO parent VALUES ('p', 'x')"],
    "upsert": ["INSERT INTO parent VALUES ('p', 'x') ON CONFLICT (id) DO UPDATE SET code = 'x'"],
    "another key": ["UPDATE parent SET id = 'n' WHERE id = 'p'"],
    "cascading delete": ["DELETE FROM parent WHERE id = 'p'"],
    "everything": ["UPDATE parent SET code = NULL", "DELETE FROM child"],
}


@pytest.mark.parametrize("statements", STATEMENTS.values(), ids=STATEMENTS)
def test_whatever_sql_writes_in_the_block_is_local_only(
    new_site: NewSite, tmp_path: Path, statements: list[str]
) -> None:
    a, b = new_site("a", family), new_site("b", family)
    a.execute("INSERT INTO parent VALUES ('p', 'P')")
    a.execute("INSERT INTO child VALUES ('c', 'p')")
    a.sync()
    b.sync()
    at_hub = content(b)
    with a.store.untracked():
        for statement in statements:
            a.execute(statement)
    here = content(a)
    assert a.operations() == {}
    a.execute(READ_AGAIN)
    for site in (a, b):
        site.sync()
    assert (content(a), content(b)) == (here, at_hub)
    assert a.store.examine() == []


def content(site: Site) -> list[tuple[Any, ...]]:
    return [*site.execute("SELECT * FROM parent ORDER BY id"), *site.execute("SELECT * FROM child")]


def test_blocks_may_stand_inside_each_other(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    with a.store.untracked():
        a.model.create(id="1")
        with a.store.untracked():
            a.model.create(id="2")
        with suppress(ZeroDivisionError), a.store.untracked():
            a.model.create(id="undone")
            raise ZeroDivisionError
        a.model.create(id="3")
        assert a.operations() == {}
    a.model.create(id="tracked")
    assert a.operations() == {"tracked": "insert"}
    assert "undone" not in a.rows()
    assert a.store.scope(a.remote).diagnose().objects[0].local_only == 6


def test_a_block_inside_the_programs_own_transaction_is_a_part_of_it(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    with a.store.database.atomic() as transaction:
        edit(a, "o", "tracked before")
        with a.store.untracked():
            a.model.create(id="1")
        a.model.create(id="2")
        assert a.operations() == {"o": "update", "2": "insert"}
        transaction.rollback()
    assert (a.rows(), a.operations()) == (LOCAL, {})
    with a.store.database.atomic():
        edit(a, "o", "tracked before")
        with a.store.untracked():
            a.model.create(id="1")
        a.model.create(id="2")
    assert a.operations() == {"o": "update", "2": "insert"}
    assert a.store.scope(a.remote).diagnose().objects[0].local_only == 4


def test_a_block_that_fails_inside_the_programs_transaction_undoes_itself_alone(
    pair: tuple[Site, Site],
) -> None:
    a, _ = pair
    with a.store.database.atomic():
        edit(a, "o", "tracked before")
        with suppress(ZeroDivisionError), a.store.untracked():
            a.model.create(id="1")
            raise ZeroDivisionError
        a.model.create(id="2")
    assert a.operations() == {"o": "update", "2": "insert"}
    assert "1" not in a.rows()


def test_a_record_that_was_local_only_and_is_deleted_locally_leaves_nothing(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    with a.store.untracked():
        a.model.delete_by_id("i")
    assert a.store.scope(a.remote).diagnose().objects[0].local_only == 2


def test_a_store_that_was_opened_without_its_models_writes_locally_too(pair: tuple[Site, Site]) -> None:
    a, b = pair
    with Store.open(a.store.database.database) as tool:
        own: Any = tool.database
        with tool.untracked():
            own.execute_sql("INSERT INTO note VALUES ('t', 'by a tool')")
        assert tool.pending() == []
        tool.scope(a.remote).sync()
    b.sync()
    assert b.rows() == AT_HUB
    assert a.rows() == {**LOCAL, "t": ("by a tool",)}


def test_another_program_writes_tracked_records_right_after_a_block(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    with closing(sqlite3.connect(a.store.database.database)) as other, other:
        other.execute("INSERT INTO note VALUES ('x', 'x')")
    assert a.operations() == {"x": "insert"}


# -- what knows it ---------------------------------------------------------------------------------


def test_diagnose_counts_it_and_calls_it_no_difference(pair: tuple[Site, Site]) -> None:
    a, b = pair
    found = a.store.scope(a.remote).diagnose()
    assert (found.is_consistent(), found.differences, found.requests) == (True, (), 1)
    assert found.objects[0].local_only == 3
    edit(b, "u", "news")
    edit(b, "o", "news")
    b.sync()
    kinds = {one.key: one.kind for one in a.store.scope(a.remote).diagnose().differences}
    assert kinds == {"u": Difference.NOT_DOWNLOADED, "o": Difference.NOT_DOWNLOADED}


@pytest.mark.parametrize("what", ["clear", "reset"])
def test_emptying_takes_it_along(pair: tuple[Site, Site], what: str) -> None:
    a, b = pair
    getattr(a.store, what)()
    assert a.rows() == {}
    a.sync()
    assert a.rows() == b.rows() == AT_HUB
    assert a.store.scope(a.remote).diagnose().objects[0].local_only == 0


def test_dropping_takes_it_along(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.store.drop()
    assert a.execute("SELECT count(*) FROM statesync_local") == [(0,)]


def test_another_hub_is_offered_what_is_not_local_only(
    pair: tuple[Site, Site], restorable: RestorableHub, new_site: NewSite
) -> None:
    a, _ = pair
    edit(a, "i", "tracked, so not local any more")
    with a.store.untracked():
        a.model.create(id="l", title="local")
    restorable.replace_by_another()
    a.store.reset(keep_records=True)
    assert a.operations() == {"i": "insert", "o": "insert"}
    a.sync()
    fresh = restorable.take(new_site("fresh", note))
    fresh.sync()
    assert fresh.rows() == {"i": ("tracked, so not local any more",), "o": ("o",)}
    assert a.rows().keys() == {"i", "l", "u", "o"}


def test_the_same_hub_again_brings_no_news_of_what_it_had(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.store.reset(keep_records=True)
    for site in (a, a, b):
        site.sync()
    assert (a.rows(), b.rows()) == (LOCAL, AT_HUB)


def test_where_nothing_is_local_only_nothing_is_kept(new_site: NewSite) -> None:
    a = new_site("a", note)
    a.model.create(id="k")
    a.sync()
    with a.store.untracked():
        pass
    assert a.execute("SELECT count(*) FROM statesync_local") == [(0,)]
