from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from statesync.hub import (
    Hub,
    HubNotReady,
    HubTooNew,
    Right,
    create_token,
    list_tokens,
    prepare,
    revoke_token,
)
from statesync.hub.db import schema
from statesync.hub.db.database import Database
from statesync.hub.db.opening import open_database
from statesync.hub.db.pages import fitting
from statesync.hub.db.pages.feeds import Wanted, count_query, feed_query
from statesync.hub.db.server import records
from statesync.hub.errors import BadDatabase, CannotDistribute

from ..devices import Device, delete, upsert

TABLES = ["space", "record", "receipt", "token", "mark", "living"]


@pytest.mark.parametrize(
    "url", ["", "hub.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://x/y"]
)
def test_an_address_that_is_no_hub_database_is_refused_with_what_is_one(url: str) -> None:
    with pytest.raises(BadDatabase, match=r"sqlite:///hub\.db"):
        Hub(url)


def test_a_database_without_the_hubs_tables_is_refused_with_what_to_do(
    empty_database: Callable[[], str],
) -> None:
    with pytest.raises(HubNotReady, match="statesync hub init"):
        Hub(empty_database())


def test_to_prepare_again_changes_nothing(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    assert prepare(url) == len(schema.MIGRATIONS)
    assert prepare(url) == 0


def test_an_older_database_is_refused_until_it_is_migrated(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database()
    later = (*schema.MIGRATIONS, "ALTER TABLE token ADD COLUMN colour TEXT; UPDATE token SET colour = 'red'")
    monkeypatch.setattr(schema, "MIGRATIONS", later)
    with pytest.raises(HubNotReady, match=f"schema {len(later) - 1} and this version needs {len(later)}"):
        Hub(url)
    assert prepare(url) == 1
    Hub(url).close()


def test_a_database_of_a_newer_version_is_refused(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database()
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:-1])
    for attempt in (Hub, prepare):
        with pytest.raises(HubTooNew, match="Upgrade statesync"):
            attempt(url)


def test_a_migration_that_fails_leaves_nothing_behind(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database()
    broken = (*schema.MIGRATIONS, "CREATE TABLE half (space TEXT); INSERT INTO nowhere VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", broken)
        with pytest.raises(Exception, match="nowhere"):
            prepare(url)
    database = open_database(url)
    with database.reading():
        assert "half" not in database.pool.get_tables()  # type: ignore[attr-defined]
    database.close()
    Hub(url).close()


def test_the_records_that_an_older_hub_has_taken_are_counted(
    new_database: Callable[[], str], device: Device
) -> None:
    url = new_database()
    with closing(Hub(url)) as hub:
        changes = [upsert(key, {}, name=name) for key in "abc" for name in ("Airport", "Country")]
        for space in ("one", "two"):
            hub.push(space, json.dumps(device.push_document(*changes)).encode())
        hub.push("two", json.dumps(device.push_document(delete("a"), number=2)).encode())
        with hub.database.writing():
            hub.database.run("DROP TABLE living")
            hub.database.run("UPDATE hub_meta SET value = 4 WHERE name = 'schema'")
    assert prepare(url) == len(schema.MIGRATIONS) - 4
    with closing(Hub(url)) as hub, hub.database.reading():
        rows = hub.database.run("SELECT space, object, records FROM living ORDER BY 1, 2").fetchall()
        assert [tuple(row) for row in rows] == [
            ("one", "Airport", 3), ("one", "Country", 3), ("two", "Airport", 2), ("two", "Country", 3),
        ]  # fmt: skip


def test_every_key_and_index_begins_with_the_space(hub: Hub) -> None:
    pool: Any = hub.database.pool
    with hub.database.reading():
        assert sorted(set(pool.get_tables()) - {"hub_meta"}) == sorted(TABLES)
        for table in TABLES:
            assert pool.get_primary_keys(table)[0] == "space", table
            for index in pool.get_indexes(table):
                assert index.columns[0] == "space", index


def statements_of(database: Database, seen: list[str]) -> None:
    """Note every statement that runs from now on; the pool has one connection."""
    pool: Any = database.pool
    if pool.param == "?":
        with database.reading():
            pool.connection().set_trace_callback(seen.append)
        return
    run = pool.execute_sql

    def execute_sql(sql: str, parameters: Any = None) -> Any:
        seen.append(sql)
        return run(sql, parameters)

    pool.execute_sql = execute_sql


def names_the_space(statement: str) -> bool:
    """Tell whether every table of a space that the statement touches is asked for that space alone.

    Rows that are written by what a query returns have the space from a row of the space's own: only then does
    a distributed database see that all of it is on one machine.
    """
    named = "|".join(TABLES)
    insert = re.match(
        rf"\s*INSERT INTO ({named}) \(space,[^)]*\)\s*(VALUES|SELECT space\.space,)?", statement
    )
    if insert and insert[2] == "VALUES":
        return True
    if insert:
        return insert[2] is not None and names_the_space(statement[insert.end() :])
    touched = re.findall(rf"(?:FROM|JOIN|UPDATE|INTO) ({named})\b", statement)
    return len(touched) <= len(re.findall(r"\b(?:\w+\.)?space = ", statement))


def test_every_statement_names_the_space(new_database: Callable[[], str], device: Device) -> None:
    url = new_database()
    hub = Hub(url, connections=1)
    seen: list[str] = []
    statements_of(hub.database, seen)

    def push(*changes: Any, **more: Any) -> None:
        hub.push("one", json.dumps(device.push_document(*changes, **more)).encode())

    def pull(cursor: int, **more: Any) -> None:
        objects = {name: {"cursor": cursor, "begun": 4} for name in ("Airport", "Country")}
        document = device.pull_document(objects, 1, client="reader", **more)
        hub.pull("one", json.dumps(document).encode())

    def scan(**said: Any) -> None:
        objects = {name: {"cursor": 0, "scan": said} for name in ("Airport", "Country", "Nothing")}
        hub.pull("one", json.dumps(device.pull_document(objects, 9, client="reader")).encode())

    push(upsert("a", {}), upsert("b", {}, name="Country"), upsert("c", {}), delete("d"))
    push(delete("a"), number=2)
    pull(0)
    scan()
    scan(since=3, until="b")
    hub.purge("one", 4)
    pull(0)
    pull(2)
    for number in (0, 5):
        with pytest.raises(Exception, match=r"epoch_changed|client_forked"):
            push(number=number)
    with pytest.raises(Exception, match="epoch_changed"):
        pull(1 << 40)
    token = create_token(hub.database, "one", {"*": frozenset(Right)})
    hub.admit("one", token, Right.READ)
    list_tokens(hub.database, "one")
    revoke_token(hub.database, "one", token.split("~")[1])
    hub.close()
    touching = [statement for statement in seen if re.search(rf"\b({'|'.join(TABLES)})\b", statement)]
    assert len(touching) > 20
    assert [statement for statement in touching if not names_the_space(statement)] == []


def test_a_pull_of_a_known_space_only_reads(new_database: Callable[[], str], device: Device) -> None:
    """Also one that begins to read below what was purged, of objects that nobody knows, in any name."""
    hub = Hub(new_database(), connections=1)
    for changes in ([upsert("a", {}), upsert("b", {}), upsert("c", {})], [delete("a")]):
        hub.push("one", json.dumps(device.push_document(*changes)).encode())
        device.number += 1
    assert hub.purge("one", 4) == 1
    seen: list[str] = []
    statements_of(hub.database, seen)
    objects = {name: {"cursor": 0} for name in ("Airport", "Country")}
    for client in ("ann", "bob"):
        hub.pull("one", json.dumps(device.pull_document(objects, 1, client=client, number=0)).encode())
    scans: dict[str, Any] = {name: {"cursor": 0, "scan": {}} for name in objects}
    hub.pull("one", json.dumps(device.pull_document(scans, 9, client="cas", number=0)).encode())
    hub.close()
    assert any("record" in statement for statement in seen)
    writes = re.compile(r"\b(INSERT|UPDATE|DELETE|IMMEDIATE)\b")
    assert [statement for statement in seen if writes.search(statement)] == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM record",
        "SELECT count(*) FROM space",
        "SELECT 1 FROM space JOIN receipt ON space.space = ?",
        "INSERT INTO mark (space, day) SELECT ?, max(day) FROM mark WHERE space = ?",
        "INSERT INTO record (space, key) SELECT ?, new.key FROM unnest(?) AS new (key)",
        "INSERT INTO record (space, key) SELECT space.space, key FROM space JOIN record ON true",
    ],
)
def test_a_statement_without_the_space_would_be_found(statement: str) -> None:
    assert not names_the_space(statement)


