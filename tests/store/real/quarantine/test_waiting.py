"""What becomes of a record in quarantine: a newer version, an edit here, a cause that goes, and all else."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from peewee import TextField

from statesync import Conflict, Record, Store
from statesync.cli import commands
from statesync.errors import SyncFailed, Unreachable
from statesync.hub import Hub, LocalRemote, prepare
from statesync.wire import Page, Pull

from ..sites import Site
from .tables import item, table

NewSite = Callable[..., Site]

BELOW_TEN = table(n="CHECK (n < 10)")
KEY = "k"


def put(site: Site, key: str = KEY, **values: Any) -> None:
    """Write a record, and sync it."""
    if not site.model.update(**values).where(site.model.id == key).execute():
        site.model.create(id=key, **values)
    site.sync()


def held(site: Site) -> dict[str, tuple[int, Any]]:
    return {one.key: (one.version, one.record) for one in site.store.quarantine()}


@pytest.fixture
def pair(new_site: NewSite) -> tuple[Site, Site]:
    """A device that has written version 2 of a record, and one that has version 1, and cannot take it."""
    a, b = new_site("a", item), new_site("b", item, BELOW_TEN)
    put(a, title="one", n=1)
    b.sync()
    put(a, title="two", n=99)
    b.sync()
    assert b.rows() == {KEY: ("one", 1)}
    assert held(b) == {KEY: (2, {"title": "two", "n": 99})}
    return a, b


# -- leaving ---------------------------------------------------------------------------------------------


def test_a_newer_version_that_fits_is_stored_and_nothing_waits(pair: tuple[Site, Site]) -> None:
    a, b = pair
    put(a, n=3)
    assert b.sync().quarantined == 0
    assert b.rows() == {KEY: ("two", 3)}


def test_a_newer_version_that_does_not_fit_takes_the_place_of_the_older(pair: tuple[Site, Site]) -> None:
    a, b = pair
    put(a, n=100)
    assert b.sync().quarantined == 1
    assert held(b) == {KEY: (3, {"title": "two", "n": 100})}


def test_a_delete_removes_the_row_and_what_waits(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.model.delete().execute()
    a.sync()
    assert b.sync().quarantined == 0
    assert b.rows() == {}


def test_it_waits_through_sessions_and_counts_how_often_it_was_tried(pair: tuple[Site, Site]) -> None:
    _, b = pair
    before = b.store.quarantine()[0]
    b.sync()
    b.sync(sync_type="upload_only")
    result = b.sync()
    (now,) = b.store.quarantine()
    assert (now.since, now.session) == (before.since, before.session)
    assert now.tries == before.tries + 2
    assert result.quarantined == 1
    assert result.errors.download[0].code == "check"


def test_once_the_table_was_migrated_the_next_sync_stores_it(pair: tuple[Site, Site]) -> None:
    _, b = pair
    again = Store(b.store.database.database)
    model = item(again)

    def widen(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE wider (id TEXT NOT NULL PRIMARY KEY, title TEXT, n)")
        connection.execute("INSERT INTO wider SELECT id, title, n FROM item")
        connection.execute("DROP TABLE item")
        connection.execute("ALTER TABLE wider RENAME TO item")

    again.setup(migrations=[widen])
    result = again.scope(b.remote).sync()
    assert result.quarantined == 0
    assert list(model.select().tuples()) == [(KEY, "two", 99)]
    again.close()


def test_once_a_local_write_gives_the_value_up_the_next_sync_stores_it(new_site: NewSite) -> None:
    a, b = new_site("a", item), new_site("b", item, table("TEXT UNIQUE"))
    b.model.create(id="mine", title="same")
    put(a, "theirs", title="same")
    assert b.sync().quarantined == 1
    b.model.update(title="other").execute()
    assert b.sync().quarantined == 0
    assert b.rows() == {"mine": ("other", None), "theirs": ("same", None)}


def test_what_is_released_within_a_session_is_counted_as_downloaded_and_is_in_the_journal(
    pair: tuple[Site, Site],
) -> None:
    _, b = pair
    b.execute("ALTER TABLE item ADD COLUMN unimportant")
    with b.other_program() as other:
        other.execute("PRAGMA writable_schema = ON")
        other.execute("UPDATE sqlite_master SET sql = replace(sql, 'n < 10', 'n < 1000') WHERE name = 'item'")
    b.store.close()
    result = b.sync()
    assert (result.quarantined, result.stats.downloaded) == (0, 1)
    assert balance(b) == 0


def balance(site: Site) -> int:
    """What all sessions have put into quarantine, without what they have let out."""
    details = [json.loads(text) for (text,) in site.execute("SELECT detail FROM statesync_transition")]
    return sum(detail.get("held", 0) - detail.get("released", 0) for detail in details)


# -- editing the old row ---------------------------------------------------------------------------------


def test_an_edit_of_the_old_row_meets_the_waiting_version_as_a_conflict(pair: tuple[Site, Site]) -> None:
    a, b = pair
    asked: list[Conflict] = []

    def policy(conflict: Conflict) -> Record | None:
        asked.append(conflict)
        return conflict.local

    b.model.update(title="mine").execute()
    (change,) = b.store.pending()
    assert change.base < held(b)[KEY][0]
    result = b.sync(conflict_policy=policy)
    assert [conflict.remote for conflict in asked] == [{"title": "two", "n": 99}]
    assert [conflict.base for conflict in asked] == [{"title": "one", "n": 1}]
    assert (result.quarantined, len(result.conflicts)) == (0, 1)
    assert b.rows() == {KEY: ("mine", 1)}
    a.sync()
    assert a.rows() == b.rows()
    assert b.execute("SELECT count(*) FROM statesync_base") == [(0,)]


def test_a_delete_of_the_old_row_meets_it_too(pair: tuple[Site, Site]) -> None:
    a, b = pair
    b.model.delete().execute()
    result = b.sync(conflict_policy="client_wins")
    assert (result.quarantined, len(result.conflicts)) == (0, 1)
    a.sync()
    assert a.rows() == b.rows() == {}


def test_where_the_hubs_side_wins_and_does_not_fit_the_edit_waits_and_nothing_is_lost(
    pair: tuple[Site, Site],
) -> None:
    a, b = pair
    b.model.update(title="mine").execute()
    result = b.sync(conflict_policy="server_wins")
    assert [error.code for error in result.errors.upload] == ["does_not_fit"]
    assert b.rows() == {KEY: ("mine", 1)}
    assert b.operations() == {KEY: "update"}
    put(a, n=4)
    b.sync(conflict_policy="server_wins")
    assert (b.rows(), b.operations(), held(b)) == ({KEY: ("two", 4)}, {}, {})


def test_an_edit_that_is_taken_back_leaves_the_old_row_and_what_waits(pair: tuple[Site, Site]) -> None:
    a, b = pair
    b.model.update(title="mine").execute()
    assert b.store.rollback() == 1
    assert b.rows() == {KEY: ("one", 1)}
    b.model.update(title="again").execute()
    assert b.store.pending()[0].base < 2
    b.store.rollback()
    put(a, n=3)
    b.sync()
    assert b.rows() == {KEY: ("two", 3)}


def test_after_it_fits_an_edit_is_no_conflict(pair: tuple[Site, Site]) -> None:
    a, b = pair
    put(a, n=3)
    b.sync()
    b.model.update(title="mine").execute()
    assert b.sync().conflicts == ()
    a.sync()
    assert a.rows() == b.rows() == {KEY: ("mine", 3)}


def test_an_edit_of_the_old_row_in_the_middle_of_a_read_from_the_start_meets_it_too(
    new_site: NewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read has come past the record, which still waits, and not to the end."""
    a, b = new_site("a", item), new_site("b", item, BELOW_TEN)
    put(a, title="one", n=1)
    b.sync()
    put(a, "other", n=2)
    put(a, title="two", n=99)
    b.sync()
    assert held(b) == {KEY: (3, {"title": "two", "n": 99})}
    b.execute("UPDATE statesync_cursor SET cursor = 0, reread_from = cursor, rereading = 'horizon'")
    with monkeypatch.context() as patch:
        patch.setattr(b, "remote", gone_after_a_page(b.remote))
        with pytest.raises(SyncFailed):
            b.sync(download_batch_size=1, max_attempts=1)
    assert b.execute("SELECT cursor, since, after FROM statesync_cursor") == [(0, 3, KEY)]
    b.model.update(title="mine").where(b.model.id == KEY).execute()
    (change,) = b.store.pending()
    assert change.base < 3
    assert len(b.sync(conflict_policy="client_wins").conflicts) == 1


