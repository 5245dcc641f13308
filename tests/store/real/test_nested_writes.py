"""Writes within writes: a program's own trigger writes a record before the tracking trigger has its turn.

What waits is what became of each record, and what it was is what it was before the outermost write.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from peewee import ForeignKeyField, IntegerField, IntegrityError, TextField
from rig.device import as_downloaded, quick_store

from statesync import Store

from .sites import Site

UNTRACKED = "ALTER TABLE thing ADD COLUMN slot TEXT"
REWRITES = "UPDATE thing SET name = name WHERE id = NEW.id;"
NOTES = "UPDATE thing SET slot = 'seen' WHERE id = NEW.id;"
COUNTS = "UPDATE thing SET number = coalesce(number, 0) + 1 WHERE id = NEW.id;"


def thing(store: Store) -> Any:
    class Thing(store.Model):  # type: ignore[name-defined, misc]
        name = TextField(null=True)
        number = IntegerField(null=True)

    return Thing


def after(event: str, body: str, name: str = "own", temp: str = "") -> str:
    return trigger(f"AFTER {event}", body, name, temp)


def trigger(when: str, body: str, name: str = "own", temp: str = "") -> str:
    return f"CREATE {temp} TRIGGER {name} {when} ON thing BEGIN {body} END"


def give(site: Site, *made: str) -> None:
    """Let a program make triggers, and the store look at its tables."""
    for sql in made:
        site.execute(sql)
    site.store.setup()


@pytest.fixture
def pair(new_site: Callable[..., Site]) -> tuple[Site, Site]:
    """Two devices with the record k; the first has a column that no model knows."""
    a, b = new_site("a", thing), new_site("b", thing)
    a.execute(UNTRACKED)
    a.store.setup()
    a.model.create(id="k", name="x", number=1)
    a.sync()
    b.sync()
    return a, b


# -- an edit that a trigger writes over again --------------------------------------------------------


@pytest.mark.crossed
@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("temp", ["", "TEMP"])
@pytest.mark.parametrize("body", [REWRITES, NOTES, REWRITES + NOTES])
def test_an_edit_whose_record_a_trigger_writes_again_reaches_the_others(
    pair: tuple[Site, Site], body: str, temp: str, looked_at: bool
) -> None:
    a, b = pair
    a.execute(after("UPDATE", body, temp=temp))
    if looked_at:
        a.store.setup()
    a.model.update(number=2).execute()
    assert a.operations() == {"k": "update"}
    a.sync()
    b.sync()
    assert b.rows() == {"k": ("x", 2)}


@pytest.mark.crossed
@pytest.mark.parametrize("temp", ["", "TEMP"])
@pytest.mark.parametrize("body", [REWRITES, NOTES, COUNTS])
def test_a_new_record_that_a_trigger_writes_again_reaches_the_others_before_anybody_looks_for_triggers(
    pair: tuple[Site, Site], body: str, temp: str
) -> None:
    a, b = pair
    a.execute(after("INSERT", body, temp=temp))
    a.model.create(id="n", name="new", number=1)
    a.sync()
    b.sync()
    assert b.rows()["n"] == a.rows()["n"]


@pytest.mark.parametrize("body", [REWRITES, NOTES, COUNTS])
def test_a_new_record_that_a_trigger_writes_again_reaches_the_others_and_can_be_taken_back(
    pair: tuple[Site, Site], body: str
) -> None:
    a, b = pair
    give(a, after("INSERT", body))
    a.model.create(id="n", name="new", number=1)
    assert a.operations() == {"n": "insert"}
    a.store.rollback()
    assert a.rows() == {"k": ("x", 1)}
    a.model.create(id="n", name="new", number=1)
    a.sync()
    b.sync()
    assert b.rows()["n"] == a.rows()["n"]


def test_a_rollback_leads_back_to_what_was_before_the_outermost_write(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    give(a, after("UPDATE", COUNTS))
    a.model.update(name="y").execute()
    assert a.rows() == {"k": ("y", 2)}
    a.execute("DROP TRIGGER own")  # else it counts the rollback, too
    a.store.rollback()
    assert a.rows() == {"k": ("x", 1)}


def test_a_conflict_is_held_against_what_was_before_the_outermost_write(pair: tuple[Site, Site]) -> None:
    """Both devices have edited the name; the trigger's own write comes after that on the first."""
    a, b = pair
    give(a, after("UPDATE", COUNTS))
    b.model.update(name="from b").execute()
    b.sync()
    a.model.update(name="from a").execute()
    (conflict,) = a.sync().conflicts
    assert conflict.local == {"name": "from a", "number": 2}
    assert conflict.base == {"name": "x", "number": 1}


# -- records that come and go within a write ----------------------------------------------------------


