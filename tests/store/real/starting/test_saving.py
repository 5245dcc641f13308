"""``save()`` of a record that was made here inserts it; of one that is stored it updates it."""

from __future__ import annotations

from typing import Any

import pytest
from peewee import IntegerField, TextField, UUIDField
from rig.device import quick_store

from statesync import Model, Store


@pytest.fixture(params=["store.Model", "statesync.Model"])
def note(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    with quick_store(tmp_path / "device.db") as store:
        base: Any = store.Model if request.param == "store.Model" else Model

        class Note(base):  # type: ignore[misc]
            text = TextField()
            size = IntegerField(default=1)

        if base is Model:
            store.track(Note)
        store.setup()
        Note.home = store
        yield Note


def operations(note: Any) -> dict[str, str]:
    return {change.key: change.operation for change in note.home.pending()}


def test_a_new_record_is_inserted_by_save(note: Any) -> None:
    made = note(text="kept")
    assert made.save() == 1
    assert note.get_by_id(made.id).text == "kept"
    assert operations(note) == {made.id: "insert"}


def test_a_record_that_was_saved_is_updated_by_the_next_save(note: Any) -> None:
    made = note(text="first")
    made.save()
    made.text = "second"
    assert made.save() == 1
    assert [row.text for row in note.select()] == ["second"]


def test_a_record_that_was_loaded_is_updated_by_save(note: Any) -> None:
    key = note.create(text="first").id
    for text in ("first", "second", "third"):
        loaded = [note.get_by_id(key), note.select(note.id, note.text).get()][len(text) % 2]
        loaded.text = text
        assert loaded.save() == 1
        assert [(row.id, row.text) for row in note.select()] == [(key, text)]


def test_a_new_record_with_a_key_of_its_own_is_inserted(note: Any) -> None:
    assert note(id="mine", text="t").save() == 1
    assert note.get_by_id("mine").text == "t"


def test_a_record_made_with_the_key_of_a_stored_one_updates_it(note: Any) -> None:
    """That is what Peewee's ``save`` means where the key is given."""
    note.create(id="k", text="before")
    assert note(id="k", text="after").save() == 1
    assert [row.text for row in note.select()] == ["after"]


def test_a_record_that_is_gone_is_not_brought_back_by_the_save_of_an_old_copy(note: Any) -> None:
    note.create(id="k", text="t")
    copy = note.get_by_id("k")
    note.delete_by_id("k")
    assert copy.save() == 0
    assert note.select().count() == 0


def test_only_some_fields_of_a_new_record_are_saved_with_its_key(note: Any) -> None:
    made = note(text="t", size=7)
    assert made.save(only=[note.text]) == 1
    assert (note.get_by_id(made.id).text, note.get_by_id(made.id).size) == ("t", 1)


def test_making_many_at_once_is_as_it_was(note: Any) -> None:
    some = [note(text=str(number)) for number in range(3)]
    note.bulk_create(some)
    some[0].text = "edited"
    assert some[0].save() == 1
    assert sorted(row.text for row in note.select()) == ["1", "2", "edited"]
    assert note.get_or_create(text="1")[1] is False


def test_a_key_of_another_name_and_kind_is_known_too(tmp_path: Any) -> None:
    with Store(tmp_path / "device.db") as store:

        class Coded(store.Model):  # type: ignore[name-defined, misc]
            id = UUIDField(primary_key=True, column_name="code")
            text = TextField()

        store.setup()
        assert Coded(id="00000000-0000-0000-0000-000000000001", text="t").save() == 1
        assert Coded.get().text == "t"
