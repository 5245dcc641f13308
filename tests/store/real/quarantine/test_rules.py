"""A record that its table does not take waits in quarantine, and stops nothing else, whatever the rule.

Source: section 2 of the design's second part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from statesync import Phase, StoreError
from statesync.cli.commands import commands
from statesync.hub import LocalRemote

from ..sites import Site
from .tables import item, table, trigger, with_bytes

NewSite = Callable[..., Site]

REFUSED = "ABORT, 'not here'"

RULES = {
    "unique": (table("TEXT UNIQUE"), "first", None, "not_unique"),
    "unique, replacing": (table("TEXT UNIQUE ON CONFLICT REPLACE"), "first", None, "not_unique"),
    "unique, rolling back": (table("TEXT UNIQUE ON CONFLICT ROLLBACK"), "first", None, "not_unique"),
    "unique, ignoring": (table("TEXT UNIQUE ON CONFLICT IGNORE"), "first", None, "not_unique"),
    "unique index": (table() + "CREATE UNIQUE INDEX u ON item (lower(title));", "FIRST", None, "not_unique"),
    "unique in part": (table() + "CREATE UNIQUE INDEX u ON item (n) WHERE n > 5;", "x", 7, "not_unique"),
    "not null": (table("TEXT NOT NULL"), None, None, "not_null"),
    "check": (table("TEXT CHECK (title <> 'bad')"), "bad", None, "check"),
    "strict": (table(n="INTEGER", options="STRICT"), "x", "no number", "does_not_fit"),
    "trigger": (table() + trigger("BEFORE INSERT", "NEW.n = 13", REFUSED), "x", 13, "refused"),
    "trigger after": (table() + trigger("AFTER INSERT", "NEW.n = 13", REFUSED), "x", 13, "refused"),
    "trigger, failing": (table() + trigger("BEFORE INSERT", "NEW.n = 13", "FAIL, 'no'"), "x", 13, "refused"),
    "trigger, rolling back": (
        table() + trigger("BEFORE INSERT", "NEW.n = 13", "ROLLBACK, 'no'"),
        "x",
        13,
        "refused",
    ),
    "trigger, passing over": (table() + trigger("BEFORE INSERT", "NEW.n = 13", "IGNORE"), "x", 13, None),
}


@pytest.mark.crossed
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [1, 2, 500])
def test_a_record_that_breaks_a_rule_waits_and_all_others_arrive(
    new_site: NewSite, rule: str, size: int
) -> None:
    before, title, n, code = RULES[rule]
    a, b = new_site("a", item), new_site("b", item, before)
    a.model.create(id="k0", title="first", n=7)
    a.model.create(id="k1", title=title, n=n)
    for number in range(2, 6):
        a.model.create(id=f"k{number}", title=f"more {number}", n=None)
    a.sync()
    result = b.sync(download_batch_size=size)
    assert result.phase is Phase.DONE
    assert result.quarantined == 1
    assert b.rows().keys() == {"k0", "k2", "k3", "k4", "k5"}
    (waiting,) = b.store.quarantine()
    assert waiting.key == "k1"
    assert waiting.record == {"title": title, "n": n}
    assert waiting.code == code or code is None
    (error,) = result.errors.download
    assert (error.key, error.code) == ("k1", waiting.code)
    assert result.stats.downloaded == 5


@pytest.mark.parametrize("rule", [name for name in RULES if name.startswith("unique")])
def test_the_record_in_the_way_is_named_and_stays(new_site: NewSite, rule: str) -> None:
    before, title, n, _ = RULES[rule]
    a, b = new_site("a", item), new_site("b", item, before)
    a.model.create(id="k0", title="first", n=7)
    a.model.create(id="k1", title=title, n=n)
    a.sync()
    result = b.sync()
    assert [waiting.in_the_way for waiting in b.store.quarantine()] == ["k0"]
    assert "'k0' is in the way" in result.errors.download[0].message
    assert b.rows() == {"k0": ("first", 7)}


def test_a_record_of_another_shape_waits_and_arrives_once_the_model_takes_it(new_site: NewSite) -> None:
    """A column is bytes on one device and a text on the other, whose text is no base64."""
    a, b = new_site("a", item), new_site("b", with_bytes)
    a.model.create(id="k0", title=None)
    a.model.create(id="k1", title="no base64 at all!")
    a.model.create(id="k2", title="YQ==")
    a.sync()
    assert b.sync().quarantined == 1
    assert b.rows() == {"k0": (None,), "k2": (b"a",)}
    (waiting,) = b.store.quarantine()
    assert (waiting.key, waiting.code) == ("k1", "wrong_type")
    a.model.update(title="Yg==").where(a.model.id == "k1").execute()
    a.sync()
    assert b.sync().quarantined == 0
    assert b.rows()["k1"] == (b"b",)


class Altering:
    """A hub that keeps what a careless writer's JSON says, and no text can hold."""

    def __init__(self, inner: LocalRemote, data: bytes) -> None:
        self._inner, self._data = inner, data
        self.space = inner.space

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def pull(self, request: Any) -> Any:
        page = self._inner.pull(request)
        data = msgspec.Raw(self._data)
        changes = [msgspec.structs.replace(entry, data=data) for entry in page.changes]
        return msgspec.structs.replace(page, changes=changes)