def gone_after_a_page(remote: LocalRemote) -> LocalRemote:
    """A way to the hub that ends after the first page."""

    class Gone(LocalRemote):
        pages = 0

        def pull(self, request: Pull) -> Page:
            self.pages += 1
            if self.pages > 1:
                raise Unreachable("gone", retryable=True)
            return super().pull(request)

    return Gone(remote._hub, remote.space)


def test_a_record_that_was_ahead_of_its_cursor_stays_an_older_one(new_site: NewSite) -> None:
    """The verdict on an upload has brought version 2; the page that brings version 3 passes both."""
    a, b = new_site("a", item), new_site("b", item, BELOW_TEN)
    put(a, title="1", n=1)
    b.sync()
    put(a, title="2", n=2)
    b.model.update(title="mine").execute()
    b.sync(sync_type="upload_only", conflict_policy="server_wins")
    put(a, title="3", n=33)
    b.sync()
    assert b.rows() == {KEY: ("2", 2)}
    b.model.update(title="mine").execute()
    assert b.store.pending()[0].base < 3
    assert len(b.sync(conflict_policy="client_wins").conflicts) == 1


def test_an_insert_of_the_key_of_a_record_that_waits_is_a_conflict(new_site: NewSite) -> None:
    a, b = new_site("a", item), new_site("b", item, BELOW_TEN)
    put(a, n=99)
    b.sync()
    assert b.rows() == {}
    b.model.create(id=KEY, n=5)
    result = b.sync(conflict_policy="client_wins")
    assert (len(result.conflicts), result.quarantined) == (1, 0)
    a.sync()
    assert a.rows() == b.rows() == {KEY: (None, 5)}


