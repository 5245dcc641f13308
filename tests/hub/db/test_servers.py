"""What servers and disks do to a hub: each is a refusal that names its cause, and ends with it."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from statesync.hub import BadDatabase, Hub, Refused, prepare, serving, spaces
from statesync.hub.db import failures, sqlite
from statesync.hub.db.database import Database, failures_as_refusals
from statesync.hub.db.opening import open_database
from statesync.hub.http import web

from ..devices import Service, upsert


def push(hub: Hub, number: int = 1, size: int = 1) -> int:
    """Push one record to the space acme as one and the same client; return the head."""
    envelope = {"client": "me", "number": number, "batch": f"{number}", "hub": None, "epoch": None}
    body = json.dumps(envelope | {"changes": [upsert(f"{number}", {"x": "x" * size})]})
    head: int = json.loads(hub.push("acme", body.encode()))["head"]
    return head


def pull(hub: Hub) -> int:
    """Return how many records a reader gets."""
    envelope = {"client": "you", "number": 0, "hub": None, "epoch": None, "limit": 100}
    page = hub.pull("acme", json.dumps(envelope | {"objects": {"Airport": {"cursor": 0}}}).encode())
    return len(json.loads(page)["changes"])


def refusal(attempt: Callable[[], object]) -> tuple[int, str, str]:
    """Return status, code and words of what is refused."""
    with pytest.raises(Refused) as caught:
        attempt()
    return caught.value.status, caught.value.problem.code, caught.value.problem.message


@pytest.fixture
def sqlite_hub(tmp_path: Path) -> Iterator[Hub]:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    own = Hub(url, without_tokens=True, connections=1)
    yield own
    own.close()


READ_ONLY = {"%s": "SET default_transaction_read_only = on", "?": "PRAGMA query_only = on"}


@pytest.fixture
def only_reading(hub: Hub) -> Hub:
    """A hub whose connections lead to a server that only reads; a new one leads to a server that writes."""
    with hub.database.connection():
        hub.database.run(READ_ONLY[hub.database.pool.param])
    return hub


def test_a_push_that_meets_a_standby_is_told_so_and_the_next_one_finds_the_new_server(
    only_reading: Hub,
) -> None:
    status, code, words = refusal(lambda: push(only_reading))
    assert (status, code) == (503, "database_read_only")
    assert "can only be read" in words
    assert push(only_reading) == 1


def test_a_hub_that_can_only_read_is_not_ready_until_it_has_found_a_server_that_writes(
    only_reading: Hub,
) -> None:
    assert refusal(only_reading.check_ready)[:2] == (503, "database_read_only")
    only_reading.check_ready()


def test_of_many_connections_to_a_standby_one_refusal_is_enough(new_database: Callable[[], str]) -> None:
    hub = Hub(new_database(), without_tokens=True, connections=4)
    pool: Any = hub.database.pool
    for connection, _ in [*pool._idle]:
        pool._shut(connection)
    pool._idle.clear()
    pool._idle += [(standby(hub), 0) for _ in range(4)]
    assert refusal(lambda: push(hub))[1] == "database_read_only"
    assert push(hub) == 1
    hub.close()


def standby(hub: Hub) -> Any:
    """Return a connection of the hub's kind that only reads."""
    pool: Any = hub.database.pool
    connection = pool._open()
    connection.execute(READ_ONLY[pool.param])
    return connection


def test_a_full_disk_is_said_in_words_and_what_is_there_can_be_read(sqlite_hub: Hub) -> None:
    push(sqlite_hub)
    with no_more_pages(sqlite_hub):
        status, code, words = refusal(lambda: push(sqlite_hub, 2, 100_000))
        assert (status, code) == (507, "storage_full")
        assert "no room left on its disk" in words
        assert pull(sqlite_hub) == 1
    assert push(sqlite_hub, 2, 100_000) == 2


@contextmanager
def no_more_pages(hub: Hub) -> Iterator[None]:
    """Let the file grow no more; the hub has one connection."""
    set_most_pages(hub, 1)  # SQLite takes the pages that there are for the least
    try:
        yield
    finally:
        set_most_pages(hub, 2**32 - 2)


