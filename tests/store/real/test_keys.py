"""Keys are compared to the byte, whatever the table makes of them: no record is taken for another one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from peewee import CharField, Model, TextField

from statesync import Store

from .sites import Site


def tag(store: Store) -> Any:
    class Tag(Model):
        name = CharField(primary_key=True)
        title = TextField(null=True)

    return store.track(Tag)


IGNORING_CASE = "CREATE TABLE tag (name TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, title TEXT)"
NUMBERS = {
    kind: f"CREATE TABLE tag (name {kind} NOT NULL PRIMARY KEY, title TEXT)"
    for kind in ("STRING", "UUID", "NUMERIC", "INT")
}
NewSite = Callable[..., Site]


# -- a key that ignores case -----------------------------------------------------------------------


def test_a_key_that_changes_its_case_is_a_delete_and_an_insert(new_site: NewSite) -> None:
    a, b = new_site("a", tag, odd=IGNORING_CASE), new_site("b", tag)
    a.model.create(name="Red", title="1")
    a.sync()
    b.sync()
    a.execute("UPDATE tag SET name = 'red' WHERE name = 'Red'")
    assert a.operations() == {"Red": "delete", "red": "insert"}
    assert a.errors() == {}
    b.sync()
    assert b.rows() == {"red": ("1",)}


def test_a_key_that_changed_its_case_and_more_can_be_taken_back(new_site: NewSite) -> None:
    a = new_site("a", tag, odd=IGNORING_CASE)
    a.model.create(name="Red", title="1")
    a.sync()
    a.execute("UPDATE tag SET name = 'red', title = '2'")
    assert a.store.rollback() == 2
    assert a.rows() == {"Red": ("1",)}


@pytest.mark.parametrize("is_folded", [False, True])
def test_a_change_under_another_case_is_held_back(new_site: NewSite, is_folded: bool) -> None:
    """The log has Red, as an older version has written it, and the table has red."""
    a, b = new_site("a", tag, odd=IGNORING_CASE), new_site("b", tag)
    for name in ("Red", "Blue"):
        a.model.create(name=name, title="1")
    a.sync()
    b.sync()
    a.model.update(title="2").execute()
    if is_folded:
        a.fold()
    with a.unseen_program() as other:
        other.execute("UPDATE tag SET name = 'red' WHERE name = 'Red'")
    assert a.operations() == {"Red": "update", "Blue": "update"}
    assert a.errors() == {"Red": "record_missing"}
    b.sync()
    assert b.rows() == {"Red": ("1",), "Blue": ("2",)}


def test_a_key_that_no_write_took_is_not_deleted_by_one_of_another_case(new_site: NewSite) -> None:
    """red is lost, RED is in its place, and a write that would have made another red is passed over."""
    a, b = new_site("a", tag, odd=IGNORING_CASE), new_site("b", tag)
    a.execute("CREATE TRIGGER own AFTER UPDATE ON tag BEGIN UPDATE tag SET title = title WHERE 0; END")
    for name in ("red", "Blue"):
        a.model.create(name=name, title="1")
    a.sync()
    b.sync()
    a.model.update(title="2").where(a.model.name == "red").execute()
    a.unseen("UPDATE tag SET name = 'RED' WHERE name = 'red'")
    a.execute("UPDATE OR IGNORE tag SET name = 'red' WHERE name = 'Blue'")
    assert a.execute("SELECT count(*) FROM statesync_log_Tag WHERE key = 'red' AND NOT known") == [(1,)]
    assert a.errors() == {"red": "record_missing"}
    b.sync()
    assert b.rows() == {"red": ("1",), "Blue": ("1",)}


def test_a_record_that_is_replaced_by_one_of_another_case_is_deleted(new_site: NewSite) -> None:
    a, b = new_site("a", tag, odd=IGNORING_CASE), new_site("b", tag)
    a.model.create(name="Red", title="1")
    a.sync()
    b.sync()
    a.execute("INSERT OR REPLACE INTO tag VALUES ('red', '2')")
    assert a.operations() == {"Red": "delete", "red": "insert"}
    a.sync()
    b.sync()
    assert b.rows() == {"red": ("2",)}


@pytest.mark.parametrize("is_pending", [False, True])
def test_a_record_is_not_overwritten_by_one_of_another_case(new_site: NewSite, is_pending: bool) -> None:
    a, b = new_site("a", tag, odd=IGNORING_CASE), new_site("b", tag)
    a.model.create(name="Red", title="1")
    a.sync()
    if is_pending:
        a.model.update(title="mine").execute()
    before = a.rows()
    b.model.create(name="red", title="theirs")
    b.sync()
    (error,) = a.sync(sync_type="download_only").errors.download
    assert (error.key, error.code) == ("red", "does_not_fit")
    assert re.match(r"Tag red cannot be stored beside Red: .* declare", error.message)
    assert a.rows() == before
    assert a.operations() == ({"Red": "update"} if is_pending else {})


def test_a_delete_of_one_case_leaves_the_other(new_site: NewSite) -> None:
    a, b = new_site("a", tag, odd=IGNORING_CASE), new_site("b", tag)
    b.model.create(name="other")
    b.sync()
    a.sync()
    b.model.create(name="red")
    b.sync()
    b.model.delete_by_id("red")
    b.sync()
    a.unseen("INSERT INTO tag VALUES ('Red', 'mine')")
    a.sync()
    assert a.rows() == {"Red": ("mine",), "other": (None,)}


def test_a_record_that_the_hub_lacks_is_offered_whatever_its_twin_was(new_site: NewSite) -> None:
    """The hub tells of a delete of Red, and the device has red, which no trigger has seen."""
    a, b = new_site("a", tag, odd=IGNORING_CASE), new_site("b", tag)
    a.sync()
    b.model.create(name="Red", title="1")
    b.sync()
    a.sync()
    b.model.delete_by_id("Red")
    b.sync()
    a.sync()
    a.execute("DROP TRIGGER statesync_Tag_insert")
    a.model.create(name="red", title="2")
    assert a.store.repair() == []
    a.sync()
    a.sync()
    b.sync()
    assert b.rows() == a.rows() == {"red": ("2",)}


# -- a key that the table makes a number of ----------------------------------------------------------


@pytest.mark.parametrize("table", NUMBERS.values(), ids=NUMBERS)
def test_a_key_that_is_stored_as_a_number_is_held_back_and_the_others_go_up(
    new_site: NewSite, table: str
) -> None:
    a, b = new_site("a", tag, odd=table), new_site("b", tag)
    for name in ("1001", "1e3", "a1"):
        a.model.create(name=name, title="1")
    result = a.sync()
    assert {error.code for error in result.errors.upload} == {"record_missing"}
    assert len(result.errors.upload) == 2
    assert all("TEXT" in error.message for error in result.errors.upload)
    b.sync()
    assert b.rows() == {"a1": ("1",)}


@pytest.mark.crossed
@pytest.mark.parametrize("table", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("write", ["UPDATE tag SET title = '2'", "DELETE FROM tag"])
def test_no_record_is_deleted_for_one_whose_key_is_stored_as_a_number(
    new_site: NewSite, table: str, write: str
) -> None:
    a, b = new_site("a", tag, odd=table), new_site("b", tag)
    b.model.create(name="1001", title="1")
    b.sync()
    a.sync()
    a.execute("INSERT OR IGNORE INTO tag VALUES ('1001', 'ignored')")
    a.execute(write)
    assert a.errors() == {"1001": "record_missing"}
    assert a.store.rollback() == 1
    assert a.rows() == {"1001": ("1",)}
    b.sync()
    assert b.rows() == {"1001": ("1",)}


def test_two_keys_that_are_one_number_do_not_overwrite_each_other(new_site: NewSite) -> None:
    a, b = new_site("a", tag, odd=NUMBERS["STRING"]), new_site("b", tag)
    b.model.create(name="7", title="seven")
    b.sync()
    a.sync()
    a.model.update(title="mine").execute()
    b.model.create(name="007", title="agent")
    b.sync()
    (error,) = a.sync(sync_type="download_only").errors.download
    assert error.message.startswith("Tag 007 cannot be stored beside 7")
    assert a.rows() == {"7": ("mine",)}


def test_rows_that_are_one_text_keep_nothing_from_being_offered(new_site: NewSite) -> None:
    a = new_site("a", tag, "CREATE TABLE tag (name NOT NULL PRIMARY KEY, title TEXT)")
    a.unseen("INSERT INTO tag VALUES (7, 'number'), ('7', 'text'), ('k', 'text')")
    a.store.reset(keep_records=True)
    assert a.operations() == {"7": "insert", "k": "insert"}
    a.sync()
    assert a.execute("SELECT count(*) FROM tag") == [(3,)]


# -- a key that is no text ---------------------------------------------------------------------------

UNREADABLE = "CAST(x'6bff' AS TEXT)"


@pytest.mark.parametrize(("key", "shown"), [("x'6b00'", "x'6b00'"), (UNREADABLE, "k\\xff")])
def test_a_key_that_is_no_text_is_held_back_and_the_others_go_up(
    new_site: NewSite, key: str, shown: str
) -> None:
    a, b = new_site("a", tag), new_site("b", tag)
    a.model.create(name="fine", title="1")
    a.execute(f"INSERT INTO tag VALUES ({key}, '1')")
    assert a.operations() == {"fine": "insert", shown: "insert"}
    assert a.errors() == {shown: "bad_key"}
    assert a.errors() == {shown: "bad_key"}
    assert a.operations() == {shown: "insert"}
    assert a.store.has_pending()
    assert a.store.examine() == []
    assert a.store.scope(a.remote).diagnose().is_consistent()
    b.sync()
    assert b.rows() == {"fine": ("1",)}
    a.execute(f"UPDATE tag SET title = '2' WHERE name = {key}")
    assert a.errors() == {shown: "bad_key"}
    assert a.store.rollback() == 1
    assert a.execute("SELECT name FROM tag") == [("fine",)]


@pytest.mark.parametrize("key", ["x'6b00'", UNREADABLE])
def test_a_change_of_a_record_whose_key_is_no_text_can_be_taken_back(new_site: NewSite, key: str) -> None:
    a = new_site("a", tag)
    a.unseen(f"INSERT INTO tag VALUES ({key}, '1')")
    a.execute("UPDATE tag SET title = '2'")
    assert a.store.rollback() == 1
    assert a.execute(f"SELECT title FROM tag WHERE name = {key}") == [("1",)]
    a.execute("DELETE FROM tag")
    assert a.store.rollback() == 1
    assert a.execute(f"SELECT title FROM tag WHERE name = {key}") == [("1",)]
    assert a.operations() == {}


def test_a_key_with_a_nul_is_held_back_with_the_reason_and_the_others_go_up(new_site: NewSite) -> None:
    """SQLite ends some texts at a NUL, so the record would be taken for one that is gone."""
    a, b = new_site("a", tag), new_site("b", tag)
    a.model.create(name="k", title="1")
    a.model.create(name="k\0", title="2")
    result = a.sync()
    b.sync()
    assert [(error.key, error.code) for error in result.errors.upload] == [("k\0", "bad_key")]
    assert "NUL" in result.errors.upload[0].message
    assert b.rows() == {"k": ("1",)}
    a.execute("UPDATE tag SET name = 'other' WHERE name = ?", "k\0")
    assert a.errors() == {}
    b.sync()
    assert b.rows() == {"k": ("1",), "other": ("2",)}
