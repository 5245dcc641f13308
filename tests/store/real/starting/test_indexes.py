"""An empty table is filled without the indexes that nobody needs for it, and has them in the end."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from peewee import ForeignKeyField, TextField

from statesync import Store, StoreFull, SyncCancelled, SyncOptions
from statesync.hub import Hub
from statesync.store.file.database import Database
from statesync.store.indexes import building
from statesync.wire import Page, Pull

from ..sites import Site

NewSite = Callable[..., Site]

ALL = {"note_title", "note_part", "note_lower"}


def indexed(store: Store) -> Any:
    class Note(store.Model):  # type: ignore[name-defined, misc]
        title = TextField(null=True, index=True)
        code = TextField(null=True, unique=True)

    return Note


MORE = """
CREATE TABLE "note" ("id" TEXT NOT NULL PRIMARY KEY, "title" TEXT, "code" TEXT);
CREATE INDEX "note_title" ON "note" ("title");
CREATE UNIQUE INDEX "note_code" ON "note" ("code");
CREATE INDEX note_part ON note (code, title COLLATE NOCASE DESC) WHERE title > 'b';
CREATE INDEX note_lower ON note (lower(title) || 'x', length(code));
"""


@pytest.fixture(autouse=True)
def few_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "WORTH_IT", 5)


class Watched:
    """Goes before a site's hub, and notes which indexes its table has whenever a page is asked for."""

    def __init__(self, site: Site, before: Callable[[int], None] | None = None) -> None:
        self.site, self.space, self.remote = site, site.remote.space, site.remote
        self.seen: list[set[str]] = []
        self.before = before
        site.remote = self  # type: ignore[assignment]

    def pull(self, request: Pull) -> Page:
        with self.site.other_program() as other:
            self.seen.append(indexes(other))
        if self.before is not None:
            self.before(len(self.seen))
        return self.remote.pull(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.remote, name)


def indexes(connection: sqlite3.Connection) -> set[str]:
    """Return the indexes of the table that are not unique."""
    rows = connection.execute("SELECT name FROM pragma_index_list('note') WHERE NOT \"unique\"")
    return {name for (name,) in rows}


def here(site: Site) -> set[str]:
    with site.other_program() as other:
        return indexes(other)


