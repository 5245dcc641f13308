"""Values that must be unique and move between records arrive cleanly, within a page and over several."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from rig.search import some

from ..sites import Site
from .tables import item, table, trigger

NewSite = Callable[..., Site]

UNIQUE = table(
    "TEXT NOT NULL UNIQUE",
    "",
    "mine TEXT DEFAULT 'a note of this device'",
    "loud TEXT GENERATED ALWAYS AS (upper(title)) STORED",
)
PAGES = [1, 2, 3, 7, 500]


@pytest.fixture
def pair(new_site: NewSite) -> tuple[Site, Site]:
    """A device whose titles are free, and one on which each title belongs to one record."""
    a, b = new_site("a", item), new_site("b", item, UNIQUE)
    for number in range(12):
        a.model.create(id=f"k{number:02}", title=f"t{number:02}", n=number)
    a.sync()
    b.sync()
    b.execute("UPDATE item SET mine = 'kept ' || id")
    return a, b


def retitle(site: Site, titles: dict[str, str], order: list[str]) -> None:
    with site.store.database.atomic():
        for key in order:
            site.model.update(title=titles[key]).where(site.model.id == key).execute()
    site.sync(upload_batch_size=500)


def titles_of(site: Site) -> dict[str, str]:
    return {key: values[0] for key, values in site.rows().items()}


def check(a: Site, b: Site, size: int) -> None:
    result = b.sync(download_batch_size=size)
    assert titles_of(b) == titles_of(a)
    assert (result.quarantined, result.errors.download) == (0, ())
    assert result.stats.downloaded == len(set(b.rows()) & changed(b))
    assert b.execute("SELECT count(*) FROM item WHERE mine = 'kept ' || id AND loud = upper(title)") == [
        (12,)
    ]
    assert b.store.pending() == []
    assert b.execute("SELECT count(*) FROM statesync_base") == [(0,)]


def changed(site: Site) -> set[str]:
    return {key for key, title in titles_of(site).items() if title != "t" + key[1:]}


@pytest.mark.parametrize("size", some(PAGES, 4))
def test_two_records_swap_a_value(pair: tuple[Site, Site], size: int) -> None:
    a, b = pair
    retitle(a, {"k03": "t04", "k04": "t03"}, ["k03", "k04"])
    check(a, b, size)


@pytest.mark.crossed
@pytest.mark.parametrize("size", some(PAGES, 4))
@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("upward", [True, False], ids=["written upward", "written downward"])
def test_a_whole_list_is_shifted(pair: tuple[Site, Site], size: int, step: int, upward: bool) -> None:
    a, b = pair
    titles = {f"k{number:02}": f"t{(number + step) % 12:02}" for number in range(12)}
    retitle(a, titles, sorted(titles, reverse=not upward))
    check(a, b, size)


@pytest.mark.parametrize("size", some(PAGES, 4))
def test_a_chain_ends_in_a_new_value(pair: tuple[Site, Site], size: int) -> None:
    a, b = pair
    titles = {f"k{number:02}": f"t{number + 1:02}" for number in range(12)}
    retitle(a, titles, sorted(titles))
    check(a, b, size)


@pytest.mark.parametrize("seed", some(range(12), 3))
def test_values_move_in_any_way(pair: tuple[Site, Site], seed: int) -> None:
    a, b = pair
    chance = random.Random(seed)
    keys = [f"k{number:02}" for number in range(12)]
    pool = [f"t{number:02}" for number in range(14)]
    for _ in range(3):
        titles = dict(zip(keys, chance.sample(pool, 12), strict=True))
        retitle(a, titles, chance.sample(keys, chance.randint(1, 12)))
        unique = len(set(titles_of(a).values())) == 12
        result = b.sync(download_batch_size=chance.choice(PAGES))
        if unique:
            assert titles_of(b) == titles_of(a)
        else:  # every record is in its table or in quarantine
            waiting = {held.key: held.record["title"] for held in b.store.quarantine() if held.record}
            assert titles_of(b) | waiting == titles_of(a)
            assert result.quarantined == len(waiting) > 0


def test_a_value_moves_to_a_new_record_of_the_same_page(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.model.create(id="new", title="t05")
    a.model.update(title="free").where(a.model.id == "k05").execute()
    a.sync()
    assert b.sync().quarantined == 0
    assert titles_of(b) == titles_of(a)


def test_one_record_that_may_not_move_holds_only_those_that_want_its_value(new_site: NewSite) -> None:
    a = new_site("a", item)
    b = new_site("b", item, table("TEXT UNIQUE", "CHECK (n < 100)"))
    for number in range(6):
        a.model.create(id=f"k{number}", title=f"t{number}", n=1)
    a.sync()
    b.sync()
    with a.store.database.atomic():
        for number, title, n in ((0, "t1", 1), (1, "t2", 1), (2, "t0", 100), (3, "t4", 1), (4, "t3", 1)):
            a.model.update(title=title, n=n).where(a.model.id == f"k{number}").execute()
    a.sync()
    b.sync()
    assert {held.key for held in b.store.quarantine()} == {"k0", "k1", "k2"}
    assert titles_of(b) == {"k0": "t0", "k1": "t1", "k2": "t2", "k3": "t4", "k4": "t3", "k5": "t5"}
    a.model.update(n=2).where(a.model.id == "k2").execute()
    a.sync()
    assert b.sync().quarantined == 0
    assert titles_of(b) == titles_of(a)


def test_rows_keep_their_rowid_and_an_index_over_it(new_site: NewSite) -> None:
    """An external full-text index finds its texts by the rowid."""
    forget = "INSERT INTO search(search, rowid, title) VALUES ('delete', OLD.rowid, OLD.title);"
    learn = "INSERT INTO search(rowid, title) VALUES (NEW.rowid, NEW.title);"
    search = (
        table("TEXT UNIQUE")
        + "CREATE VIRTUAL TABLE search USING fts5(title, content='item');"
        + f"CREATE TRIGGER s1 AFTER INSERT ON item BEGIN {learn} END;"
        + f"CREATE TRIGGER s2 AFTER DELETE ON item BEGIN {forget} END;"
        + f"CREATE TRIGGER s3 AFTER UPDATE ON item BEGIN {forget} {learn} END;"
    )
    a, b = new_site("a", item), new_site("b", item, search)
    a.model.create(id="k1", title="one")
    a.model.create(id="k2", title="two")
    a.model.create(id="k3", title="three")
    a.sync()
    b.sync()
    before = dict(b.execute("SELECT id, rowid FROM item"))
    retitle(a, {"k1": "two", "k2": "one"}, ["k1", "k2"])
    assert b.sync().quarantined == 0
    assert dict(b.execute("SELECT id, rowid FROM item")) == before
    found = b.execute(
        "SELECT id FROM item WHERE rowid IN (SELECT rowid FROM search WHERE search MATCH 'two')"
    )
    assert found == [("k1",)]
    b.execute("INSERT INTO search(search) VALUES ('integrity-check')")


def test_a_record_that_may_not_be_taken_out_waits_with_those_behind_it(new_site: NewSite) -> None:
    a = new_site("a", item)
    b = new_site("b", item, table("TEXT UNIQUE") + trigger("BEFORE DELETE", "OLD.n = 13", "ABORT, 'no'"))
    for key, title in (("k1", "one"), ("k2", "two")):
        a.model.create(id=key, title=title, n=13)
    a.sync()
    b.sync()
    retitle(a, {"k1": "two", "k2": "one"}, ["k1", "k2"])
    b.sync()
    assert {held.key: held.in_the_way for held in b.store.quarantine()} == {"k1": "k2", "k2": "k1"}
    assert titles_of(b) == {"k1": "one", "k2": "two"}


@pytest.mark.parametrize("is_ring", [False, True], ids=["chain", "ring"])
def test_a_chain_or_ring_that_is_longer_than_a_session_tries_arrives_whole(
    new_site: NewSite, is_ring: bool
) -> None:
    a, b = new_site("a", item), new_site("b", item, UNIQUE)
    many = 1500
    a.model.insert_many([{"id": f"k{n:04}", "title": f"t{n:04}"} for n in range(many)]).execute()
    a.sync(upload_batch_size=500)
    b.sync()
    with a.store.database.atomic():
        for n in range(many):
            wanted = 0 if is_ring and n + 1 == many else n + 1
            a.model.update(title=f"t{wanted:04}").where(a.model.id == f"k{n:04}").execute()
    a.sync(upload_batch_size=500)
    assert b.sync().quarantined == 0
    assert titles_of(b) == titles_of(a)


def test_a_swap_over_two_pages_arrives_beside_more_misfits_than_a_session_tries(new_site: NewSite) -> None:
    a, b = new_site("a", item), new_site("b", item, table("TEXT UNIQUE", "CHECK (n < 100)"))
    many = 1100
    a.model.insert_many([{"id": f"bad{n:04}", "n": 100} for n in range(many)]).execute()
    for number in range(4):
        a.model.create(id=f"k{number}", title=f"t{number}", n=1)
    a.sync(upload_batch_size=500)
    b.sync()
    for number in range(4):
        a.model.update(title=f"t{(number + 1) % 4}").where(a.model.id == f"k{number}").execute()
    a.sync()
    assert b.sync(download_batch_size=2).quarantined == many
    assert titles_of(b) == {key: title for key, title in titles_of(a).items() if key.startswith("k")}
