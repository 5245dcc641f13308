"""Versions become visible in commit order, whatever runs at the same time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import peewee
import pytest
from rig.child import PROCESSES
from rig.search import examples

from statesync.hub import Hub, Refused, spaces
from statesync.hub.db.database import Database

from ..devices import Device, upsert
from .crowd import LateCommits, read, write

WRITERS, READERS = 8, 4


def run_crowd(url: str, kind: type[Hub], batches: int, size: int) -> tuple[set[str], list[list[str]]]:
    """Run the crowd; return what was written, and what each reader saw in its order."""
    finished = PROCESSES.Event()
    names = [f"writer{n}" for n in range(WRITERS)]
    writers = [PROCESSES.Process(target=write, args=(url, kind, name, batches, size)) for name in names]
    pipes = [PROCESSES.Pipe(duplex=False) for _ in range(READERS)]
    readers = [
        PROCESSES.Process(target=read, args=(url, f"reader{n}", finished, sender))
        for n, (_, sender) in enumerate(pipes)
    ]
    for process in readers + writers:
        process.start()
    for _, sender in pipes:
        sender.close()  # so that a reader that dies is the end of its pipe, not a wait for ever
    for process in writers:
        process.join()
    finished.set()
    seen = [receiver.recv() for receiver, _ in pipes]
    for process in readers + writers:
        process.join()
        assert process.exitcode == 0
        process.close()
    for receiver, _ in pipes:
        receiver.close()
    return {f"{name}-{key}" for name in names for key in range(batches * size)}, seen


@pytest.mark.timeout(600)
def test_no_reader_passes_a_late_commit(new_database: Callable[[], str]) -> None:
    batches, size = examples(20), examples(20, 125)
    written, seen = run_crowd(new_database(), Hub, batches, size)
    assert len(written) == WRITERS * batches * size
    for keys in seen:
        assert len(keys) == len(written), "each record is seen once, and none is passed"
        assert set(keys) == written


def test_an_order_that_is_broken_on_purpose_is_caught(new_database: Callable[[], str]) -> None:
    written, seen = run_crowd(new_database(), LateCommits, batches=20, size=10)
    assert any(set(keys) != written for keys in seen)


@pytest.fixture
def body(device: Device) -> bytes:
    return json.dumps(device.push_document(upsert("a", {}))).encode()


def test_spaces_do_not_wait_for_each_other(postgres_hub: Hub, body: bytes) -> None:
    postgres_hub.push("busy", body)
    postgres_hub.push("free", body)
    with postgres_hub.database.writing():
        spaces.lock(postgres_hub.database, "busy", "client", 10)
        elapsed = in_thread(lambda: postgres_hub.push("free", body))
    assert elapsed < 1, "the other space's push ended while this one's lock was held"


class Racing(Database):
    """A database where another hub makes the space in the moment after it was found missing."""

    other: Hub
    body: bytes
    raced = False

    def run(self, sql: str, *parameters: object) -> Any:
        cursor = super().run(sql, *parameters)
        if sql.startswith("SELECT 1 FROM space") and not self.raced:
            self.raced = True
            self.other.push("new", self.body)
        return cursor


def test_a_space_that_comes_up_meanwhile_is_locked_all_the_same(postgres_hub: Hub, body: bytes) -> None:
    other = Hub(postgres_hub.url, without_tokens=True)
    racing = Racing(postgres_hub.database.pool, postgres_hub.database.dialect)
    racing.other, racing.body = other, body
    with racing.writing():
        spaces.lock(racing, "new", "me", 10)
        with pytest.raises(peewee.OperationalError, match="could not obtain lock"), other.database.writing():
            other.database.run("SELECT 1 FROM space WHERE space = ? FOR UPDATE NOWAIT", "new")
    other.close()


def test_readers_do_not_wait_for_a_writer(hub: Hub, body: bytes, device: Device) -> None:
    hub.push("busy", body)
    pull = json.dumps(device.pull_document({"Airport": {"cursor": 0}}, client="reader")).encode()
    with hub.database.writing():
        spaces.lock(hub.database, "busy", "client", 10)
        elapsed = in_thread(lambda: hub.pull("busy", pull))
    assert elapsed < 1


def test_a_batch_is_read_and_checked_before_the_lock_is_asked_for(hub: Hub, device: Device) -> None:
    bad = json.dumps(device.push_document(upsert("a", {}), upsert("a", {}))).encode()

    def push() -> None:
        with pytest.raises(Refused, match="duplicate_key"):
            hub.push("busy", bad)

    with hub.database.writing():
        spaces.lock(hub.database, "busy", "client", 10)
        assert in_thread(push) < 1


def in_thread(work: Callable[[], object]) -> float:
    """Run ``work`` in a thread to its end, within ten seconds, and return how many it took."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - it is given to the test that waits
            failures.append(error)

    begun = time.monotonic()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    elapsed = time.monotonic() - begun
    assert not thread.is_alive()
    assert not failures, failures
    return elapsed
