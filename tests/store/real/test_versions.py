"""Schema changes, and two versions of a program: nothing of a migration goes up, and nothing is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peewee import CharField, FloatField, ForeignKeyField, IntegerField, TextField
from playhouse.migrate import SqliteMigrator, migrate
from rig.device import quick_store

from statesync import Store, StoreError, SyncInProgress, UnsupportedModel, UsageError
from statesync.hub import LocalRemote

from .sites import Site

NewSite = Callable[..., Site]
Step = Callable[[Any], object]


def family(store: Store) -> Any:
    """The first version: notes, and lines of them that go with their note."""

    class Note(store.Model):  # type: ignore[name-defined, misc]
        title = TextField()
        count = CharField(null=True)

    class Line(store.Model):  # type: ignore[name-defined, misc]
        note = ForeignKeyField(Note, on_delete="CASCADE", on_update="CASCADE")
        text = TextField(null=True)

    return Note


Make = Callable[[], Any]


def second(title: str = "title", count: Make | None = lambda: CharField(null=True), **more: Make) -> Any:
    """A later version of the same, with other columns in its notes."""

    def define(store: Store) -> Any:
        makers = {title: TextField, "count": count, **more}
        fields = {name: make() for name, make in makers.items() if make is not None}
        note: Any = type("Note", (store.Model,), fields)

        class Line(store.Model):  # type: ignore[name-defined, misc]
            note_ = ForeignKeyField(note, column_name="note_id", on_delete="CASCADE", on_update="CASCADE")
            text = TextField(null=True)

        return note

    return define


def kind() -> Any:
    return TextField(default="x")


def reopened(site: Site, define: Callable[[Store], Any], *steps: Step) -> Site:
    """The program starts again, in another version."""
    path = site.store.database.database
    site.store.close()
    store = quick_store(path)
    model = define(store)
    store.setup(migrations=list(steps))
    return Site(store, model, site.remote)


@pytest.fixture
def pair(new_site: NewSite) -> tuple[Site, Site]:
    """Two devices with three notes and a line of each."""
    a, b = new_site("a", family), new_site("b", family)
    for key in ("k", "l", "m"):
        a.model.create(id=key, title=f"title {key}", count="7")
        a.execute("INSERT INTO line (id, note_id, text) VALUES (?, ?, 'line')", f"of {key}", key)
    a.sync()
    b.sync()
    return a, b


def lines(site: Site) -> list[tuple[Any, ...]]:
    return site.execute("SELECT id, note_id, text FROM line ORDER BY id")


LINES = [("of k", "k", "line"), ("of l", "l", "line"), ("of m", "m", "line")]


# -- migrations ------------------------------------------------------------------------------------


def rebuild(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE fresh (id TEXT NOT NULL PRIMARY KEY, title TEXT NOT NULL CHECK (title <> ''), "
        "count TEXT)"
    )
    connection.execute("INSERT INTO fresh SELECT id, title, count FROM note")
    connection.execute("DROP TABLE note")
    connection.execute("ALTER TABLE fresh RENAME TO note")


def rewrite(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE note SET count = 'other'")
    connection.execute("INSERT INTO note (id, title) VALUES ('made', 'by the migration')")


CHANGES: dict[str, tuple[Step, Any]] = {
    "add_column": (
        lambda migrator: migrator.add_column("note", "kind", TextField(default="x")),
        second(kind=kind),
    ),
    "add_null": (
        lambda migrator: migrator.add_column("note", "kind", TextField(null=True)),
        second(kind=lambda: TextField(null=True)),
    ),
    "drop_column": (lambda migrator: migrator.drop_column("note", "count"), second(count=None)),
    "drop_column, legacy": (
        lambda migrator: migrator.drop_column("note", "count", legacy=True),
        second(count=None),
    ),
    "rename_column": (lambda migrator: migrator.rename_column("note", "title", "heading"), second("heading")),
    "rename_column, legacy": (
        lambda migrator: migrator.rename_column("note", "title", "heading", legacy=True),
        second("heading"),
    ),
    "alter_column_type": (
        lambda migrator: migrator.alter_column_type("note", "count", IntegerField(null=True)),
        second(count=lambda: IntegerField(null=True)),
    ),
    "add_not_null": (lambda migrator: migrator.add_not_null("note", "count"), second(count=CharField)),
    "drop_not_null": (lambda migrator: [migrator.drop_not_null("note", "title")], second()),
    "add_index": (lambda migrator: migrator.add_index("note", ("title",), unique=True), second()),
    "migrate": (lambda migrator: migrate(migrator.add_column_default("note", "count", "9")), second()),
    "rebuild": (rebuild, second()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_migration_of_a_parent_uploads_nothing_and_cascades_to_nothing(
    pair: tuple[Site, Site], change: str
) -> None:
    a, b = pair
    step, define = CHANGES[change]
    before = b.rows()
    a = reopened(a, define, step)
    assert a.store.pending() == []
    assert lines(a) == LINES
    assert [row[0] for row in a.execute("SELECT id FROM note ORDER BY id")] == ["k", "l", "m"]
    assert a.store.examine() == []
    a.sync()
    assert lines(a) == LINES
    b.sync()
    assert (b.rows(), lines(b)) == (before, LINES)
    a.execute("UPDATE line SET text = 'edited' WHERE id = 'of k'")
    a.execute("DELETE FROM note WHERE id = 'm'")
    a.sync()
    b.sync()
    assert lines(b) == [("of k", "k", "edited"), ("of l", "l", "line")]
    a.store.close()


@pytest.mark.crossed
@pytest.mark.parametrize("choice", ["local", "remote", "values"])
@pytest.mark.parametrize("change", ["drop_column", "rename_column"])
def test_a_conflict_that_waits_is_settled_also_after_a_migration(
    pair: tuple[Site, Site], change: str, choice: str
) -> None:
    """Its sides have the columns of before."""
    a, b = pair
    step, define = CHANGES[change]
    b.model.update(title="theirs", count="8").where(b.model.id == "k").execute()
    b.sync()
    a.model.update(title="mine").where(a.model.id == "k").execute()
    a.sync(conflict_policy="later")
    a, b = reopened(a, define, step), reopened(b, define, step)
    (entry,) = a.store.conflicts(waiting=True)
    text = "heading" if change == "rename_column" else "title"
    a.store.resolve(entry, {text: "both"} if choice == "values" else choice)
    assert a.store.conflicts(waiting=True) == []
    assert a.store.examine() == []
    for site in (a, b, a):
        site.sync()
    kept = {"local": "mine", "remote": "theirs", "values": "both"}[choice]
    if change == "rename_column" and choice != "values":
        kept = "mine"  # each side's was in a column that is gone, and each device has its own in the new one
    else:
        assert a.rows() == b.rows()
    assert a.execute(f"SELECT {text} FROM note WHERE id = 'k'") == [(kept,)]
    a.store.close()
    b.store.close()


@pytest.mark.parametrize("when", ["at once", "later"])
def test_what_a_decision_writes_in_a_new_column_goes_up(pair: tuple[Site, Site], when: str) -> None:
    a, b = pair
    b.model.update(title="theirs").where(b.model.id == "k").execute()
    b.sync()
    a.model.update(title="mine").where(a.model.id == "k").execute()
    a, b = reopened(a, KIND), reopened(b, KIND)
    a.sync(conflict_policy="later" if when == "later" else lambda _conflict: {"kind": "decided"})
    for entry in a.store.conflicts(waiting=True):
        a.store.resolve(entry, {"kind": "decided"})
    for site in (a, b, a):
        site.sync()
    assert a.rows() == b.rows()
    assert b.rows()["k"][2] == "decided"
    a.store.close()
    b.store.close()


def test_what_a_migration_writes_is_not_uploaded(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a = reopened(a, second(kind=kind), rewrite)
    assert a.store.pending() == []
    a.sync()
    b.sync()
    assert a.rows()["made"] == ("by the migration", None, "x")
    assert b.rows().keys() == {"k", "l", "m"}
    assert b.rows()["k"] == ("title k", "7")
    a.store.close()


def test_what_waits_goes_up_after_a_migration_as_it_was_made(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.model.update(title="edited").where(a.model.id == "k").execute()
    a.model.create(id="new", title="new")
    a.model.delete_by_id("m")
    a = reopened(a, second(kind=kind), CHANGES["add_column"][0])
    assert a.operations() == {"k": "update", "new": "insert", "m": "delete", "of m": "delete"}
    a.sync()
    b.sync()
    assert b.rows() == {"k": ("edited", "7"), "l": ("title l", "7"), "new": ("new", None)}
    a.store.close()


def test_a_change_can_be_taken_back_after_its_column_is_gone(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.model.update(title="edited", count="8").execute()
    a = reopened(a, second(count=None), CHANGES["drop_column"][0])
    assert a.store.rollback() == 3
    assert a.rows()["k"] == ("title k",)
    a.store.close()


def test_a_step_is_taken_once_and_the_next_ones_after_it(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    taken: list[str] = []

    def first(connection: sqlite3.Connection) -> None:
        taken.append("first")

    def then(migrator: SqliteMigrator) -> None:
        taken.append(type(migrator).__name__)

    a = reopened(a, second(), first)
    a = reopened(a, second(), first)
    a = reopened(a, second(), first, then)
    a.store.setup()
    assert taken == ["first", "SqliteMigrator"]
    a.store.close()


def test_a_fresh_file_takes_no_step(tmp_path: Path) -> None:
    def never(connection: sqlite3.Connection) -> None:
        raise AssertionError("the tables are made as the models are now")

    with quick_store(tmp_path / "fresh.db") as store:
        family(store)
        store.setup(migrations=[never])
        store.setup(migrations=[never])


def break_it(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE line")
    connection.execute("INSERT INTO note (id) VALUES ('k')")


def end_it(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE line")
    connection.execute("COMMIT")


def raise_it(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE line")
    raise ZeroDivisionError


@pytest.mark.parametrize(("step", "error"), [(break_it, StoreError), (raise_it, ZeroDivisionError)])
def test_a_step_that_fails_changes_nothing_not_even_by_the_steps_before_it(
    pair: tuple[Site, Site], step: Step, error: type[Exception]
) -> None:
    a, _ = pair
    path = Path(a.store.database.database)
    a.store.close()
    with quick_store(path) as store:
        family(store)
        with pytest.raises(error) as failed:
            store.setup(migrations=[rewrite, step])
        said = f"{failed.value} {getattr(failed.value, '__notes__', '')}"
        assert "migration 2" in said
        assert step.__name__ in said
    a = reopened(a, family)
    assert lines(a) == LINES
    a.model.update(title="edited").where(a.model.id == "k").execute()
    assert a.operations() == {"k": "update"}
    assert a.store.examine() == []
    a.store.close()


def test_a_step_that_ends_the_transaction_is_told_so(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    path = Path(a.store.database.database)
    a.store.close()
    with quick_store(path) as store:
        family(store)
        with pytest.raises(UsageError, match="ended the transaction"):
            store.setup(migrations=[end_it])


def test_a_migration_waits_for_no_session_for_ever(
    pair: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    from statesync.store.evolution import steps

    monkeypatch.setattr(steps, "_PATIENCE", 0.1)
    a, _ = pair
    with quick_store(Path(a.store.database.database)) as other:
        family(other)
        a.store._parts.lock.acquire()
        with pytest.raises(SyncInProgress):
            other.setup(migrations=[rewrite])
        a.store._parts.lock.release()
        other.setup(migrations=[rewrite])


# -- new columns -----------------------------------------------------------------------------------


def test_new_columns_that_may_be_empty_or_have_a_default_are_added_by_setup(pair: tuple[Site, Site]) -> None:
    a, b = pair
    made = iter(range(100))
    define = second(
        kind=lambda: TextField(default="it's x"),
        note=lambda: TextField(null=True),
        rate=lambda: FloatField(default=1.5, index=True),
        number=lambda: IntegerField(default=lambda: next(made), unique=True),
    )
    a = reopened(a, define)
    assert a.store.pending() == []
    rows = a.rows()
    assert {row[2:5] for row in rows.values()} == {("it's x", None, 1.5)}
    assert len({row[5] for row in rows.values()}) == 3
    indexed = a.execute("SELECT name FROM pragma_index_list('note') WHERE origin = 'c' ORDER BY 1")
    assert indexed == [("note_number",), ("note_rate",)]
    a.sync()
    assert a.rows() == rows
    b.sync()
    assert b.rows()["k"] == ("title k", "7")
    assert a.store.scope(a.remote).diagnose().differences == ()
    a.store.close()


KIND = second(kind=kind)


def by_hand(site: Site) -> Site:
    """The column is added before setup, as a program does that knows nothing of ``migrations``."""
    migrator = SqliteMigrator(site.store.database)
    with migrator.migration_context():
        migrate(migrator.add_column("note", "kind", kind()))
    return reopened(site, KIND)


def by_sql(site: Site) -> Site:
    site.execute("ALTER TABLE note ADD COLUMN kind TEXT")
    site.execute("UPDATE note SET kind = 'x'")
    return reopened(site, KIND)


def by_whole_rows(site: Site) -> Site:
    """A program saves whole records, with all their columns, to fill in the new one."""
    site.execute("ALTER TABLE note ADD COLUMN kind TEXT")
    site.execute("UPDATE note SET id = id, title = title, count = count, kind = 'x'")
    return reopened(site, KIND)


def by_migration(site: Site) -> Site:
    return reopened(site, KIND, CHANGES["add_column"][0])


def by_setup(site: Site) -> Site:
    return reopened(site, KIND)


WAYS = (by_hand, by_sql, by_whole_rows, by_migration, by_setup)


@pytest.mark.parametrize("upgrade", WAYS)
def test_the_fleets_values_of_a_new_column_win_over_those_that_a_device_filled_in(
    pair: tuple[Site, Site], upgrade: Callable[[Site], Site]
) -> None:
    a, b = pair
    b = by_setup(b)
    b.sync()
    b.model.update(kind="y").where(b.model.id << ["k", "l"]).execute()
    b.sync()
    a.sync()  # the old version reads what it does not know
    a.model.update(title="mine").where(a.model.id == "l").execute()
    a = upgrade(a)
    assert a.operations() == {"l": "update"}
    a.model.update(title="later").where(a.model.id == "m").execute()
    assert a.operations() == {"l": "update", "m": "update"}
    a.sync()
    b.sync()
    expected = {"k": ("title k", "7", "y"), "l": ("mine", "7", "y"), "m": ("later", "7", "x")}
    assert a.rows() == b.rows() == expected
    for site in (a, b):
        assert site.store.scope(site.remote).diagnose().differences == ()
        assert site.store.examine() == []
        assert site.store.conflicts() == []
        site.store.close()


@pytest.mark.parametrize("upgrade", WAYS)
def test_the_fleets_values_also_come_to_records_whose_changes_waited_when_they_were_read(
    pair: tuple[Site, Site], upgrade: Callable[[Site], Site]
) -> None:
    a, b = pair
    b = by_setup(b)
    b.sync()
    b.model.update(kind="y").execute()
    b.sync()
    a.sync()
    a = upgrade(a)
    a.model.update(title="mine").where(a.model.id == "l").execute()
    a.sync(sync_type="download_only")
    assert a.operations() == {"l": "update"}
    a.sync()
    b.sync()
    expected = {"k": ("title k", "7", "y"), "l": ("mine", "7", "y"), "m": ("title m", "7", "y")}
    assert a.rows() == b.rows() == expected
    assert a.operations() == {}
    for site in (a, b):
        assert site.store.scope(site.remote).diagnose().differences == ()
        site.store.close()


@pytest.mark.parametrize("choice", ["local", {"title": "both"}])
def test_the_fleets_values_also_come_to_a_record_whose_conflict_waited_when_they_were_read(
    pair: tuple[Site, Site], choice: object
) -> None:
    """The program has decided for its side, which has nothing of the new column."""
    a, b = pair
    b = by_setup(b)
    b.sync()
    b.model.update(title="theirs", kind="y").where(b.model.id == "k").execute()
    b.sync()
    a.model.update(title="mine").where(a.model.id == "k").execute()
    a.sync(conflict_policy="later")
    a = by_setup(a)
    a.sync(conflict_policy="later")
    (entry,) = a.store.conflicts(waiting=True)
    a.store.resolve(entry, choice)
    for site in (a, b, a):
        site.sync()
    kept = "mine" if choice == "local" else "both"
    assert a.rows() == b.rows()
    assert a.rows()["k"] == (kept, "7", "y")
    for site in (a, b):
        assert site.store.scope(site.remote).diagnose().differences == ()
        site.store.close()


@pytest.mark.parametrize("upgrade", WAYS)
def test_what_waits_is_told_the_same_before_a_new_column_is_folded_and_after(
    pair: tuple[Site, Site], upgrade: Callable[[Site], Site]
) -> None:
    """With its base: what was written in a column that was not read so far began from nothing known."""
    a, b = pair
    a.model.update(title="mine").where(a.model.id << ["k", "m"]).execute()
    a = upgrade(a)
    a.model.update(kind="z").where(a.model.id << ["k", "l"]).execute()
    a.model.update(title="later").where(a.model.id == "m").execute()
    told = a.store.pending()
    a.fold()
    assert told == a.store.pending()
    assert {change.key: change.base for change in told}["l"] == 1
    assert all(change.base > 1 for change in told if change.key == "m")
    a.store.close()
    b.store.close()


@pytest.mark.parametrize("upgrade", WAYS)
def test_a_value_that_is_written_in_a_new_column_goes_up(
    pair: tuple[Site, Site], upgrade: Callable[[Site], Site]
) -> None:
    """Also in a change that had waited before the column came, and in one that a rollback then takes back."""
    a, b = pair
    a.model.update(title="mine").where(a.model.id << ["k", "m"]).execute()
    a = upgrade(a)
    a.model.update(kind="z").execute()
    a.store.rollback(a.model.get_by_id("m"))
    assert a.rows()["m"] == ("title m", "7", "x")
    a.sync()
    b.sync()
    b = by_setup(b)
    b.sync()
    assert b.rows() == {"k": ("mine", "7", "z"), "l": ("title l", "7", "z"), "m": ("title m", "7", "x")}
    a.store.close()
    b.store.close()


@pytest.mark.parametrize("policy", ["server_wins", "client_wins", "merge_fields"])
def test_what_was_filled_in_is_at_stake_in_no_conflict(pair: tuple[Site, Site], policy: str) -> None:
    a, b = pair
    b = by_setup(b)
    b.model.update(kind="y").execute()
    b.sync()
    a.model.update(title="mine").execute()
    a = by_setup(a)
    a.sync(conflict_policy=policy)
    b.sync()
    assert {row[2] for row in a.rows().values()} == {"y"} or policy == "client_wins"
    assert a.rows() == b.rows()
    a.store.close()
    b.store.close()


# -- several versions on one file ------------------------------------------------------------------


def test_an_older_program_on_the_same_file_syncs_a_change_whole(pair: tuple[Site, Site]) -> None:
    a, b = pair
    b = by_setup(b)
    a = by_setup(a)
    a.sync()
    a.model.update(title="new", kind="z").where(a.model.id == "k").execute()
    a.model.create(id="n", title="new", kind="z")
    a = reopened(a, family)
    a.model.create(id="old", title="by the old one")
    a.sync()
    b.sync()
    assert b.rows()["k"] == ("new", "7", "z")
    assert b.rows()["n"] == ("new", None, "z")
    assert b.rows()["old"] == ("by the old one", None, "x")
    a = reopened(a, KIND)
    assert a.rows() == b.rows()
    a.store.close()
    b.store.close()


def test_old_and_new_programs_work_on_one_file_at_once(pair: tuple[Site, Site]) -> None:
    a, b = pair
    b = by_setup(b)
    with quick_store(Path(a.store.database.database)) as store:
        new = Site(store, KIND(store), a.remote)
        store.setup()
        new.model.update(kind="z").where(new.model.id == "k").execute()
        a.model.update(title="old").where(a.model.id == "l").execute()
        a.model.create(id="n", title="old")
        assert a.operations() == new.operations() == {"k": "update", "l": "update", "n": "insert"}
        a.sync()
        b.sync()
        assert b.rows() == {
            "k": ("title k", "7", "z"),
            "l": ("old", "7", "x"),
            "m": ("title m", "7", "x"),
            "n": ("old", None, "x"),
        }
        b.model.update(kind="by b").execute()
        b.sync()
        a.sync()
        assert new.rows() == b.rows()
    b.store.close()


def test_a_smaller_tool_changes_nothing_that_it_does_not_know(pair: tuple[Site, Site]) -> None:
    a, b = pair

    def tool(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            count = CharField(null=True)

        return Note

    a = reopened(a, tool)
    a.model.update(count="8").where(a.model.id == "k").execute()
    a.sync()
    b.sync()
    b.model.update(title="from b").where(b.model.id == "l").execute()
    b.sync()
    a.sync()
    a = reopened(a, family)
    assert a.rows() == b.rows()
    assert b.rows()["k"] == ("title k", "8")
    a.store.close()


def test_an_older_program_is_told_of_a_column_that_a_newer_one_took_away(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a = reopened(a, second(count=None), CHANGES["drop_column"][0])
    with pytest.raises(UnsupportedModel, match="newer version of this program"):
        reopened(a, family)
    a = reopened(a, second(count=None), CHANGES["drop_column"][0])
    assert a.store.pending() == []
    assert isinstance(a.remote, LocalRemote)
    a.store.close()


def test_a_write_of_columns_that_are_not_tracked_is_no_change(new_site: NewSite) -> None:
    def note(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField()

        return Note

    before = "CREATE TABLE note (id TEXT NOT NULL PRIMARY KEY, title TEXT NOT NULL, place TEXT)"
    a = new_site("a", note, before)
    a.model.create(id="k", title="1")
    a.sync()
    a.execute("UPDATE note SET place = 'local'")
    assert not a.store.has_pending()
    assert a.store.pending() == []
    a.fold()
    assert a.store.pending() == []
    a.execute("INSERT OR REPLACE INTO note (id, title, place) VALUES ('k', '1', 'again')")
    assert a.store.pending() == []
    a.execute("UPDATE note SET place = 'other', title = '2'")
    assert a.operations() == {"k": "update"}