@pytest.mark.parametrize("data", [rb'{"title":"\ud800","n":["\udfff"]}', b'{"title":1e999,"n":{}}'])
def test_what_no_text_can_hold_waits_and_can_be_shown_printed_and_compared(
    new_site: NewSite, data: bytes
) -> None:
    a, b = new_site("a", item), new_site("b", item)
    a.model.create(id="k")
    a.sync()
    plain, b.remote = b.remote, Altering(b.remote, data)  # type: ignore[assignment]
    assert b.sync().quarantined == 1
    (waiting,) = b.store.quarantine()
    assert str(waiting.record).encode()
    b.remote = plain
    b.store.scope(plain).diagnose()
    path = str(b.store.database.database)
    printed = CliRunner().invoke(commands, ["quarantine", path, "--json"], standalone_mode=False)
    assert printed.exception is None or isinstance(printed.exception, SystemExit)
    assert '"k"' in printed.output


def test_a_delete_that_a_trigger_forbids_waits_and_the_row_stays(new_site: NewSite) -> None:
    a = new_site("a", item)
    b = new_site("b", item, table() + trigger("BEFORE DELETE", "OLD.n = 13", REFUSED))
    for key, n in (("k0", 13), ("k1", 1)):
        a.model.create(id=key, n=n)
    a.sync()
    b.sync()
    a.model.delete().execute()
    a.sync()
    assert b.sync().quarantined == 1
    assert b.rows().keys() == {"k0"}
    (waiting,) = b.store.quarantine()
    assert (waiting.key, waiting.record, waiting.code) == ("k0", None, "refused")
    b.execute("DROP TRIGGER mine")
    assert b.sync().quarantined == 0
    assert b.rows() == {}


def test_a_delete_that_a_trigger_passes_over_waits_too(new_site: NewSite) -> None:
    a = new_site("a", item)
    b = new_site("b", item, table() + trigger("BEFORE DELETE", "OLD.n = 13", "IGNORE"))
    for key, n in (("k0", 13), ("k1", 1)):
        a.model.create(id=key, n=n)
    a.sync()
    b.sync()
    a.model.delete().execute()
    a.sync()
    assert b.sync().quarantined == 1
    assert b.rows().keys() == {"k0"}
    b.execute("DROP TRIGGER mine")
    assert b.sync().quarantined == 0
    assert b.rows() == {}


def test_a_full_text_index_that_does_not_know_a_row_holds_back_that_row_alone(new_site: NewSite) -> None:
    """An index over a table that had records already has to be filled; many a program forgets that."""
    forget = "INSERT INTO search(search, rowid, title) VALUES ('delete', OLD.rowid, OLD.title);"
    learn = "INSERT INTO search(rowid, title) VALUES (NEW.rowid, NEW.title);"
    a, b = new_site("a", item), new_site("b", item, table())
    for key in ("k0", "k1", "k2"):
        a.model.create(id=key, title=f"text of {key}")
    a.sync()
    b.sync()
    b.execute("CREATE VIRTUAL TABLE search USING fts5(title, content='item')")
    b.execute(f"CREATE TRIGGER s1 AFTER INSERT ON item BEGIN {learn} END")
    b.execute(f"CREATE TRIGGER s2 AFTER DELETE ON item BEGIN {forget} END")
    b.execute(f"CREATE TRIGGER s3 AFTER UPDATE ON item BEGIN {forget} {learn} END")
    a.model.update(title="other text").where(a.model.id == "k0").execute()
    a.model.delete().where(a.model.id == "k1").execute()
    a.model.create(id="k3", title="new text")
    a.sync()
    result = b.sync()
    assert result.phase is Phase.DONE
    assert {held.key for held in b.store.quarantine()} == {"k0", "k1"}
    assert all("'rebuild'" in held.message for held in b.store.quarantine())
    assert b.rows().keys() == {"k0", "k1", "k2", "k3"}
    b.execute("INSERT INTO search(search) VALUES ('rebuild')")
    assert b.sync().quarantined == 0
    assert b.rows() == a.rows()