def test_a_file_cannot_be_distributed_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CannotDistribute, match="Citus extension"):
        prepare(f"sqlite:///{tmp_path}/hub.db", distributed=True)
    assert list(tmp_path.iterdir()) == []


def plan_of(hub: Hub, sql: str, parameters: object) -> str:
    explain = "EXPLAIN QUERY PLAN" if hub.database.pool.param == "?" else "EXPLAIN"
    with hub.database.reading():
        rows = hub.database.pool.execute_sql(f"{explain} {sql}", parameters).fetchall()  # type: ignore[arg-type]
    return "\n".join(str(row[-1]) for row in rows)


@pytest.fixture
def filled(hub: Hub, device: Device) -> Hub:
    """A hub with records in it, and no statistics of them."""
    fill(hub, device)
    return hub


def fill(hub: Hub, device: Device) -> None:
    document = device.push_document(
        *(upsert(f"{n}", {}, name=["Airport", "Country"][n % 2]) for n in range(3000))
    )
    hub.push("one", json.dumps(document).encode())


def test_a_page_is_read_in_the_order_of_its_index(filled: Hub) -> None:
    wanted = [Wanted("Airport", 0, "client", but_deletes=True), Wanted("Country", 5)]
    for queries in (
        [feed_query("one", each, 3000) for each in wanted],
        [count_query("one", each, 3000) for each in wanted],
    ):
        sql, parameters = filled.database.dialect.merged(queries, 11)
        plan = plan_of(filled, sql.replace("?", filled.database.pool.param), parameters)
        assert plan.count("record_feed") == 2
        assert not re.search(r"Sort  |TEMP B-TREE|SCAN record\b|Seq Scan", plan), plan