def set_most_pages(hub: Hub, pages: int) -> None:
    with hub.database.connection():
        hub.database.run(f"PRAGMA max_page_count = {pages}")


class FullAtCommit(sqlite3.Connection):
    """A connection to a disk that has room for a transaction's pages in memory, and none for its log.

    SQLite rolls such a transaction back by itself.
    """

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(FullCursor)


class FullCursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = (), /) -> FullCursor:
        if sql != "COMMIT":
            return super().execute(sql, parameters)
        super().execute("ROLLBACK")
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error


def test_a_disk_that_is_full_at_the_commit_has_taken_nothing_and_says_so(sqlite_hub: Hub) -> None:
    pool: Any = sqlite_hub.database.pool
    pool.distrust()
    pool.connect_params["factory"] = FullAtCommit
    assert refusal(lambda: push(sqlite_hub))[:2] == (507, "storage_full")
    del pool.connect_params["factory"]
    pool.distrust()
    assert push(sqlite_hub) == 1


def test_a_hub_whose_disk_takes_no_writes_is_not_ready(sqlite_hub: Hub) -> None:
    with sqlite_hub.database.connection():  # nothing of the log's room can be used again
        sqlite_hub.database.run("PRAGMA journal_size_limit = 0")
    with only_this_long(files=8192):
        status, code, words = refusal(sqlite_hub.check_ready)
    assert (status, code) == (503, "database_unavailable")
    assert "cannot read or write its disk" in words
    sqlite_hub.check_ready()


def test_a_push_that_has_met_a_full_disk_is_told_by_readiness_at_once_and_until_a_row_fits(
    sqlite_hub: Hub,
) -> None:
    sqlite_hub.check_ready()
    push(sqlite_hub, 1, 50_000)  # takes the pages that the question has left free
    with no_more_pages(sqlite_hub):
        sqlite_hub.check_ready()  # a second has not passed, and nothing was refused
        assert refusal(lambda: push(sqlite_hub, 2, 100_000))[:2] == (507, "storage_full")
        for _ in range(3):
            assert refusal(sqlite_hub.check_ready)[:2] == (507, "storage_full")
        assert pull(sqlite_hub) == 1
    sqlite_hub.check_ready()


def test_a_disk_that_takes_a_number_and_no_row_is_not_ready(sqlite_hub: Hub) -> None:
    push(sqlite_hub)
    with no_more_pages(sqlite_hub):
        with sqlite_hub.database.writing():
            sqlite_hub.database.run("UPDATE hub_meta SET value = 7 WHERE name = 'spaces'")
        assert refusal(sqlite_hub.check_ready)[:2] == (507, "storage_full")


