"""Every write is seen, whoever makes it and however, and writes fold into one net change a record.

What a change was made from (its before-image) is seen through ``rollback``, which brings it back.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peewee import CharField, ForeignKeyField, IntegerField, Model, SqliteDatabase, TextField, UUIDField
from rig.device import Device, as_downloaded
from rig.search import examples

from statesync import HttpRemote, Store, UnsupportedModel

KNOWN = ["k00000", "k00001", "k00002"]


@pytest.fixture
def device(new_device: Callable[..., Device]) -> Device:
    """A device with three records that are not pending."""
    device = new_device("tracked")
    with as_downloaded(device.store):
        device.add(3)
    assert device.operations() == {}
    return device


@contextmanager
def other_program(device: Device) -> Iterator[sqlite3.Connection]:
    """A connection of a program that knows nothing of the store."""
    with closing(sqlite3.connect(device.store.database.database)) as other, other:
        other.execute("PRAGMA foreign_keys = ON")
        yield other


# -- Peewee ------------------------------------------------------------------------------------------


def test_create_save_and_delete_instance_are_seen(device: Device) -> None:
    device.airport.create(id="new", name="new")
    changed = device.airport.get_by_id("k00000")
    changed.name = "changed"
    changed.save()
    device.airport.get_by_id("k00001").delete_instance()
    assert device.operations() == {"new": "insert", "k00000": "update", "k00001": "delete"}


def test_bulk_statements_are_seen(device: Device) -> None:
    airport = device.airport
    airport.insert_many([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}]).execute()
    airport.bulk_create([airport(id="c", name="c")])
    first, second = airport.get_by_id("k00000"), airport.get_by_id("k00001")
    first.name = second.name = "bulk"
    airport.bulk_update([first, second], fields=[airport.name])
    airport.delete().where(airport.id == "k00002").execute()
    assert device.operations() == {
        "a": "insert",
        "b": "insert",
        "c": "insert",
        "k00000": "update",
        "k00001": "update",
        "k00002": "delete",
    }


def test_an_update_of_many_rows_is_one_change_a_row(device: Device) -> None:
    device.airport.update(elevation=7).execute()
    assert device.operations() == dict.fromkeys(KNOWN, "update")


def test_an_upsert_of_peewee_is_an_insert_or_an_update(device: Device) -> None:
    for key in ("k00000", "new"):
        device.airport.insert(id=key, name="upserted").on_conflict(
            conflict_target=[device.airport.id], preserve=[device.airport.name]
        ).execute()
    assert device.operations() == {"k00000": "update", "new": "insert"}


# -- SQL, and other programs -------------------------------------------------------------------------


def test_raw_sql_is_seen(device: Device) -> None:
    device.execute("UPDATE airport SET name = 'raw' WHERE id = 'k00000'")
    device.execute("DELETE FROM airport WHERE id = 'k00001'")
    assert device.operations() == {"k00000": "update", "k00001": "delete"}


def test_a_delete_of_the_whole_table_is_seen(device: Device) -> None:
    """SQLite empties a table without looking at its rows, unless triggers are there."""
    device.execute("DELETE FROM airport")
    assert device.operations() == dict.fromkeys(KNOWN, "delete")


def test_a_plain_sqlite3_connection_is_seen(device: Device) -> None:
    with other_program(device) as other:
        other.execute("INSERT INTO airport (id, name, is_open) VALUES ('new', 'new', 1)")
        other.execute("UPDATE airport SET name = 'x' WHERE id = 'k00000'")
    assert device.operations() == {"new": "insert", "k00000": "update"}


def test_another_process_is_seen(device: Device) -> None:
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "c.execute(\"UPDATE airport SET name = 'elsewhere' WHERE id = 'k00002'\"); c.commit(); c.close()"
    )
    subprocess.run([sys.executable, "-c", code, device.store.database.database], check=True)
    assert device.operations() == {"k00002": "update"}


def test_insert_or_replace_of_the_same_key_is_an_update_with_the_old_image(device: Device) -> None:
    with other_program(device) as other:
        other.execute("INSERT OR REPLACE INTO airport (id, name, is_open) VALUES ('k00000', 'new', 0)")
    assert device.operations() == {"k00000": "update"}
    device.store.rollback()
    assert device.field("k00000", "name") == "n0"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO stand (id, code, x, y) VALUES ('n', 'A', 9, 9)",
        "INSERT OR REPLACE INTO stand (id, code, x, y) VALUES ('n', 'N', 1, 1)",
        "UPDATE OR REPLACE stand SET code = 'A' WHERE id = 'b'",
        "UPDATE OR REPLACE stand SET x = 1, y = 1 WHERE id = 'b'",
    ],
)
def test_a_record_that_a_unique_index_makes_room_for_is_deleted_and_can_be_brought_back(
    tmp_path: Path, statement: str
) -> None:
    with Store(tmp_path / "unique.db") as store:

        class Stand(store.Model):  # type: ignore[name-defined, misc]
            code = TextField(unique=True)
            x = IntegerField()
            y = IntegerField()

            class Meta:
                indexes = ((("x", "y"), True),)

        store.setup()
        with as_downloaded(store):
            Stand.create(id="a", code="A", x=1, y=1)
            Stand.create(id="b", code="B", x=2, y=2)
        before = set(Stand.select().tuples())
        store.database.execute_sql(statement)  # type: ignore[no-untyped-call]
        pending = {change.key: change.operation for change in store.pending()}
        assert pending.pop("a") == "delete"
        assert pending in ({"n": "insert"}, {"b": "update"})
        store.rollback()
        assert set(Stand.select().tuples()) == before


def test_insert_or_ignore_that_was_ignored_is_no_change(device: Device) -> None:
    with other_program(device) as other:
        other.execute("INSERT OR IGNORE INTO airport (id, name, is_open) VALUES ('k00000', 'new', 0)")
    assert device.operations() == {}


def test_an_upsert_in_sql_is_an_update(device: Device) -> None:
    with other_program(device) as other:
        other.execute(
            "INSERT INTO airport (id, name, is_open) VALUES ('k00000', 'up', 1) "
            "ON CONFLICT (id) DO UPDATE SET name = excluded.name"
        )
    assert device.operations() == {"k00000": "update"}
    device.store.rollback()
    assert device.field("k00000", "name") == "n0"


def test_a_change_of_the_key_is_a_delete_and_an_insert(device: Device) -> None:
    device.execute("UPDATE airport SET id = 'renamed' WHERE id = 'k00000'")
    assert device.operations() == {"k00000": "delete", "renamed": "insert"}
    device.store.rollback()
    assert device.keys() == KNOWN


def test_a_key_that_an_upsert_changes_is_seen(device: Device) -> None:
    device.execute(
        "INSERT INTO airport (id, name, is_open) VALUES ('k00000', 'x', 1) "
        "ON CONFLICT (id) DO UPDATE SET id = 'renamed'"
    )
    assert device.operations() == {"k00000": "delete", "renamed": "insert"}


def test_a_key_that_follows_its_parents_is_seen(tmp_path: Path) -> None:
    with Store(tmp_path / "twins.db") as store:

        class Parent(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()

        class Twin(store.Model):  # type: ignore[name-defined, misc]
            id = ForeignKeyField(Parent, primary_key=True, on_update="CASCADE")

        store.setup()
        parent = Parent.create(id="first", name="p")
        with as_downloaded(store):
            Twin.create(id=parent)
        Parent.update(id="second").where(Parent.id == "first").execute()
        changes = {change.key: change.operation for change in store.pending() if change.object == "Twin"}
        assert changes == {"first": "delete", "second": "insert"}


def test_what_a_transaction_rolls_back_was_never_written(device: Device) -> None:
    with suppress(ZeroDivisionError), device.store.database.atomic():
        device.edit("k00000", name="gone")
        device.airport.create(id="gone", name="gone")
        raise ZeroDivisionError
    assert device.operations() == {}


def test_what_a_savepoint_rolls_back_was_never_written(device: Device) -> None:
    with device.store.database.atomic():
        device.edit("k00000", name="stays")
        with suppress(ZeroDivisionError), device.store.database.atomic():
            device.edit("k00001", name="gone")
            raise ZeroDivisionError
    assert device.operations() == {"k00000": "update"}


def test_a_statement_that_fails_leaves_no_change(device: Device) -> None:
    with other_program(device) as other, pytest.raises(sqlite3.IntegrityError):
        other.execute("INSERT INTO airport (id, name, is_open) VALUES ('k00000', 'twice', 1)")
    assert device.operations() == {}


# -- other models ------------------------------------------------------------------------------------


@define(eq=False)
class Family:
    """A store with a parent and two kinds of children."""

    store: Store
    parent: Any
    cascading: Any
    loosened: Any
    strict: Any

    def operations(self) -> dict[tuple[str, str], str]:
        return {(change.object, change.key): change.operation for change in self.store.pending()}


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    with Store(tmp_path / "family.db") as store:

        class Parent(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()

        class Cascading(store.Model):  # type: ignore[name-defined, misc]
            parent = ForeignKeyField(Parent, on_delete="CASCADE", on_update="CASCADE")

        class Loosened(store.Model):  # type: ignore[name-defined, misc]
            parent = ForeignKeyField(Parent, on_delete="SET NULL", null=True)

        class Strict(store.Model):  # type: ignore[name-defined, misc]
            parent = ForeignKeyField(Parent)

        store.setup()
        with as_downloaded(store):
            parent = Parent.create(id="p", name="p")
            Cascading.create(id="c", parent=parent)
            Loosened.create(id="l", parent=parent)
        yield Family(store, Parent, Cascading, Loosened, Strict)


def test_what_a_foreign_key_deletes_or_clears_is_seen(family: Family) -> None:
    family.parent.delete_by_id("p")
    assert family.operations() == {
        ("Parent", "p"): "delete",
        ("Cascading", "c"): "delete",
        ("Loosened", "l"): "update",
    }


def test_a_rollback_brings_a_family_back(family: Family) -> None:
    family.parent.delete_by_id("p")
    family.store.rollback()
    assert family.parent.get_by_id("p").name == "p"
    assert family.cascading.get_by_id("c").parent_id == "p"
    assert family.loosened.get_by_id("l").parent_id == "p"
    assert family.operations() == {}


def test_a_rollback_takes_a_new_family_away(family: Family) -> None:
    new = family.parent.create(id="new", name="new")
    family.cascading.create(id="child", parent=new)
    family.strict.create(id="strict", parent=new)
    family.store.rollback()
    assert list(family.strict.select()) == []
    assert {row.id for row in family.parent.select()} == {"p"}
    assert {row.id for row in family.cascading.select()} == {"c"}
    assert family.operations() == {}


def test_a_rollback_brings_a_deleted_pair_back(family: Family) -> None:
    with as_downloaded(family.store):
        family.strict.create(id="s", parent=family.parent.create(id="q", name="q"))
    family.strict.delete_by_id("s")
    family.parent.delete_by_id("q")
    family.store.rollback()
    assert family.strict.get_by_id("s").parent_id == "q"


def test_a_rollback_of_a_parent_does_not_take_children_along(family: Family) -> None:
    """Setting one record back must not cascade into records that were never changed."""
    family.parent.update(name="changed").execute()
    family.store.rollback()
    assert family.cascading.get_by_id("c").parent_id == "p"


@pytest.mark.parametrize("what", ["clear", "drop", "reset"])
def test_emptying_one_object_takes_no_record_of_another_along(family: Family, what: str) -> None:
    with closing(HttpRemote("http://127.0.0.1:9", "s")) as remote:
        getattr(family.store.scope(remote, family.parent), what)()
    assert [row.id for row in family.cascading.select()] == ["c"]
    assert family.loosened.get_by_id("l").parent_id == "p"
    assert family.operations() == {}


def test_any_model_with_a_text_or_uuid_key_can_be_tracked(tmp_path: Path) -> None:
    with Store(tmp_path / "own.db") as store:

        class Named(Model):
            code = CharField(primary_key=True, max_length=10, column_name="the code")
            value = IntegerField()

        class Identified(Model):
            key = UUIDField(primary_key=True)
            value = IntegerField()

            class Meta:
                table_name = 'odd "name"'

        store.track(Named, name="Labelled")
        store.track(Identified)
        store.setup()
        Named.create(code="a", value=1)
        Identified.create(key="00000000-0000-0000-0000-000000000001", value=1)
        found = {(change.object, change.key) for change in store.pending()}
        assert found == {("Labelled", "a"), ("Identified", "00000000000000000000000000000001")}


def test_a_model_may_have_more_columns_than_a_function_of_sqlite_takes(tmp_path: Path) -> None:
    with Store(tmp_path / "wide.db") as store:
        columns: dict[str, Any] = {f"c{number}": TextField(default="{}") for number in range(130)}
        wide: Any = type("Wide", (store.Model,), columns)
        store.setup()
        with as_downloaded(store):
            wide.create(id="k")
        before = wide.select().tuples().get()
        wide.update(c0="changed", c129="changed").execute()
        assert [change.operation for change in store.pending()] == ["update"]
        store.rollback()
        assert wide.select().tuples().get() == before


def test_columns_may_be_called_as_those_of_the_log_are(tmp_path: Path) -> None:
    with Store(tmp_path / "named.db") as store:
        names = ("key", "changed", "known", "was_key", "was_changed", "logged", "now")
        named: Any = type("Named", (store.Model,), {name: TextField(default=name) for name in names})
        store.setup()
        with as_downloaded(store):
            named.create(id="k")
        named.update(**dict.fromkeys(names, "written")).execute()
        named.create(id="new")
        assert [change.operation for change in store.pending()] == ["update", "insert"]
        store.rollback()
        assert list(named.select().tuples()) == [("k", *names)]


def test_two_names_that_sqlite_takes_for_one_are_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "own.db") as store:
        type("Note", (store.Model,), {"text": TextField()})
        with pytest.raises(UnsupportedModel, match=r"NOTE.* Note.* name="):
            type("NOTE", (store.Model,), {"text": TextField()})


def test_an_auto_increment_key_is_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    class Counted(Model):
        value = IntegerField()

    store = Store(tmp_path / "own.db")
    with pytest.raises(UnsupportedModel, match=r"Counted\.id .* statesync\.Model.* UUID"):
        store.track(Counted)


def test_a_key_of_several_columns_is_refused(tmp_path: Path) -> None:
    from peewee import CompositeKey

    class Pair(Model):
        left = TextField()
        right = TextField()

        class Meta:
            primary_key = CompositeKey("left", "right")

    with pytest.raises(UnsupportedModel, match="Pair"):
        Store(tmp_path / "own.db").track(Pair)


def test_two_stores_live_in_one_process(new_device: Callable[..., Device]) -> None:
    one, two = new_device("one"), new_device("two")
    one.add(1)
    assert one.operations() == {"k00000": "insert"}
    assert two.operations() == {}
    assert two.rows() == {}


def test_a_table_that_was_there_before_is_tracked_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    database = SqliteDatabase(str(path))

    class Old(Model):
        code = TextField(primary_key=True)

        class Meta:
            database = None

    with database.bind_ctx([Old]):
        database.create_tables([Old])
        Old.create(code="before")
    database.close()
    with Store(path) as store:
        store.track(Old)
        store.setup()
        Old.create(code="after")
        assert [change.key for change in store.pending()] == ["before", "after"]


# -- folding, against a model ------------------------------------------------------------------------

Row = tuple[str, int | None]
keys = st.sampled_from("abcd")
codes = st.none() | st.integers(1, 3)
values = st.sampled_from(["x", "y", "z"])


@define
class Table:
    """What the table must hold after each write, and which keys were really written."""

    rows: dict[str, Row] = field(factory=dict)
    written: set[str] = field(factory=set)

    def _clashing(self, key: str, code: int | None) -> set[str]:
        return {other for other, row in self.rows.items() if other != key and code and row[1] == code}

    def insert(self, key: str, name: str, code: int | None, *, on_clash: str) -> None:
        clashing = self._clashing(key, code) | ({key} & self.rows.keys())
        if clashing and on_clash != "replace":
            return
        self._put(key, (name, code), clashing)

    def upsert(self, key: str, name: str, code: int | None) -> None:
        if not self._clashing(key, code):
            self._put(key, (name, code), set())

    def update(self, key: str, name: str, code: int | None, *, on_clash: str) -> None:
        clashing = self._clashing(key, code)
        if key in self.rows and not (clashing and on_clash != "replace"):
            self._put(key, (name, code), clashing)

    def rekey(self, key: str, to: str, *, on_clash: str) -> None:
        if key not in self.rows or (to in self.rows and to != key and on_clash != "replace"):
            return
        row = self.rows[key]
        self.delete(key)
        self._put(to, row, {to} & self.rows.keys())

    def delete(self, key: str) -> None:
        if self.rows.pop(key, None) is not None:
            self.written.add(key)

    def _put(self, key: str, row: Row, instead_of: set[str]) -> None:
        for other in instead_of:
            self.delete(other)
        self.rows[key] = row
        self.written.add(key)


Write = tuple[str, ...]
writes = st.one_of(
    st.tuples(st.just("insert"), st.sampled_from(["abort", "ignore", "replace"]), keys, values, codes),
    st.tuples(st.just("upsert"), keys, values, codes),
    st.tuples(st.just("update"), st.sampled_from(["abort", "ignore", "replace"]), keys, values, codes),
    st.tuples(st.just("rekey"), st.sampled_from(["abort", "ignore", "replace"]), keys, keys),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("empty")),
    st.tuples(st.just("fold")),
)
groups = st.lists(
    st.tuples(st.sampled_from(["commit", "rollback"]), st.lists(writes, max_size=5)), max_size=5
)
starts = st.dictionaries(keys, values, max_size=3).flatmap(
    lambda names: st.permutations([1, 2, 3]).map(
        lambda codes: {key: (name, code) for (key, name), code in zip(names.items(), codes, strict=False)}
    )
)


def write_sql(other: sqlite3.Connection, write: Any) -> None:
    match write:
        case ("insert", clash, key, name, code):
            sql = f"INSERT OR {clash} INTO item (id, name, code) VALUES (?, ?, ?)"
            arguments: tuple[Any, ...] = (key, name, code)
        case ("upsert", key, name, code):
            sql = (
                "INSERT INTO item (id, name, code) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET name = excluded.name, code = excluded.code"
            )
            arguments = (key, name, code)
        case ("update", clash, key, name, code):
            sql, arguments = f"UPDATE OR {clash} item SET name = ?, code = ? WHERE id = ?", (name, code, key)
        case ("rekey", clash, key, to):
            sql, arguments = f"UPDATE OR {clash} item SET id = ? WHERE id = ?", (to, key)
        case ("delete", key):
            sql, arguments = "DELETE FROM item WHERE id = ?", (key,)
        case _:
            sql, arguments = "DELETE FROM item", ()
    with suppress(sqlite3.IntegrityError):
        other.execute(sql, arguments)


def write_model(table: Table, write: Any) -> None:
    match write:
        case ("insert", clash, key, name, code):
            table.insert(key, name, code, on_clash=clash)
        case ("upsert", key, name, code):
            table.upsert(key, name, code)
        case ("update", clash, key, name, code):
            table.update(key, name, code, on_clash=clash)
        case ("rekey", clash, key, to):
            table.rekey(key, to, on_clash=clash)
        case ("delete", key):
            table.delete(key)
        case _:
            for key in list(table.rows):
                table.delete(key)


def net_changes(before: dict[str, Row], table: Table) -> dict[str, str]:
    """Say what the outbox must hold, from the rules of section 5 of the design."""
    net = {}
    for key in table.written:
        if key in before:
            net[key] = "update" if key in table.rows else "delete"
        elif key in table.rows:
            net[key] = "insert"
    return net


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a table that has a second unique index."""
    with Store(tmp_path_factory.mktemp("items") / "items.db") as store:

        class Item(store.Model):  # type: ignore[name-defined, misc]
            name = TextField()
            code = IntegerField(null=True, unique=True)

        store.setup()
        yield store