def test_a_change_that_waits_keeps_the_quarantine_from_being_stored_over_it(pair: tuple[Site, Site]) -> None:
    _, b = pair
    b.model.update(n=5).execute()
    b.sync(sync_type="download_only")
    assert b.rows() == {KEY: ("one", 5)}
    assert b.operations() == {KEY: "update"}
    assert held(b) == {KEY: (2, {"title": "two", "n": 99})}


def test_a_verdict_that_brings_the_record_leaves_nothing_to_wait(pair: tuple[Site, Site]) -> None:
    a, b = pair
    put(a, n=3)
    b.model.update(title="mine").execute()
    b.sync(sync_type="upload_only", conflict_policy="server_wins")
    assert (b.rows(), held(b)) == ({KEY: ("two", 3)}, {})
    b.model.update(title="again").execute()
    assert b.sync(sync_type="upload_only").conflicts == ()


def test_a_local_only_write_of_the_old_row_is_not_overwritten_by_what_waits(pair: tuple[Site, Site]) -> None:
    _, b = pair
    with b.store.untracked():
        b.model.update(n=7).execute()
    b.sync()
    assert b.rows() == {KEY: ("one", 7)}
    assert held(b) == {KEY: (2, {"title": "two", "n": 99})}


@pytest.mark.parametrize("read_anew", [False, True])
def test_an_edit_of_what_was_local_only_meets_what_waits_as_a_conflict(
    pair: tuple[Site, Site], read_anew: bool
) -> None:
    a, b = pair
    with b.store.untracked():
        b.model.update(n=7).execute()
    b.sync(filter={"Item": {"title": ["one", "two"]}} if read_anew else {})
    b.sync()
    b.model.update(n=8).execute()
    b.sync()
    a.sync()
    assert a.rows() == {KEY: ("two", 99)}
    put(a, n=3)
    b.sync()
    (lost,) = b.store.conflicts()
    assert (lost.local, b.rows(), held(b)) == ({"title": "one", "n": 8}, {KEY: ("two", 3)}, {})


def test_what_is_local_only_ends_with_a_newer_version_than_waits(pair: tuple[Site, Site]) -> None:
    a, b = pair
    with b.store.untracked():
        b.model.update(n=7).execute()
    b.sync()
    put(a, n=3)
    assert b.sync().quarantined == 0
    assert b.rows() == {KEY: ("two", 3)}


def test_a_session_ends_where_more_edits_wait_for_records_in_quarantine_than_it_tries(
    new_site: NewSite,
) -> None:
    a, b = new_site("a", item), new_site("b", item, BELOW_TEN)
    many = 1100
    a.model.insert_many([{"id": f"k{n:04}", "n": 1} for n in range(many)]).execute()
    a.sync(upload_batch_size=500)
    b.sync()
    a.model.update(n=99).execute()
    a.sync(upload_batch_size=500)
    b.sync()
    b.model.update(title="mine").execute()
    result = b.sync(sync_type="download_only", timeout=60)
    assert (result.quarantined, len(b.store.pending())) == (many, many)