def test_a_record_that_its_own_insert_removes_is_nothing(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    give(a, after("INSERT", "DELETE FROM thing WHERE id = NEW.id;"))
    a.execute("INSERT INTO thing (id, name) VALUES ('n', 'gone')")
    assert a.operations() == {}
    assert a.errors() == {}


def test_a_record_that_its_own_update_removes_is_deleted_everywhere(pair: tuple[Site, Site]) -> None:
    a, b = pair
    give(a, after("UPDATE", "DELETE FROM thing WHERE id = NEW.id;"))
    a.model.update(number=2).execute()
    assert a.operations() == {"k": "delete"}
    a.sync()
    b.sync()
    assert b.rows() == {}


def test_a_record_that_its_own_delete_brings_back_is_an_update(pair: tuple[Site, Site]) -> None:
    a, b = pair
    give(a, after("DELETE", "INSERT INTO thing (id, name) VALUES (OLD.id, 'again');"))
    a.execute("DELETE FROM thing WHERE id = 'k'")
    assert a.operations() == {"k": "update"}
    a.sync()
    b.sync()
    assert b.rows() == {"k": ("again", None)}


def test_a_parent_of_itself_that_gets_another_key_is_new(tmp_path: Path) -> None:
    """The foreign key's own action writes the record before any trigger has its turn."""
    with quick_store(tmp_path / "tree.db") as store:

        class Node(store.Model):  # type: ignore[name-defined, misc]
            parent = ForeignKeyField("self", null=True, on_update="CASCADE")

        store.setup()
        with as_downloaded(store):
            Node.create(id="k", parent="k")
        Node.update(id="n").execute()
        assert list(Node.select().tuples()) == [("n", "n")]
        assert {each.key: each.operation for each in store.pending()} == {"k": "delete", "n": "insert"}
        store.rollback()
        assert list(Node.select().tuples()) == [("k", "k")]


def test_what_a_tree_replaces_by_a_unique_value_is_gone_with_its_branches(tmp_path: Path) -> None:
    """The foreign key's own action deletes many records between the two halves of one write."""
    with quick_store(tmp_path / "tree.db") as store:

        class Node(store.Model):  # type: ignore[name-defined, misc]
            parent = ForeignKeyField("self", null=True, on_delete="CASCADE")
            place = IntegerField(null=True, unique=True)

        store.setup()
        with as_downloaded(store):
            Node.create(id="top", place=1)
            for number in range(5):
                Node.create(id=f"leaf {number}", parent="top")
        before = sorted(Node.select().tuples())
        Node.replace(id="new", place=1).execute()
        waiting = {each.key: each.operation for each in store.pending()}
        assert waiting.pop("new") == "insert"
        assert waiting == {"top": "delete"} | {f"leaf {number}": "delete" for number in range(5)}
        store.rollback()
        assert sorted(Node.select().tuples()) == before


# -- writes that do not follow ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE OR IGNORE thing SET number = 1 WHERE id = 'k'",
        "UPDATE thing SET name = 'refused' WHERE id = 'k'",
        "INSERT OR IGNORE INTO thing (id, number) VALUES ('k', 3), ('n', 1)",
        "DELETE FROM thing WHERE id = 'kept'",
    ],
)
def test_a_write_that_is_passed_over_is_no_change(new_site: Callable[..., Site], statement: str) -> None:
    """A unique value is another's, or the program's own trigger says so; it has other triggers, too."""
    a = new_site("a", thing)
    for key, number in (("k", 0), ("l", 1), ("kept", 2)):
        a.model.create(id=key, number=number)
    a.sync()
    refused = "SELECT RAISE(IGNORE) WHERE NEW.name = 'refused';"
    give(
        a,
        "CREATE UNIQUE INDEX one ON thing (number)",
        after("UPDATE", COUNTS),
        trigger("BEFORE UPDATE", refused, "refuses"),
        trigger("BEFORE DELETE", "SELECT RAISE(IGNORE) WHERE OLD.id = 'kept';", "keeps"),
    )
    with suppress(IntegrityError):
        a.execute(statement)
    assert a.operations() == {}
    a.fold()
    assert a.operations() == {}


# -- before and after anybody looks for triggers ------------------------------------------------------


def test_writes_from_before_and_after_a_program_made_its_trigger_become_one_change(
    pair: tuple[Site, Site],
) -> None:
    a, _ = pair
    a.model.update(name="one").execute()
    give(a, after("UPDATE", COUNTS))
    a.model.update(name="two").execute()
    assert a.operations() == {"k": "update"}
    give(a, "DROP TRIGGER own")
    a.model.update(name="three").execute()
    assert a.operations() == {"k": "update"}
    a.store.rollback()
    assert a.rows() == {"k": ("x", 1)}


def test_a_session_looks_for_triggers_and_reads_nothing_again(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.execute(after("UPDATE", COUNTS))
    assert a.store.examine() == []
    assert a.sync().stats.downloaded == 0
    a.model.update(name="y").execute()
    a.execute("DROP TRIGGER own")
    a.store.rollback()
    assert a.rows() == {"k": ("x", 1)}
    assert a.store.examine() == []
    assert a.sync().stats.downloaded == 0


def test_another_version_that_knows_of_no_nested_writes_takes_their_triggers_and_nothing_is_read_again(
    pair: tuple[Site, Site],
) -> None:
    """It makes its own of the same names, and drops what it does not know."""
    a, b = pair
    plain = dict(a.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
    give(a, after("UPDATE", COUNTS))
    with a.other_program() as other:
        found = other.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE 'statesync%' AND type = 'trigger'"
        )
        for (name,) in found.fetchall():
            other.execute(f"DROP TRIGGER {name}")
        for sql in plain.values():
            other.execute(sql)
    a.model.update(name="y").execute()
    assert a.store.examine() == []
    assert a.sync().stats.downloaded == 0
    b.sync()
    assert b.rows() == {"k": ("y", 2)}
    b.model.update(name="z").execute()
    b.sync()
    a.sync()
    before = a.rows()
    a.model.update(name="again").execute()
    a.execute("DROP TRIGGER own")
    a.store.rollback()
    assert a.rows() == before