def stored(other: sqlite3.Connection) -> dict[str, Row]:
    return {key: (name, code) for key, name, code in other.execute("SELECT id, name, code FROM item")}


@pytest.mark.parametrize("recursive", ["OFF", "ON"])
@settings(
    max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(start=starts, history=groups)
def test_any_sequence_of_writes_folds_into_the_net_change(
    items: Store, recursive: str, start: dict[str, Row], history: list[tuple[str, list[Write]]]
) -> None:
    """Also when a part of them has been folded already, and whatever ``recursive_triggers`` is."""
    items.clear()
    path = items.database.database
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA synchronous = OFF")
        other.execute(f"PRAGMA recursive_triggers = {recursive}")
        with as_downloaded(items):
            database: Any = items.database
            database.connection().executemany(
                "INSERT INTO item (id, name, code) VALUES (?, ?, ?)",
                [(key, *row) for key, row in start.items()],
            )
        table = Table(dict(start))
        for end, group in history:
            kept = Table(dict(table.rows), set(table.written))
            other.execute("BEGIN IMMEDIATE")
            for write in group:
                if write != ("fold",):
                    write_sql(other, write)
                    write_model(table, write)
            other.execute(end)
            if end == "rollback":
                table = kept
            if ("fold",) in group:
                items.mark_for_upload()
        assert stored(other) == table.rows
        expected = net_changes(start, table)
        assert {change.key: change.operation for change in items.pending()} == expected
        assert items.rollback() == len(expected)
        assert stored(other) == start
        assert items.pending() == []


anything = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.binary(max_size=8),
)