def test_an_update_that_is_forbidden_leaves_the_row_as_it_was(new_site: NewSite) -> None:
    a, b = new_site("a", item), new_site("b", item, table(n="CHECK (n < 10)"))
    a.model.create(id="k", title="1", n=1)
    a.sync()
    b.sync()
    a.model.update(title="2", n=99).execute()
    a.sync()
    assert b.sync().quarantined == 1
    assert b.rows() == {"k": ("1", 1)}


@pytest.mark.parametrize("action", ["ABORT, 'no'", "IGNORE", "ROLLBACK, 'no'"])
def test_a_rule_for_new_rows_does_not_hold_for_known_ones(new_site: NewSite, action: str) -> None:
    a = new_site("a", item)
    b = new_site("b", item, table() + trigger("BEFORE INSERT", "NEW.n = 13", action))
    for key in ("known", "other"):
        a.model.create(id=key, n=1)
    a.sync()
    b.sync()
    a.model.update(n=13).execute()
    a.model.create(id="new", n=13)
    a.sync()
    assert b.sync().quarantined == 1
    assert b.rows() == {"known": (None, 13), "other": (None, 13)}


def test_what_says_nothing_of_the_record_fails_the_session_and_quarantines_nothing(new_site: NewSite) -> None:
    """The store's own tables are no rule of the record's; what was rolled back comes with the next sync."""
    a, b = new_site("a", item), new_site("b", item)
    a.model.create(id="k")
    a.sync()
    b.execute("CREATE TRIGGER full BEFORE UPDATE ON statesync_cursor BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(StoreError, match="full"):
        b.sync()
    b.execute("DROP TRIGGER full")
    assert b.store.quarantine() == []
    b.sync()
    assert b.rows().keys() == {"k"}


MISTAKES = {
    "a rule that nothing meets": table(n="CHECK (n < 0)"),
    "a trigger on a table that is gone": table() + "CREATE TRIGGER mine AFTER INSERT ON item BEGIN "
    "INSERT INTO nowhere VALUES (1); END;",
    "a trigger with a function that only another program has": table() + "CREATE TRIGGER mine AFTER INSERT "
    "ON item BEGIN SELECT theirs(NEW.n); END;",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_where_not_one_record_fits_the_session_goes_on_and_its_result_says_so_first(
    new_site: NewSite, mistake: str
) -> None:
    a, b = new_site("a", item), new_site("b", item, MISTAKES[mistake])
    for number in range(3):
        a.model.create(id=f"k{number}", n=number)
    a.sync()
    result = b.sync()
    assert result.phase is Phase.DONE
    first, *others = result.errors.download
    assert (first.object, first.key, first.code) == ("Item", "", "nothing_fits")
    assert "not one of 3 records" in first.message
    assert [error.key for error in others] == ["k0", "k1", "k2"]


def test_the_result_lists_a_thousand_and_counts_all(new_site: NewSite) -> None:
    a, b = new_site("a", item), new_site("b", item, table(n="CHECK (n < 0)"))
    with a.store.database.atomic():
        a.model.insert_many([{"id": f"k{number:04}", "n": number} for number in range(1100)]).execute()
        a.model.create(id="fits", n=-1)
    a.sync(upload_batch_size=500)
    result = b.sync()
    assert result.quarantined == 1100
    assert len(result.errors.download) == 1000
    assert b.rows() == {"fits": (None, -1)}
    with a.store.database.atomic():
        a.model.update(n=-2).execute()
    a.sync(upload_batch_size=500)
    assert b.sync().quarantined == 0
    assert len(b.rows()) == 1101
