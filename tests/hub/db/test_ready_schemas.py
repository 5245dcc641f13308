"""The databases that tests of a hub on PostgreSQL share, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from rig.postgres import ReadySchemas

from statesync.hub import Hub, create_token
from statesync.hub.access.rights import Right

from ..test_failures import push


@pytest.fixture
def schemas(postgres: str) -> Iterator[ReadySchemas]:
    with closing(ReadySchemas(postgres)) as schemas:
        yield schemas


def test_what_was_in_a_database_is_gone_when_it_is_lent_again(schemas: ReadySchemas) -> None:
    heads = []
    for _ in range(2):
        with schemas.lent() as lend, closing(Hub(lend(), without_tokens=True)) as hub:
            create_token(hub.database, "acme", {"*": frozenset(Right)})
            heads.append([push(hub), *rows(hub)])
    assert heads == [[1, 1, 1, 1, 1]] * 2


def rows(hub: Hub) -> list[int]:
    with hub.database.reading():
        tables = ("record", "receipt", "token", "space")
        return [hub.database.run(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE space RENAME COLUMN begun TO away",
        "ALTER TABLE space ALTER COLUMN begun DROP DEFAULT",
        "ALTER TABLE record RENAME TO away",
        "DROP INDEX record_deleted",
        "CREATE INDEX more ON record (version)",
        "CREATE TABLE more (id INT)",
        "GRANT SELECT ON record TO PUBLIC",
        "CREATE FUNCTION nothing() RETURNS INT LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_a_database_with_another_structure_is_not_lent_again(schemas: ReadySchemas, change: str) -> None:
    with schemas.lent() as lend, psycopg.connect(lend()) as connection:
        first = connection.info.options
        connection.execute(change)
    connection.close()
    with schemas.lent() as lend, psycopg.connect(lend()) as connection:
        assert connection.info.options != first


def test_a_database_that_somebody_uses_is_not_lent_again(schemas: ReadySchemas) -> None:
    with schemas.lent() as lend:
        first = lend()
    with psycopg.connect(first), schemas.lent() as lend:
        assert lend() != first