@settings(
    max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=anything.filter(lambda value: value is not None), elevation=anything, plan=anything)
def test_the_image_of_a_record_is_exact_for_every_value_that_sqlite_holds(
    exact: Device, name: Any, elevation: Any, plan: Any
) -> None:
    columns = "typeof(name), name, typeof(elevation), elevation, typeof(plan), plan"
    with as_downloaded(exact.store):
        exact.execute(
            "INSERT OR REPLACE INTO airport (id, name, elevation, plan, is_open) VALUES ('k', ?, ?, ?, 1)",
            name,
            elevation,
            plan,
        )
    before = exact.execute(f"SELECT {columns} FROM airport").fetchone()
    exact.execute("UPDATE airport SET name = 'other', elevation = 1, plan = NULL")
    exact.store.rollback()
    assert exact.execute(f"SELECT {columns} FROM airport").fetchone() == before


@pytest.fixture
def exact(new_device: Callable[..., Device]) -> Device:
    return new_device("exact")


def test_a_local_only_delete_after_an_ignored_insert_stays_local(device: Device) -> None:
    with other_program(device) as other:
        other.execute("INSERT OR IGNORE INTO airport (id, name, is_open) VALUES ('k00000', 'new', 0)")
    with device.store.untracked():
        device.delete("k00000")
    assert device.operations() == {}


def test_local_only_writes_that_fail_leave_tracking_on(device: Device) -> None:
    with device.store.database.atomic():
        with suppress(ZeroDivisionError), device.store.untracked():
            device.edit("k00000", name="half")
            raise ZeroDivisionError
        device.edit("k00001", name="whole")
    assert device.field("k00000", "name") == "n0"
    assert device.operations() == {"k00001": "update"}


def test_local_only_writes_may_stand_inside_each_other(device: Device) -> None:
    with device.store.untracked():
        with device.store.untracked():
            device.edit("k00000", name="inner")
        device.edit("k00001", name="outer")
    device.edit("k00002", name="tracked")
    assert device.operations() == {"k00002": "update"}