# -- everything else that a store can do -----------------------------------------------------------------


def test_a_read_from_the_start_keeps_the_old_row_and_what_waits(pair: tuple[Site, Site]) -> None:
    a, b = pair
    put(a, "other", n=1)
    b.sync(filter={"Item": {"title": ["two", None]}})
    assert b.rows() == {KEY: ("one", 1), "other": (None, 1)}
    assert held(b) == {KEY: (2, {"title": "two", "n": 99})}


def test_what_the_hub_does_not_show_any_more_waits_no_longer(pair: tuple[Site, Site]) -> None:
    _, b = pair
    b.sync(filter={"Item": {"title": "something else"}})
    assert (b.rows(), held(b)) == ({}, {})
    b.sync()
    assert held(b) == {KEY: (2, {"title": "two", "n": 99})}
    assert b.rows() == {}


def test_after_the_hub_was_restored_nothing_that_waits_is_overwritten_by_the_old_row(
    tmp_path: Path, new_site: NewSite, hub: Hub, pair: tuple[Site, Site]
) -> None:
    a, b = pair
    with (
        closing(sqlite3.connect(tmp_path / "hub.db")) as live,
        closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
    ):
        live.backup(backup)
    put(a, "later", n=1)
    b.sync()
    hub.close()
    url = f"sqlite:///{tmp_path}/backup.db"
    prepare(url)
    restored = Hub(url, without_tokens=True)
    for site in (b, a, b, a):
        site.remote = LocalRemote(restored, "space")
        site.sync()
    assert a.rows() == {KEY: ("two", 99), "later": (None, 1)}
    assert b.rows() == {KEY: ("one", 1), "later": (None, 1)}
    assert held(b).keys() == {KEY}
    restored.close()


def test_what_a_restored_hub_has_lost_waits_no_longer_and_comes_again_with_who_has_it(
    tmp_path: Path, new_site: NewSite, hub: Hub
) -> None:
    a, b = new_site("a", item), new_site("b", item, BELOW_TEN)
    put(a, "early", n=1)
    b.sync()
    with (
        closing(sqlite3.connect(tmp_path / "hub.db")) as live,
        closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
    ):
        live.backup(backup)
    put(a, "late", n=50)
    b.sync()
    assert held(b).keys() == {"late"}
    url = f"sqlite:///{tmp_path}/backup.db"
    prepare(url)
    restored = Hub(url, without_tokens=True)
    a.remote = b.remote = LocalRemote(restored, "space")
    b.sync()
    assert (held(b), balance(b)) == ({}, 0)
    a.sync()
    a.sync()
    b.sync()
    assert held(b).keys() == {"late"}
    assert a.rows() == {"early": (None, 1), "late": (None, 50)}
    restored.close()


def test_what_only_the_quarantine_has_after_the_hub_was_restored_is_in_the_conflict_log(
    tmp_path: Path, new_site: NewSite, hub: Hub
) -> None:
    a, b = new_site("a", item), new_site("b", item, BELOW_TEN)
    put(a, title="one", n=1)
    b.sync()
    with (
        closing(sqlite3.connect(tmp_path / "hub.db")) as live,
        closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
    ):
        live.backup(backup)
    put(a, title="two", n=99)
    put(a, "only", title="three", n=100)
    put(a, "list", title=None, n=101)
    b.sync()
    assert held(b).keys() == {KEY, "only", "list"}
    hub.close()
    url = f"sqlite:///{tmp_path}/backup.db"
    prepare(url)
    restored = Hub(url, without_tokens=True)
    b.remote = LocalRemote(restored, "space")
    b.sync()
    b.sync()
    assert held(b) == {}
    assert {lost.key: (lost.local, lost.remote, lost.kept) for lost in b.store.conflicts()} == {
        KEY: ({"title": "two", "n": 99}, {"title": "one", "n": 1}, {"title": "one", "n": 1}),
        "only": ({"title": "three", "n": 100}, None, None),
        "list": ({"title": None, "n": 101}, None, None),
    }
    restored.close()


def test_clear_takes_it_along_and_the_next_sync_brings_it_again(pair: tuple[Site, Site]) -> None:
    _, b = pair
    b.store.clear()
    assert held(b) == {}
    assert b.sync().quarantined == 1
    assert b.rows() == {}


