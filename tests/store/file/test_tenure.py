"""A session's thread that was left behind commits nothing any more, however far it has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from rig.device import Device

from statesync.errors import StaleRunner, StoreLocked
from statesync.store.file.database import Database
from statesync.store.file.tenure import Tenure

PATIENCE = 10.0


@pytest.fixture
def database(here: Device) -> Database:
    return here.store._parts.database


@pytest.fixture
def beside(here: Device) -> Iterator[threading.Thread]:
    """A thread that writes for a long time."""
    free, begun = threading.Event(), threading.Event()

    def write() -> None:
        database = here.store._parts.database
        with database.transaction():
            begun.set()
            free.wait(PATIENCE)
        database.leave()

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(PATIENCE)
    yield thread
    free.set()
    thread.join(PATIENCE)


def test_a_transaction_whose_tenure_ends_before_its_commit_is_rolled_back(
    here: Device, database: Database
) -> None:
    tenure = Tenure()
    here.store.database.close()

    def write() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO airport (id, name, is_open) VALUES ('late', 'n', 1)")
            assert tenure.end()

    with database.session_connection(tenure):
        with pytest.raises(StaleRunner):
            write()
        with pytest.raises(StaleRunner), database.transaction():
            pass
        assert not database.in_transaction()
    assert here.keys() == []


def test_a_tenure_ends_once_and_not_while_it_is_held() -> None:
    tenure, ended = Tenure(), threading.Event()

    def end() -> None:
        if tenure.end():
            ended.set()

    with tenure.held():
        thread = threading.Thread(target=end)
        thread.start()
        assert not ended.wait(0.05)
    thread.join(PATIENCE)
    assert ended.is_set()
    assert not tenure.end()


@pytest.mark.usefixtures("beside")
def test_a_session_waits_for_a_writer_until_its_time_is_over(here: Device, database: Database) -> None:
    tenure, began = Tenure(), time.monotonic()
    tenure.shorten(100.0)
    tenure.shorten(0.0)
    here.store.database.close()
    with database.session_connection(tenure), pytest.raises(StoreLocked), database.transaction():
        pass
    assert time.monotonic() - began < 2.5, "and not the busy time-out of five seconds"


@pytest.mark.usefixtures("beside")
def test_a_tenure_that_ends_while_a_writer_is_waited_for_ends_the_wait(
    here: Device, database: Database
) -> None:
    tenure, began = Tenure(), time.monotonic()
    threading.Timer(0.2, tenure.end).start()
    here.store.database.close()
    with database.session_connection(tenure), pytest.raises(StaleRunner), database.transaction():
        pass
    assert time.monotonic() - began < 2.5