def test_a_disk_with_next_to_no_room_left_is_not_ready(
    sqlite_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LEAST_FREE", 1 << 62)
    status, code, words = refusal(sqlite_hub.check_ready)
    assert (status, code) == (507, "storage_full")
    assert "next to no room" in words


def test_a_server_whose_disk_is_full_is_not_ready(postgres_hub: Hub) -> None:
    postgres_hub.check_ready()
    with failing(postgres_hub, "53100", _AT_ONCE):
        assert refusal(lambda: push(postgres_hub))[:2] == (507, "storage_full")
        for _ in range(2):
            assert refusal(postgres_hub.check_ready)[:2] == (507, "storage_full")
    postgres_hub.check_ready()


def test_who_asks_for_readiness_leaves_nothing(hub: Hub) -> None:
    def rows() -> list[Any]:
        with hub.database.reading():
            return [
                hub.database.run("SELECT name, value FROM hub_meta ORDER BY name").fetchall(),
                hub.database.run("SELECT count(*) FROM receipt").fetchone(),
            ]

    before = rows()
    hub.check_ready()
    assert rows() == before


@contextmanager
def only_this_long(files: int) -> Iterator[None]:
    """Let no file of this process grow past so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (files, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fails_in_the_commit_leaves_the_outcome_unknown_and_is_named_in_the_log(
    sqlite_hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    push(sqlite_hub)
    with caplog.at_level(logging.WARNING), only_this_long(files=500_000):
        status, code, _ = refusal(lambda: push(sqlite_hub, 2, 1_000_000))
    assert (status, code) == (503, "outcome_unknown")
    assert "disk I/O error" in caplog.text
    assert push(sqlite_hub, 2, 1_000_000) == 2


def test_a_database_that_has_no_memory_says_so(sqlite_hub: Hub) -> None:
    def exhaust() -> None:
        raise MemoryError  # which SQLite takes for its own, and reports as that

    with sqlite_hub.database.connection():
        pool: Any = sqlite_hub.database.pool
        pool.connection().create_function("exhaust", 0, exhaust)
        sqlite_hub.database.run(
            "CREATE TEMP TRIGGER fails BEFORE INSERT ON main.receipt BEGIN SELECT exhaust(); END"
        )
    status, code, words = refusal(lambda: push(sqlite_hub))
    assert (status, code) == (503, "database_unavailable")
    assert "out of memory" in words
    assert push(sqlite_hub) == 1


CAUSES = {
    "25006": (503, "database_read_only", "can only be read"),
    "25P03": (503, "database_unavailable", "busy or away"),
    "25P04": (503, "database_unavailable", "busy or away"),
    "26000": (503, "database_unavailable", "busy or away"),
    "53100": (507, "storage_full", "no room left on its disk"),
    "53200": (503, "database_unavailable", "out of memory"),
    "55P03": (503, "busy", "others who write"),
    "58030": (503, "database_unavailable", "cannot read or write its disk"),
    "XX001": (503, "database_unavailable", "damaged"),
    "57P03": (503, "database_unavailable", "busy or away"),
    "22000": (500, "not_applied", "applied nothing of it"),
}
_FAIL = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'as the test wants it' USING ERRCODE = '{state}'; END $$;
"""
_AT_ONCE = "CREATE TRIGGER fails BEFORE INSERT ON receipt FOR EACH ROW EXECUTE FUNCTION fail()"
_AT_COMMIT = """
CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON receipt
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()
"""


@contextmanager
def failing(hub: Hub, state: str, trigger: str) -> Iterator[None]:
    """Let PostgreSQL itself fail at every receipt, with an error of this SQLSTATE."""
    with psycopg.connect(hub.url) as other:
        other.execute(_FAIL.format(state=state))
        other.execute(trigger)
    yield
    with psycopg.connect(hub.url) as other:
        other.execute("DROP FUNCTION fail CASCADE")


@pytest.mark.parametrize("state", CAUSES)
def test_a_failure_of_the_server_is_named(postgres_hub: Hub, state: str) -> None:
    status, code, words = CAUSES[state]
    with failing(postgres_hub, state, _AT_ONCE):
        told = refusal(lambda: push(postgres_hub))
    assert told[:2] == (status, code)
    assert words in told[2]
    assert push(postgres_hub) == 1


@pytest.mark.parametrize("state", [*CAUSES, "23505"])
def test_a_commit_that_fails_leaves_the_outcome_unknown_whatever_the_reason_but_for_a_full_disk(
    postgres_hub: Hub, state: str
) -> None:
    with failing(postgres_hub, state, _AT_COMMIT):
        told = refusal(lambda: push(postgres_hub))[:2]
    assert told == ((507, "storage_full") if state == "53100" else (503, "outcome_unknown"))
    assert push(postgres_hub) == 1


def test_a_database_that_is_away_is_warned_of_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    database = open_database("postgresql://127.0.0.1:1/nowhere", patience=1)

    def ask() -> None:
        with failures_as_refusals(), database.connection():
            pass

    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            assert refusal(ask)[:2] == (503, "database_unavailable")
        assert len(caplog.records) <= 2
        time.sleep(failures.PAUSE)
        refusal(ask)
    assert 1 <= len(caplog.records) <= 3
    assert "failures before this one" in caplog.records[-1].getMessage()


def test_commits_that_fail_one_after_the_other_are_warned_of_once_a_second(
    postgres_hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    with failing(postgres_hub, "23505", _AT_COMMIT), caplog.at_level(logging.WARNING):
        began = time.monotonic()
        for _ in range(30):
            assert refusal(lambda: push(postgres_hub))[:2] == (503, "outcome_unknown")
        took = time.monotonic() - began
    assert 1 <= len(caplog.records) <= 1 + took / failures.PAUSE


def test_a_commit_cannot_wait_longer_for_a_space_than_the_hub_is_patient(postgres_hub: Hub) -> None:
    hurried = Hub(postgres_hub.url, without_tokens=True, patience=0.2)
    push(hurried)
    with postgres_hub.database.writing():
        spaces.lock(postgres_hub.database, "acme", "other", 9)
        assert refusal(lambda: push(hurried, 2))[:2] == (503, "busy")
    assert push(hurried, 2) == 2
    hurried.close()


def test_pushes_that_have_waited_too_long_for_a_space_leave_a_connection_for_the_next_one(
    postgres_hub: Hub,
) -> None:
    with closing(Hub(postgres_hub.url, without_tokens=True, patience=0.05, connections=1)) as hurried:
        for number in range(1, 10):
            assert push(hurried, number) == number
            with postgres_hub.database.writing():
                spaces.lock(postgres_hub.database, "acme", "other", 9)
                assert refusal(partial(push, hurried, number + 1))[:2] == (503, "busy")


@contextmanager
def frozen(database: Database) -> Iterator[None]:
    """Stop the server's process behind the one connection that a database has."""
    with database.connection():
        (process,) = database.run("SELECT pg_backend_pid()").fetchone()
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_server_that_hangs_is_given_up_and_another_connection_taken(postgres_hub: Hub) -> None:
    database = open_database(postgres_hub.url, connections=1, longest=0.5)

    def ask() -> Any:
        with failures_as_refusals(), database.connection():
            return database.run("SELECT 1").fetchone()

    with frozen(database):
        assert refusal(ask)[:2] == (503, "database_unavailable")
        assert ask() == (1,)
    database.close()


def test_readiness_has_a_deadline(postgres_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_READY_WITHIN", 0.3)
    with (
        serving(postgres_hub) as address,
        Service(address, postgres_hub, postgres_hub.url) as service,
        frozen(postgres_hub.database),
    ):
        for _ in range(2):
            begun = time.monotonic()
            answer = service.ask("GET", "/readyz")
            assert (answer.status, json.loads(answer.data)["error"]["code"]) == (503, "database_unavailable")
            assert time.monotonic() - begun < 3
        assert service.ask("GET", "/healthz").status == 200


@pytest.fixture
def other_database(postgres: str) -> Iterator[Callable[[str], str]]:
    """Make a database of its own, in an encoding, and return its address."""
    made: list[str] = []

    def make(encoding: str) -> str:
        name = f"hub_{os.getpid()}_{encoding.lower()}"
        with psycopg.connect(postgres, autocommit=True) as server:
            server.execute(
                f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            )
        made.append(name)
        return psycopg.conninfo.make_conninfo(postgres, dbname=name)

    yield make
    with psycopg.connect(postgres, autocommit=True) as server:
        for name in made:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_is_not_in_utf_8_is_refused_with_what_to_do_and_left_empty(
    other_database: Callable[[str], str], encoding: str
) -> None:
    given = psycopg.conninfo.conninfo_to_dict(other_database(encoding))
    url = f"postgresql://{given['user']}@/{given['dbname']}?host={given['host']}"
    for attempt in (prepare, Hub):
        with pytest.raises(BadDatabase, match=rf"{encoding}.*createdb --encoding=UTF8"):
            attempt(url)
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'hub_meta'").fetchone()
    assert tables == (0,)


def test_a_client_s_encoding_in_the_environment_changes_nothing(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    url = new_database()
    hub = Hub(url, without_tokens=True)
    envelope = {"client": "me", "number": 1, "batch": "1", "hub": None, "epoch": None}
    hub.push("acme", json.dumps(envelope | {"changes": [upsert("Škoda 中", {"name": "€ 😀"})]}).encode())
    with hub.database.reading():
        row = hub.database.run("SELECT key, data FROM record WHERE space = ?", "acme").fetchone()
    hub.close()
    assert (row[0], json.loads(row[1])) == ("Škoda 中", {"name": "€ 😀"})