def statements(site: Site) -> set[str]:
    return {sql for (sql,) in site.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql > ''")}


def marks(site: Site) -> set[str]:
    return {name for (name,) in site.execute("SELECT name FROM statesync_index")}


@pytest.fixture
def home(new_site: NewSite) -> Site:
    """A device that has sent eight records."""
    home = new_site("home", indexed)
    for number in range(8):
        home.model.create(id=f"{number:02}", title=f"{number % 3}", code=f"c{number}")
    home.sync()
    return home


@pytest.fixture
def away(new_site: NewSite) -> Site:
    """An empty device, with indexes of every kind."""
    return new_site("away", indexed, MORE)


def broken_off(site: Site, after: int = 2) -> None:
    """Let a first read be cancelled amid page number ``after``."""
    scope = site.store.scope(site.remote)
    watched = Watched(site, lambda number: scope.cancel_sync() if number == after else None)
    scope = site.store.scope(watched)
    with pytest.raises(SyncCancelled):
        scope.sync(SyncOptions(download_batch_size=2))
    site.remote = watched.remote


def test_a_first_read_fills_the_table_without_them_and_builds_them_at_its_end(home: Site, away: Site) -> None:
    before = statements(away)
    watched = Watched(away)
    away.sync(download_batch_size=2)
    assert (watched.seen[0], watched.seen[-1]) == (ALL, set())
    assert away.rows() == home.rows()
    assert (statements(away), marks(away)) == (before, set())
    assert away.execute("PRAGMA integrity_check") == [("ok",)]
    assert away.store.examine() == []


def test_rules_of_the_table_stay(home: Site, away: Site) -> None:
    watched = Watched(away, lambda number: None)
    seen: list[int] = []
    watched.before = lambda number: seen.append(
        away.execute("SELECT count(*) FROM pragma_index_list('note') WHERE \"unique\"")[0][0]
    )
    away.sync(download_batch_size=2)
    assert set(seen) == {2}


def test_a_small_read_leaves_them(home: Site, away: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "WORTH_IT", 9)
    watched = Watched(away)
    away.sync(download_batch_size=2)
    assert watched.seen == [ALL] * 4


def test_one_page_leaves_them(home: Site, away: Site) -> None:
    watched = Watched(away)
    away.sync()
    assert watched.seen == [ALL]
    version = away.execute("PRAGMA schema_version")
    away.store.clear()
    away.sync()
    assert away.execute("PRAGMA schema_version") == version


def test_a_table_that_has_a_row_keeps_them(home: Site, away: Site) -> None:
    away.model.create(id="mine", title="mine", code="mine")
    watched = Watched(away)
    away.sync(download_batch_size=2)
    assert set(map(frozenset, watched.seen)) == {frozenset(ALL)}
    assert len(watched.seen) > 3


def test_they_are_dropped_again_after_clear_and_reset(home: Site, away: Site) -> None:
    away.sync()
    for start_over in (away.store.clear, away.store.reset):
        start_over()
        watched = Watched(away)
        away.sync(download_batch_size=2)
        assert set() in watched.seen
        assert (here(away), marks(away)) == (ALL, set())
        away.remote = watched.remote


def test_a_session_keeps_little_in_memory_where_it_writes_one_row_behind_the_other(
    new_site: NewSite, hub: Hub
) -> None:
    """Not where another index than the key's has to be kept, and the next session has as much as ever."""

    def plain(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True, index=True)

        return Note

    caches: dict[str, list[int]] = {}
    home = new_site("home", plain)
    for number in range(8):
        home.model.create(id=f"{number:02}", title="a")
    home.sync()
    for name, unique in (("free", ""), ("strict", "CREATE UNIQUE INDEX one ON note (id, title)")):
        site = new_site(name, plain)
        if unique:
            site.execute(unique)
        found = caches.setdefault(name, [])
        watched = Watched(site)
        for _ in range(2):
            scope = site.store.scope(site.remote)
            scope.sync(SyncOptions(download_batch_size=2), on_progress=partial(note_cache, site, found))
        assert len(watched.seen) > 4
    assert set(caches["strict"]) == {-16_000}
    assert caches["free"][0] == caches["free"][-1] == -16_000
    assert -4_000 in caches["free"]


def note_cache(site: Site, found: list[int], _: object) -> None:
    """Note the cache of the connection of the session that runs, or ran last."""
    database = site.store._parts.database.peewee
    connection = database._session or database._spare
    (size,) = connection.execute("PRAGMA cache_size").fetchone() if connection is not None else (-16_000,)
    found.append(size)


def test_nobody_has_to_look_what_was_changed(home: Site, away: Site) -> None:
    """A change of the schema is looked into by whoever comes next, unless it is known to be ours."""
    away.sync(download_batch_size=2)
    noted = away.execute("SELECT value FROM statesync_meta WHERE key = 'schema'")
    assert noted == away.execute("PRAGMA schema_version")


# -- what is broken off ----------------------------------------------------------------------------------


def test_after_a_cancel_the_next_session_goes_on_without_them_and_builds_them(home: Site, away: Site) -> None:
    broken_off(away)
    assert (here(away), marks(away)) == (set(), ALL)
    assert away.store.examine() == [], "it is amid its first read"
    watched = Watched(away)
    away.sync(download_batch_size=2)
    assert set(map(frozenset, watched.seen)) == {frozenset()}
    assert (here(away), marks(away)) == (ALL, set())
    assert away.rows() == home.rows()


def test_after_a_cancel_setup_builds_them(home: Site, away: Site) -> None:
    broken_off(away)
    away.store.setup()
    assert (here(away), marks(away)) == (ALL, set())
    away.sync(download_batch_size=2)
    assert away.rows() == home.rows()


def test_migrations_find_them(home: Site, away: Site) -> None:
    broken_off(away)
    found: list[set[str]] = []
    away.store.setup(migrations=[lambda connection: found.append(indexes(connection))])
    assert found == [ALL]


@pytest.mark.parametrize("what", ["clear", "reset"])
def test_starting_over_builds_them(home: Site, away: Site, what: str) -> None:
    broken_off(away)
    getattr(away.store, what)()
    assert (here(away), marks(away)) == (ALL, set())


def test_an_object_that_is_dropped_takes_its_marks_along(home: Site, away: Site) -> None:
    broken_off(away)
    away.store.drop()
    assert marks(away) == set()


def test_a_session_of_other_objects_builds_them_too(new_site: NewSite, home: Site, away: Site) -> None:
    broken_off(away)

    class Other(away.store.Model):  # type: ignore[name-defined, misc]
        text = TextField()

    with away.other_program() as other:  # a setup() of this program would have built them
        kept = other.execute("SELECT * FROM statesync_index").fetchall()
    away.store.setup()
    for name, *_ in kept:
        away.execute(f"DROP INDEX {name}")
    away.execute("DELETE FROM statesync_index")
    for row in kept:
        away.execute("INSERT INTO statesync_index VALUES (?, ?, ?)", *row)
    away.store.scope(away.remote, Other).sync()
    assert (here(away), marks(away)) == (ALL, set())


class Calls:
    """Says from its call number ``at`` on that it is called."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def __call__(self) -> bool:
        self.count += 1
        return self.count >= self.at


def filled(site: Site, rows: int) -> None:
    site.unseen(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO note SELECT printf('%06d', i), 'title ' || i % 1000, 'code ' || i FROM n",
        rows,
    )
    with site.other_program() as other:
        for name, sql in other.execute(
            "SELECT name, sql FROM sqlite_master WHERE name IN ('note_title', 'note_part', 'note_lower')"
        ).fetchall():
            other.execute(f"DROP INDEX {name}")
            other.execute("INSERT INTO statesync_index VALUES (?, 'note', ?)", (name, sql))


def test_building_is_broken_off_amid_an_index_and_what_is_built_stays(
    away: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it is called."""
    monkeypatch.setattr(building, "_STEPS", 2000)
    filled(away, 3000)
    database: Database = away.store._parts.database
    every = Calls(1 << 30)
    assert building.build_all(database, every)
    assert every.count > 20
    ends = set()
    for at in range(1, every.count, 3):
        for name in here(away):
            away.execute(f"DROP INDEX {name}")
        away.execute("DELETE FROM note")
        filled_again(away)
        calls = Calls(at)
        assert building.build_all(database, calls) is False
        assert calls.count <= at + 2
        assert here(away) | marks(away) == ALL
        assert not here(away) & marks(away)
        ends.add(len(here(away)))
    assert ends == {0, 1, 2}


def filled_again(site: Site) -> None:
    filled(site, 3000)
    for name, sql in STATEMENTS.items():
        site.execute("INSERT OR IGNORE INTO statesync_index VALUES (?, 'note', ?)", name, sql)


STATEMENTS = {
    "note_title": "CREATE INDEX note_title ON note (title)",
    "note_part": "CREATE INDEX note_part ON note (code, title COLLATE NOCASE DESC) WHERE title > 'b'",
    "note_lower": "CREATE INDEX note_lower ON note (lower(title) || 'x', length(code))",
}


@pytest.fixture
def on_building(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens when a session begins to build."""
    happens: list[Callable[[], object]] = []
    build = building.build_all

    def build_all(database: Database, is_called: Callable[[], bool] | None = None) -> bool:
        for each in happens:
            each()
        return build(database, is_called)

    monkeypatch.setattr("statesync.store.session_store.build_all", build_all)
    return happens


def test_a_cancel_amid_the_building_ends_the_session_as_cancelled(
    home: Site, away: Site, on_building: list[Callable[[], object]]
) -> None:
    scope = away.store.scope(away.remote)
    on_building.append(scope.cancel_sync)
    with pytest.raises(SyncCancelled) as raised:
        scope.sync(SyncOptions(download_batch_size=2))
    assert raised.value.result is not None
    assert raised.value.result.stats.downloaded == 8
    assert (here(away), marks(away), away.rows()) == (set(), ALL, home.rows())
    assert {one.repair for one in away.store.examine()} == {"reindex"}
    on_building.clear()
    away.sync()
    assert (here(away), marks(away)) == (ALL, set())


def test_the_end_of_its_time_amid_the_building_ends_the_session(
    home: Site, away: Site, on_building: list[Callable[[], object]]
) -> None:
    over = threading.Event()
    on_building.append(lambda: over.wait(0.35))
    with pytest.raises(SyncCancelled):
        away.sync(download_batch_size=2, timeout=0.3)
    assert marks(away) == ALL
    on_building.clear()
    away.sync()
    assert (here(away), marks(away)) == (ALL, set())


def test_a_timer_that_says_nothing_any_more_does_not_break_the_building_off(
    home: Site, away: Site, on_building: list[Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head start of an upload is over, and nobody has looked, since its answer came first."""
    monkeypatch.setattr("statesync.session.driver.HEAD_START", 0.1)
    never = threading.Event()
    on_building.append(lambda: never.wait(0.2))
    away.execute("CREATE TABLE other (id TEXT NOT NULL PRIMARY KEY, text TEXT)")

    class Other(away.store.Model):  # type: ignore[name-defined, misc]
        text = TextField()

    away.store.setup()
    Other.create(text="goes up")
    session = away.store.scope(away.remote).start_sync(SyncOptions(download_batch_size=2))
    assert session.result(timeout=5).stats.uploaded == 1
    assert (here(away), marks(away)) == (ALL, set())


def test_repair_builds_what_the_doctor_misses(
    home: Site, away: Site, on_building: list[Callable[[], object]]
) -> None:
    on_building.append(away.store.scope(away.remote).cancel_sync)
    with pytest.raises(SyncCancelled):
        away.sync(download_batch_size=2)
    assert [(one.about, one.repair) for one in away.store.examine()] == [("Note", "reindex")] * 3
    assert away.store.repair() == []
    assert (here(away), marks(away)) == (ALL, set())


def test_a_full_disk_amid_the_building_is_named_and_the_next_session_builds(
    home: Site, away: Site, on_building: list[Callable[[], object]]
) -> None:
    home.execute("UPDATE note SET title = title || printf('%03000d', 7)")
    home.sync()

    def fill_disk() -> None:
        raw = away.store._parts.database.raw()
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        raw.execute(f"PRAGMA max_page_count = {pages}")

    on_building.append(fill_disk)
    with pytest.raises(StoreFull):
        away.sync(download_batch_size=2)
    assert (marks(away), away.rows()) == (ALL, home.rows())
    on_building.clear()
    away.sync()
    assert (here(away), marks(away)) == (ALL, set())


# -- what became of them meanwhile ---------------------------------------------------------------------------


def test_one_that_the_program_made_again_needs_no_building(home: Site, away: Site) -> None:
    broken_off(away)
    with away.other_program() as other:
        other.execute("CREATE INDEX Note_Title ON note (title, code)")
    away.sync(download_batch_size=2)
    assert (here(away), marks(away)) == ({"Note_Title", "note_part", "note_lower"}, set())


@pytest.mark.parametrize(
    "otherwise",
    [
        "UPDATE statesync_index SET sql = 'CREATE INDEX note_title ON note (gone)' WHERE name = 'note_title'",
        "CREATE VIEW note_title AS SELECT 1",
        "UPDATE statesync_index SET sql = 'nonsense' WHERE name = 'note_title'",
        "UPDATE statesync_index SET sql = 'CREATE INDEX a ON note (id); SELECT 1' WHERE name = 'note_title'",
    ],
)
def test_one_that_cannot_be_made_any_more_is_let_go_with_a_warning(
    home: Site, away: Site, otherwise: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken_off(away)
    away.execute(otherwise)
    away.sync(download_batch_size=2)
    assert (here(away), marks(away)) == (ALL - {"note_title"}, set())
    assert away.rows() == home.rows()
    assert any("note_title" in record.message for record in caplog.records)


def test_a_table_that_was_made_anew_has_them_too(home: Site, away: Site) -> None:
    broken_off(away)
    away.execute("DROP TABLE note")
    away.store.setup()
    away.sync(download_batch_size=2)
    assert (here(away), marks(away)) == (ALL, set())
    assert away.rows() == home.rows()


def test_names_that_need_quotes_and_a_table_of_that_name_elsewhere(new_site: NewSite, home: Site) -> None:
    away = new_site("away", indexed, MORE + 'CREATE INDEX "odd ""name" ON "note" (title, id);')
    away.execute("CREATE TEMP TABLE note (title)")
    broken_off(away)
    away.execute("DROP TABLE temp.note")
    assert marks(away) == ALL | {'odd "name'}
    away.execute("CREATE TEMP TABLE note (title)")
    away.store.setup()
    away.execute("DROP TABLE temp.note")
    assert (here(away), marks(away)) == (ALL | {'odd "name'}, set())


def test_one_of_which_sqlite_knows_figures_stays(home: Site, away: Site) -> None:
    """They go with it, and nobody could make them anew."""
    home_rows = [("x", "t", "c")]
    for row in home_rows:
        away.unseen("INSERT INTO note VALUES (?, ?, ?)", *row)
    away.execute("ANALYZE")
    figures = away.execute("SELECT * FROM sqlite_stat1 WHERE tbl = 'note' ORDER BY idx")
    away.store.clear()
    watched = Watched(away)
    away.sync(download_batch_size=2)
    assert set().union(*watched.seen) == ALL
    assert away.execute("SELECT * FROM sqlite_stat1 WHERE tbl = 'note' ORDER BY idx") == figures


# -- which ones are left alone ----------------------------------------------------------------------------

NEEDED = {
    "a trigger of its own": (
        "CREATE TABLE seen (n); "
        "CREATE TRIGGER t AFTER INSERT ON note BEGIN INSERT INTO seen VALUES (1); END;",
        set(),
    ),
    "a trigger that reads it": (
        "CREATE TABLE seen (n); CREATE TRIGGER t AFTER INSERT ON seen BEGIN "
        "DELETE FROM seen WHERE n IN (SELECT title FROM Note); END;",
        set(),
    ),
    "a trigger that may read it by a view": (
        "CREATE TABLE seen (n); CREATE VIEW v AS SELECT * FROM note; "
        "CREATE TRIGGER t AFTER INSERT ON seen BEGIN DELETE FROM seen WHERE n IN (SELECT title FROM v); END;",
        set(),
    ),
    "a view that names one": (
        "CREATE VIEW v AS SELECT * FROM note INDEXED BY Note_Title WHERE title = 'x';",
        ALL - {"note_title"},
    ),
    "a view that names one in quotes": (
        'CREATE INDEX "odd ""name" ON note (title, id); '
        'CREATE VIEW v AS SELECT * FROM note INDEXED BY "odd ""name" WHERE title = 1;',
        ALL,
    ),
    "an expression that may fail": ("CREATE INDEX j ON note (json_extract(title, '$.a'));", ALL),
    "an arrow that may fail": ("CREATE INDEX j ON note (title -> 'a');", ALL),
    "a condition that may fail": ("CREATE INDEX j ON note (code) WHERE abs(title) > 1;", ALL),
    "a trigger of another table": (
        "CREATE TABLE seen (n); CREATE TRIGGER t AFTER INSERT ON seen BEGIN DELETE FROM seen; END;",
        ALL,
    ),
}


@pytest.mark.parametrize("what", NEEDED)
def test_what_is_needed_while_the_table_is_filled_stays(new_site: NewSite, home: Site, what: str) -> None:
    before, waits = NEEDED[what]
    away = new_site("away", indexed, MORE + before)
    broken_off(away)
    assert marks(away) == waits
    away.sync(download_batch_size=2)
    assert away.rows() == home.rows()
    assert marks(away) == set()


def test_a_record_that_an_index_refuses_still_waits_in_quarantine(new_site: NewSite, home: Site) -> None:
    away = new_site("away", indexed, MORE + "CREATE INDEX j ON note (json_extract(title, '$.a'));")
    home.model.create(id="05a", title="{", code="odd")
    home.sync()
    result = away.sync(download_batch_size=2)
    assert [error.key for error in result.errors.download] == ["05a"]
    assert here(away) == ALL | {"j"}


def test_an_index_by_which_children_are_found_stays(new_site: NewSite, hub: Hub) -> None:
    def family(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True, index=True)
            above = ForeignKeyField("self", null=True)

        return Note

    home, away = new_site("home", family), new_site("away", family)
    for number in range(8):
        home.model.create(id=f"{number:02}", title="a", above=f"{number - 1:02}" if number else None)
    home.sync()
    watched = Watched(away)
    away.sync(download_batch_size=2)
    assert watched.seen[-1] == {"note_above_id"}
    assert here(away) == {"note_above_id", "note_title"}
