"""One value that nobody can read holds back its own record, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner
from peewee import BlobField, TextField

from statesync import Phase, Store, UsageError
from statesync.cli.care import doctor
from statesync.cli.outbox import conflicts, pending

from .sites import Site, note

NewSite = Callable[..., Site]

BAD = "CAST(x'61ff62' AS TEXT)"
SURROGATE = """json_extract('["\\ud800"]', '$[0]')"""
VALUES = {"no UTF-8": BAD, "a lone surrogate": SURROGATE}


@pytest.fixture
def pair(new_site: NewSite) -> tuple[Site, Site]:
    """Two devices that have the records k and other."""
    a, b = new_site("a", note), new_site("b", note)
    for key in ("k", "other"):
        a.model.create(id=key, title="1")
    a.sync()
    b.sync()
    return a, b


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_text_that_cannot_be_read_is_held_back_and_the_others_go_up(
    pair: tuple[Site, Site], value: str
) -> None:
    a, b = pair
    a.model.update(title="2").execute()
    a.execute(f"UPDATE note SET title = {value} WHERE id = 'k'")
    for _ in range(2):
        result = a.sync()
        assert result.phase is Phase.DONE
        (error,) = result.errors.upload
        assert (error.key, error.code) == ("k", "bad_value")
        assert "title" in error.message
        assert "UTF-8" in error.message
    assert a.operations() == {"k": "update"}
    assert a.store.examine() == []
    b.sync()
    assert b.rows() == {"k": ("1",), "other": ("2",)}
    a.execute("UPDATE note SET title = 'mended' WHERE id = 'k'")
    assert a.errors() == {}
    b.sync()
    assert b.rows()["k"] == ("mended",)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_text_that_cannot_be_read_can_be_taken_back(pair: tuple[Site, Site], value: str) -> None:
    a, b = pair
    a.execute(f"UPDATE note SET title = {value}")
    assert a.store.rollback() == 2
    assert a.rows() == b.rows()


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_what_a_record_was_before_may_be_unreadable(pair: tuple[Site, Site], value: str) -> None:
    a, b = pair
    a.unseen(f"UPDATE note SET title = {value} WHERE id = 'k'")
    before = a.execute("SELECT id, CAST(title AS BLOB), typeof(title) FROM note")
    a.execute("UPDATE note SET title = '2'")
    a.fold()
    assert a.operations() == {"k": "update", "other": "update"}
    assert not a.store.scope(a.remote).diagnose().is_consistent()
    assert a.store.rollback() == 2
    assert a.execute("SELECT id, CAST(title AS BLOB), typeof(title) FROM note") == before
    a.execute("UPDATE note SET title = '3'")
    assert a.errors() == {}
    b.sync()
    assert b.rows() == {"k": ("3",), "other": ("3",)}


def test_what_a_record_was_before_is_read_with_all_its_other_values(new_site: NewSite) -> None:
    def mixed(store: Store) -> object:
        class Mixed(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(null=True)
            other = TextField(null=True)
            data = BlobField(null=True)

        return Mixed

    a = new_site("a", mixed)
    a.unseen(f"INSERT INTO mixed VALUES ('k', {BAD}, 'é \\udcff \\xff', x'00ff')")
    columns = "CAST(title AS BLOB), typeof(title), other, data"
    before = a.execute(f"SELECT {columns} FROM mixed")
    a.execute("UPDATE mixed SET title = '2', other = NULL, data = NULL")
    assert a.store.rollback() == 1
    assert a.execute(f"SELECT {columns} FROM mixed") == before


@pytest.mark.parametrize("policy", ["merge_fields", "client_wins", "server_wins"])
def test_an_unreadable_past_is_no_hindrance_to_a_conflict(pair: tuple[Site, Site], policy: str) -> None:
    a, b = pair
    a.unseen(f"UPDATE note SET title = {BAD} WHERE id = 'k'")
    a.execute("UPDATE note SET title = 'mine' WHERE id = 'k'")
    b.model.update(title="theirs").execute()
    b.sync()
    assert a.errors() == {}
    result = a.sync(conflict_policy=policy)
    b.sync()
    assert a.operations() == {}
    assert a.rows() == b.rows()
    assert CliRunner().invoke(conflicts, [str(a.store.database.database)]).exit_code == 0
    assert result.phase is Phase.DONE


def test_a_record_that_becomes_unreadable_while_it_is_in_conflict_is_held_back(
    pair: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    a.execute("UPDATE note SET title = 'mine' WHERE id = 'k'")
    b.model.update(title="theirs").execute()
    b.sync()
    push = a.remote.push

    def spoil(request):  # type: ignore[no-untyped-def]
        answer = push(request)
        with a.unseen_program() as other:
            other.execute(f"UPDATE note SET title = {BAD} WHERE id = 'k'")
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(a.remote, "push", spoil)
        result = a.sync()
    assert result.phase is Phase.DONE
    assert [error.code for error in result.errors.upload] == ["bad_value"]
    assert a.errors() == {"k": "bad_value"}
    b.sync()
    assert b.rows()["k"] == ("theirs",)


def test_diagnose_tells_of_a_record_that_cannot_be_read(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.unseen(f"UPDATE note SET title = {BAD} WHERE id = 'k'")
    (difference,) = a.store.scope(a.remote).diagnose().differences
    assert (difference.key, difference.kind) == ("k", "diverged")


def test_a_restored_hub_is_offered_all_that_can_be_read(pair: tuple[Site, Site]) -> None:
    """After lost triggers the device compares its records with the hub's, and offers those that differ."""
    a, b = pair
    a.execute("DROP TRIGGER statesync_Note_update")
    a.execute("UPDATE note SET title = '2'")
    a.execute(f"UPDATE note SET title = {BAD} WHERE id = 'k'")
    assert a.store.repair() == []
    a.sync()
    assert a.errors() == {"k": "bad_value"}
    b.sync()
    assert b.rows() == {"k": ("1",), "other": ("2",)}


def test_the_commands_tell_of_what_cannot_be_read(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    a.execute(f"UPDATE note SET title = {BAD} WHERE id = 'k'")
    a.execute(f"INSERT INTO note VALUES ({BAD}, 'x')")
    a.sync()
    path = str(a.store.database.database)
    for arguments in ([path], [path, "--json"]):
        said = CliRunner().invoke(pending, arguments)
        assert said.exit_code == 0, said
        assert "bad_value" in said.output
        assert "bad_key" in said.output
    assert CliRunner().invoke(doctor, [path]).output == "the store is sound\n"


def test_a_policy_that_returns_what_cannot_be_written_holds_its_record_back(pair: tuple[Site, Site]) -> None:
    a, b = pair
    a.model.update(title="mine").where(a.model.id == "k").execute()
    b.model.update(title="theirs").execute()
    b.sync()
    result = a.sync(conflict_policy=lambda *_: {"title": "\ud800"})
    assert [error.code for error in result.errors.upload] == ["policy_failed"]
    assert result.phase is Phase.DONE


def test_a_record_whose_key_cannot_be_written_is_refused_in_words(pair: tuple[Site, Site]) -> None:
    a, _ = pair
    record = a.model(id="\ud800")
    for ask in (a.store.rollback, a.store.defer, a.store.mark_for_upload):
        with pytest.raises(UsageError, match="UTF-8"):
            ask(record)