@pytest.mark.parametrize("keep", [True, False])
def test_reset_takes_it_along(pair: tuple[Site, Site], keep: bool) -> None:
    _, b = pair
    b.store.reset(keep_records=keep)
    assert held(b) == {}


def test_drop_takes_it_along(pair: tuple[Site, Site]) -> None:
    _, b = pair
    b.store.drop()
    assert b.execute("SELECT count(*) FROM statesync_quarantine") == [(0,)]


def test_the_doctor_tells_of_it_and_repair_loses_nothing_of_it(pair: tuple[Site, Site]) -> None:
    _, b = pair
    before = b.store.quarantine()
    (complaint,) = b.store.examine()
    assert "quarantine" in complaint.message
    assert complaint.repair is None
    b.store.repair()
    assert b.store.quarantine() == before


def test_diagnose_says_held_back_and_not_that_it_differs(pair: tuple[Site, Site]) -> None:
    a, b = pair
    put(a, "new", n=50)
    b.sync()
    found = b.store.scope(b.remote).diagnose()
    assert found.is_consistent()
    assert found.differences == ()
    assert [one.quarantined for one in found.objects] == [2]


def test_the_command_line_lists_it(pair: tuple[Site, Site]) -> None:
    _, b = pair
    path = str(b.store.database.database)
    shown = CliRunner().invoke(commands.commands, ["quarantine", path], standalone_mode=False)
    assert all(word in shown.output for word in ("Item", KEY, "check", "CHECK constraint failed"))
    printed = CliRunner().invoke(commands.commands, ["quarantine", path, "--json"], standalone_mode=False)
    (entry,) = json.loads(printed.output)
    assert (entry["key"], entry["code"], entry["record"]) == (KEY, "check", {"title": "two", "n": 99})


def test_a_scope_lists_its_own_alone(pair: tuple[Site, Site]) -> None:
    _, b = pair
    assert [one.key for one in b.store.scope(b.remote, b.model).quarantine()] == [KEY]


def test_a_newer_program_reads_columns_of_a_record_that_waited(new_site: NewSite) -> None:
    """It waits whole, also with what the older program did not know."""

    def wide(store: Store) -> Any:
        class Item(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True)
            colour = TextField(null=True)

        return Item

    def narrow(store: Store) -> Any:
        class Item(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True)

        return Item

    a = new_site("a", wide)
    b = new_site("b", narrow, "CREATE TABLE item (id TEXT NOT NULL PRIMARY KEY, title TEXT UNIQUE);")
    b.model.create(id="mine", title="t")
    a.model.create(id=KEY, title="t", colour="red")
    a.sync()
    assert b.sync().quarantined == 1
    b.model.update(title="u").execute()
    again = Store(b.store.database.database)
    model = wide(again)
    again.setup()
    again.scope(b.remote).sync()
    assert dict(model.select(model.id, model.colour).tuples()) == {"mine": None, KEY: "red"}
    again.close()


def test_a_rollback_whose_remote_side_does_not_fit_leads_to_the_old_row_and_lets_it_wait(
    new_site: NewSite,
) -> None:
    a, b = new_site("a", item), new_site("b", item, BELOW_TEN)
    put(a, title="t", n=1)
    b.sync()
    b.model.update(title="mine").execute()
    put(a, n=99)
    b.sync(sync_type="download_only")
    assert b.store.rollback() == 1
    assert b.rows() == {KEY: ("t", 1)}
    assert held(b) == {KEY: (2, {"title": "t", "n": 99})}
    b.model.update(title="mine again").execute()
    assert b.store.pending()[0].base < 2
    b.store.rollback()
    put(a, n=3)
    b.sync()
    assert (b.rows(), held(b)) == ({KEY: ("t", 3)}, {})


def test_a_rollback_whose_value_somebody_else_has_now_lets_it_wait(new_site: NewSite) -> None:
    a, b = new_site("a", item), new_site("b", item, table("TEXT UNIQUE"))
    put(a, title="t")
    b.sync()
    b.model.update(title="mine").execute()
    put(a, title="u")
    b.sync(sync_type="download_only")
    b.model.create(id="new", title="u")
    assert b.store.rollback(b.model.get_by_id(KEY)) == 1
    assert b.rows() == {KEY: ("t", None), "new": ("u", None)}
    assert [one.in_the_way for one in b.store.quarantine()] in ([None], ["new"])
