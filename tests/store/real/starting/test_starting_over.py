"""What waits for the hub is on this device alone, so nothing deletes it by the way."""

from __future__ import annotations

import pytest
from peewee import TextField
from rig.device import Device, quick_store

from statesync import UsageError


@pytest.mark.parametrize("forget", ["clear", "reset"])
@pytest.mark.parametrize("deferred", [False, True])
def test_forgetting_is_refused_while_changes_wait_and_deletes_nothing(
    here: Device, forget: str, deferred: bool
) -> None:
    here.add(2)
    here.sync()
    here.edit("k00000", name="mine")
    here.delete("k00001")
    if deferred:
        here.store.defer(here.airport(id="k00001"))
    before = here.rows()
    with pytest.raises(UsageError, match=rf"2 changes wait.*sync first.*{forget}\(discard_pending=True\)"):
        getattr(here.store, forget)()
    assert here.rows() == before
    assert len(here.store.pending()) == 2
    getattr(here.store, forget)(discard_pending=True)
    assert (here.rows(), here.store.pending()) == ({}, [])


@pytest.mark.parametrize("forget", ["clear", "reset"])
def test_forgetting_a_store_whose_changes_are_on_the_hub_needs_no_word(here: Device, forget: str) -> None:
    here.add(2)
    here.sync()
    getattr(here.store, forget)()
    here.sync()
    assert here.keys() == ["k00000", "k00001"]


def test_only_the_changes_of_the_objects_that_are_forgotten_count(here: Device) -> None:
    with quick_store(here.store.database.database) as store:

        class Other(store.Model):  # type: ignore[name-defined, misc]
            text = TextField()

        store.setup()
        here.add(1)
        store.scope(here.remote, Other).clear()
        assert len(store.pending()) == 1


def test_a_store_that_keeps_its_records_may_be_reset_while_changes_wait(here: Device) -> None:
    here.add(1)
    here.store.reset(keep_records=True)
    assert here.operations() == {"k00000": "insert"}