def test_postgres_asks_for_what_fits_into_a_page_in_the_order_of_the_index(
    postgres_hub: Hub, device: Device
) -> None:
    fill(postgres_hub, device)
    wanted = [Wanted("Airport", 0, "client", but_deletes=True), Wanted("Country", 5)]
    feeds = [feed_query("one", each, 3000) for each in wanted]
    sql, parameters = postgres_hub.database.dialect.merged(feeds, 11)
    for query, given in (
        (fitting.SMALL, [100, *parameters]),
        (fitting.LENGTHS, parameters),
        (fitting.PIECE, [*parameters, 0, 5]),
    ):
        plan = plan_of(postgres_hub, query.format(rows=sql.replace("?", "%s"), **fitting.FEEDS), given)
        assert plan.count("record_feed") == 2
        assert not re.search(r"Sort  |Seq Scan", plan), plan


def test_postgres_finds_records_by_their_key(postgres_hub: Hub, device: Device) -> None:
    document = device.push_document(*(upsert(f"{n}", {}) for n in range(3000)))
    postgres_hub.push("one", json.dumps(document).encode())
    plan = plan_of(postgres_hub, records.FIND, (100, ["Airport"], ["1-1"], "one"))
    assert "record_pkey" in plan
    assert "record_feed" not in plan
