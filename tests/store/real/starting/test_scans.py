"""An object is read from the start in the order of its keys, in transactions no longer than a batch."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from peewee import BareField, BooleanField, TextField, UUIDField

from statesync import BadAnswer, Phase, RemoteError, Store
from statesync.hub import Hub, LocalRemote
from statesync.store.cursors.cursor import Cursor
from statesync.store.download import scans
from statesync.wire import Page, Pull, Scan, Scanned

from ..sites import Site, note

NewSite = Callable[..., Site]


class Watched(LocalRemote):
    """A way to the hub that notes what it is asked, and what the device has then; ``lie`` changes pages."""

    def __init__(self, hub: Hub, site: Site, lie: Callable[[Page], Page] | None = None) -> None:
        super().__init__(hub, "space")
        self.asked: list[Pull] = []
        self.counts: list[int] = []
        self.told: list[str] = []
        self._site, self._lie = site, lie

    def pull(self, request: Pull) -> Page:
        self.asked.append(request)
        self.counts.append(self._site.execute("SELECT count(*) FROM note")[0][0])
        page = super().pull(request)
        self.told += [entry.key for entry in page.changes]
        return page if self._lie is None else self._lie(page)

    @property
    def positions(self) -> list[str | None]:
        scans = [request.objects["Note"].scan for request in self.asked]
        return [None if scan is None else scan.after for scan in scans]


def watched(site: Site, hub: Hub, lie: Callable[[Page], Page] | None = None) -> Watched:
    site.remote = Watched(hub, site, lie)
    return site.remote


def fill(site: Site, count: int) -> None:
    for number in range(count):
        site.model.create(id=f"{number:02}", title="1")
    site.sync()


@pytest.mark.parametrize("left", [0, 3, 30])
def test_a_page_that_lacks_many_rows_is_stored_in_parts(
    new_site: NewSite, hub: Hub, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """Also where the hub has nothing more, so that there is no key to stop at."""
    home, away = new_site("home", note), new_site("away", note)
    fill(home, 40)
    away.sync()
    home.model.delete().where(home.model.id >= f"{left:02}").execute()
    home.sync()
    hub.purge("space", 1 << 60)
    way = watched(away, hub)
    monkeypatch.setattr(scans, "MOST_ROWS", 4)
    away.sync(download_batch_size=5)
    assert away.rows() == home.rows()
    drops = [one - other for one, other in zip(way.counts, way.counts[1:], strict=False)]
    assert len(way.counts) > 5
    assert max(drops) <= 2 * (4 + 1), "a page is asked for before the one before it is stored"
    assert away.execute("SELECT since, floors, rereading FROM statesync_cursor") == [(0, "[]", None)]


def local_only(away: Site, _home: Site, hub: Hub) -> None:
    away.sync()
    with away.store.untracked():
        fill_behind(away)
    hub.begin_epoch("space")


def waiting(away: Site, _home: Site, _hub: Hub) -> None:
    fill_behind(away)


def lost_by_the_hub(away: Site, _home: Site, hub: Hub) -> None:
    fill_behind(away)
    away.sync()
    hub.database.run("DELETE FROM record WHERE key >= '50'")
    hub.begin_epoch("space")


def held_by_a_rule(away: Site, home: Site, hub: Hub) -> None:
    fill_behind(home)
    home.sync()
    away.sync()
    home.model.delete().where(home.model.id >= "50").execute()
    home.sync()
    hub.purge("space", 1 << 60)
    away.execute("CREATE TRIGGER keep BEFORE DELETE ON note BEGIN SELECT RAISE(ABORT, 'no'); END")


def fill_behind(site: Site) -> None:
    for number in range(50, 70):
        site.model.create(id=f"{number:02}", title="mine")


@pytest.mark.crossed
@pytest.mark.parametrize("there", [0, 3])
@pytest.mark.parametrize("stay", [local_only, waiting, lost_by_the_hub, held_by_a_rule])
def test_many_rows_that_stay_behind_the_end_of_a_scan_end_it(
    new_site: NewSite,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    there: int,
    stay: Callable[[Site, Site, Hub], None],
) -> None:
    """No position can stand there, so nothing is left of them to come back to."""
    home, away = new_site("home", note), new_site("away", note)
    fill(home, there)
    stay(away, home, hub)
    before = away.rows()
    monkeypatch.setattr(scans, "MOST_ROWS", 4)
    way = watched(away, hub, lambda page: page if len(way.asked) < 30 else asked_for_ever())
    direction = "download_only" if stay is waiting else "full"
    assert away.sync(download_batch_size=5, sync_type=direction).phase is Phase.DONE
    assert away.rows() == {**before, **home.rows()}
    assert away.execute("SELECT since, rereading FROM statesync_cursor") == [(0, None)]


def asked_for_ever() -> Page:
    raise AssertionError("the device asks for the same again and again")


def test_what_the_device_has_sent_itself_does_not_come_back_with_its_first_read(
    new_site: NewSite, hub: Hub
) -> None:
    other, site = new_site("other", note), new_site("site", note)
    other.model.create(id="10a", title="of another")
    other.sync()
    remote = watched(site, hub)
    fill(site, 20)
    assert (remote.told, len(site.rows())) == (["10a"], 21)
    site.store.clear()
    site.sync()
    assert (len(remote.told), len(site.rows())) == (22, 21)


def test_what_the_device_has_sent_itself_is_read_where_a_filter_may_hide_it(
    new_site: NewSite, hub: Hub
) -> None:
    site = new_site("site", note)
    remote = watched(site, hub)
    site.model.create(id="a", title="1")
    site.model.create(id="b", title="2")
    site.sync(filter={"Note": {"title": ["1"]}})
    assert (remote.told, [row[0] for row in site.rows()]) == (["a"], ["a"])


def test_what_is_local_only_stays_amid_what_the_hub_has_not(new_site: NewSite, hub: Hub) -> None:
    home, away = new_site("home", note), new_site("away", note)
    fill(home, 3)
    away.sync()
    with away.store.untracked():
        away.model.create(id="015", title="mine")
    home.model.delete_by_id("01")
    home.sync()
    hub.purge("space", 1 << 60)
    away.sync()
    assert set(away.rows()) == {"00", "015", "02"}


def test_a_row_that_a_rule_holds_fast_waits_for_its_delete(new_site: NewSite, hub: Hub) -> None:
    home, away = new_site("home", note), new_site("away", note)
    fill(home, 4)
    away.sync()
    away.execute(
        "CREATE TRIGGER keep BEFORE DELETE ON note WHEN OLD.id = '01' BEGIN SELECT RAISE(ABORT, 'kept'); END"
    )
    for key in ("01", "02"):
        home.model.delete_by_id(key)
    home.sync()
    hub.purge("space", 1 << 60)
    (error,) = away.sync().errors.download
    assert (error.key, error.code) == ("01", "refused")
    assert set(away.rows()) == {"00", "01", "03"}
    away.execute("DROP TRIGGER keep")
    away.sync()
    assert set(away.rows()) == {"00", "03"}


@pytest.mark.parametrize("action", ["ABORT, 'kept'", "ROLLBACK, 'kept'", "IGNORE"])
def test_rows_that_a_rule_holds_fast_stop_no_scan_however_often_it_begins_anew(
    new_site: NewSite, hub: Hub, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """Some are amid the pages, some behind all that the hub has; the scan is cut off, and missed more."""
    home, away = new_site("home", note), new_site("away", note)
    fill(home, 20)
    away.sync()
    away.execute(
        "CREATE TRIGGER keep BEFORE DELETE ON note WHEN OLD.id IN ('03', '04', '11', '18', '19') "
        f"BEGIN SELECT RAISE({action}); END"
    )
    monkeypatch.setattr(scans, "MOST_ROWS", 3)
    for gone in (("03", "04", "05"), ("11", "12"), ("17", "18", "19")):
        home.model.delete().where(home.model.id.in_(gone)).execute()
        home.model.update(title="2").where(home.model.id == "08").execute()
        home.sync()
        hub.purge("space", 1 << 60)
        cut_off_at(4, away, hub)
        with pytest.raises(RemoteError):
            away.sync(download_batch_size=2, max_attempts=1)
    away.remote = LocalRemote(hub, "space")
    for _ in range(2):
        result = away.sync(download_batch_size=2)
        assert (result.phase, result.quarantined) == (Phase.DONE, 5)
        assert away.rows().keys() == {*home.rows(), "03", "04", "11", "18", "19"}
        assert away.rows()["08"] == ("2",)
    away.execute("DROP TRIGGER keep")
    assert away.sync().quarantined == 0
    assert (away.rows(), away.store.pending()) == (home.rows(), [])


def cut_off_at(page: int, site: Site, hub: Hub) -> None:
    """Let a hub be away from so many pages on."""

    def give(answer: Page) -> Page:
        if len(way.asked) >= page:
            raise RemoteError("the hub is away")
        return answer

    way = watched(site, hub, give)


def test_what_is_read_again_is_written_only_where_it_is_another(new_site: NewSite, hub: Hub) -> None:
    def number(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = BareField(null=True)
            is_open = BooleanField(default=False)

        return Note

    home, away = new_site("home", number), new_site("away", number)
    for key, value in (("00", "a"), ("01", 1), ("02", 1.5), ("03", None), ("04", "e"), ("05", True)):
        home.model.create(id=key, title=value, is_open=True)
    home.sync()
    away.sync()
    away.unseen("UPDATE note SET title = 1.0 WHERE id = '01'")
    away.unseen("UPDATE note SET title = 'other' WHERE id = '04'")
    away.execute("CREATE TABLE seen (id)")
    away.execute("CREATE TRIGGER t AFTER UPDATE ON note BEGIN INSERT INTO seen VALUES (NEW.id); END")
    away.execute(
        "UPDATE statesync_cursor SET rereading = 'horizon', reread_from = cursor, missed_from = cursor, "
        "cursor = 0"
    )
    result = away.sync(download_batch_size=4)
    assert result.stats.downloaded == 6
    assert away.execute("SELECT id FROM seen ORDER BY id") == [("01",), ("04",)]
    assert away.execute("SELECT typeof(title) FROM note WHERE id = '01'") == [("integer",)]
    assert away.rows() == home.rows()


def test_keys_that_are_uuids_are_read_in_the_order_of_their_texts(new_site: NewSite, hub: Hub) -> None:
    def thing(store: Store) -> Any:
        class Note(store.Model):  # type: ignore[name-defined, misc]
            id = UUIDField(primary_key=True, default=uuid.uuid4)
            title = TextField(null=True)

        return Note

    home, away = new_site("home", thing), new_site("away", thing)
    for number in range(9):
        home.model.create(title=str(number))
    home.sync()
    way = watched(away, hub)
    away.sync(download_batch_size=2)
    assert away.rows() == home.rows()
    assert way.positions == ["", *sorted(key.hex for key in home.rows())[1::2]]


def test_a_file_of_utf_16_is_read_in_the_order_of_versions(new_site: NewSite, hub: Hub) -> None:
    """SQLite sorts its texts in another way than a hub."""
    home, away = (
        new_site("home", note),
        new_site("away", note, "PRAGMA encoding = 'UTF-16le'; CREATE TABLE other (x)"),
    )
    fill(home, 5)
    way = watched(away, hub)
    away.sync(download_batch_size=2)
    assert away.rows() == home.rows()
    assert way.positions == [None] * 3


def test_a_read_that_an_older_version_has_begun_is_ended_as_one(new_site: NewSite, hub: Hub) -> None:
    home, away = new_site("home", note), new_site("away", note)
    fill(home, 5)
    away.sync()
    away.unseen("INSERT INTO note VALUES ('gone', 'deleted long ago')")
    away.execute("UPDATE statesync_cursor SET cursor = 2, reread_from = cursor, rereading = 'horizon'")
    for key in ("00", "01"):
        away.execute("INSERT INTO statesync_seen VALUES ('Note', ?)", key)
    way = watched(away, hub)
    away.sync()
    assert way.positions == [None]
    assert away.rows() == home.rows()


@pytest.mark.parametrize(
    "damage",
    [
        "since = -1",
        "since = 'x'",
        "since = 3, after = 'z', until = 'a'",
        "floors = '{'",
        "floors = '[[1, 2]]'",
    ],
)
def test_a_position_that_no_hub_has_told_is_found_and_mended(
    new_site: NewSite, hub: Hub, damage: str
) -> None:
    home, away = new_site("home", note), new_site("away", note)
    fill(home, 3)
    away.sync()
    away.execute(f"UPDATE statesync_cursor SET {damage}")
    assert [one.repair for one in away.store.examine()] == ["reread"]
    assert away.store.repair() == []
    home.model.delete_by_id("01")
    home.sync()
    away.sync()
    assert away.rows() == home.rows()


def scanned(page: Page, **changes: Any) -> Page:
    told = page.scans["Note"]
    values = {name: getattr(told, name) for name in ("since", "until", "last", "done", "stubs")}
    return _with(page, scans={"Note": Scanned(**{**values, **changes})})


def _with(page: Page, **changes: Any) -> Page:
    names = ("hub", "epoch", "head", "changes", "cursors", "more", "scans")
    return Page(**{**{name: getattr(page, name) for name in names}, **changes})


LIES: dict[str, Callable[[Page], Page]] = {
    "began elsewhere": lambda page: scanned(page, since=page.head - 1),
    "another end": lambda page: scanned(page, until="zz"),
    "above its own head": lambda page: scanned(page, since=page.head + 1),
    "between its position and its end": lambda page: scanned(page, last="00"),
    "records of a scan that are not in the order": lambda page: _with(page, changes=page.changes[::-1]),
    "keys of a scan": lambda page: scanned(page, stubs=[page.changes[0].key]),
    "not asked for": lambda page: _with(page, scans={**page.scans, "Tag": page.scans["Note"]}),
    "moves another cursor": lambda page: _with(page, cursors={"Note": page.head - 1}),
    "not done": lambda page: _with(page, more=False),
}


@pytest.mark.parametrize("what", LIES)
def test_a_page_of_a_scan_that_no_hub_could_mean_is_not_stored(
    new_site: NewSite, hub: Hub, what: str
) -> None:
    home, away = new_site("home", note), new_site("away", note)
    fill(home, 6)
    way = watched(away, hub, lambda page: LIES[what](page) if len(way.asked) == 2 else page)
    with pytest.raises(BadAnswer):
        away.sync(download_batch_size=2, max_attempts=1)
    assert set(away.rows()) == {"00", "01"}
    assert away.execute("SELECT after FROM statesync_cursor") == [("01",)]
    way = watched(away, hub)
    away.sync(download_batch_size=2)
    assert away.rows() == home.rows()
    assert way.positions == ["01", "03"], "nothing is fetched twice"


def test_one_range_is_read_with_the_cursor_as_its_beginning() -> None:
    part = Cursor("Note", 5, None, 0, 0, 0, "space", None, 5, "b", "d")
    whole = evolve(part, position=0)
    assert part.feed(scans=True).scan == Scan(5, "b", "d")
    assert whole.feed(scans=True).scan == Scan(5, "b", "d", spares=True)
    assert (part.feed(scans=True).own, whole.feed(scans=True).own) == (False, True)
    assert (part.floors_after(), whole.floors_after()) == ("[]", '[["b", 5]]')
