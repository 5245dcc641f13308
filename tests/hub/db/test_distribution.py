"""``hub init --distribute``: what it asks of a distributed PostgreSQL, and what it says.

On a real Citus (``STATESYNC_TEST_CITUS``) all tests of the hub run distributed, these among them. On the
PostgreSQL from pip, which has no Citus, functions of the same names stand in for it: they keep what they are
asked for. All else here, such as the settings of the role, is the server's own.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from rig.postgres import CITUS, empty_schema

from statesync.hub import Hub, prepare
from statesync.hub.errors import CannotDistribute

TABLES = ["living", "mark", "receipt", "record", "space", "token"]

_numbers = itertools.count(1)

STAND_IN = """
SET allow_system_table_mods = on;
UPDATE pg_extension SET extname = 'citus' WHERE extname = 'plpgsql';
CREATE TABLE pg_dist_partition (logicalrelid regclass PRIMARY KEY, partmethod "char");
CREATE FUNCTION create_distributed_table(name regclass, space text, colocate_with text) RETURNS void
    LANGUAGE sql AS $$ INSERT INTO pg_dist_partition VALUES (name, 'h') $$;
CREATE FUNCTION create_reference_table(name regclass) RETURNS void
    LANGUAGE sql AS $$ INSERT INTO pg_dist_partition VALUES (name, 'n') $$;
CREATE FUNCTION undistribute_table(name regclass) RETURNS void
    LANGUAGE sql AS $$ DELETE FROM pg_dist_partition WHERE logicalrelid = name $$;
CREATE FUNCTION truncate_local_data_after_distributing_table(name regclass) RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'TRUNCATE ' || name; END $$;
CREATE TABLE machine (name text, is_told boolean);
INSERT INTO machine VALUES ('near', true);
CREATE FUNCTION run_command_on_workers(command text)
    RETURNS TABLE (nodename text, nodeport int, success boolean, result text)
    LANGUAGE plpgsql AS $$ DECLARE answer text; BEGIN
        EXECUTE command INTO answer;
        RETURN QUERY SELECT name, 5432, is_told, CASE WHEN answer = 'true' THEN 't' ELSE 'f' END FROM machine;
    END $$;
"""


@pytest.fixture
def citus(postgres: str) -> Iterator[str]:
    """The address of an empty database that can be distributed."""
    if CITUS:
        yield empty_schema(postgres)
        return
    with another_database(postgres) as url:
        run(url, STAND_IN)
        yield url


@contextmanager
def another_database(server: str, name: str = "another") -> Iterator[str]:
    name = f"{name}_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        quoted = name.replace('"', '""')
        connection.execute(f'CREATE DATABASE "{quoted}"')
        yield urlsplit(server)._replace(path=f"/{quote(name)}").geturl()
        connection.execute(f'DROP DATABASE "{quoted}" WITH (FORCE)')
    connection.close()


def run(url: str, sql: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(sql)
    connection.close()


def rows(url: str, sql: str) -> list[object]:
    with psycopg.connect(url) as connection:
        found = [row[0] for row in connection.execute(sql)]
    connection.close()
    return found


DISTRIBUTED = """
SELECT relname FROM pg_dist_partition JOIN pg_class ON pg_class.oid = logicalrelid
WHERE relnamespace = current_schema()::regnamespace ORDER BY relname
"""
SETTINGS = """
SELECT unnest(setconfig) AS setting FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
WHERE datname = current_database() AND setrole = session_user::regrole ORDER BY setting
"""


def test_the_tables_of_a_space_are_distributed_and_the_hubs_own_stays_on_the_coordinator(citus: str) -> None:
    said: list[str] = []
    prepare(citus, distributed=True, say=said.append)
    assert rows(citus, DISTRIBUTED) == TABLES
    assert said[0] == "distributed by their space now: space, record, receipt, token, mark, living"
    assert said[1] == "on the coordinator alone before: hub_meta"


def test_the_second_time_it_says_what_is_distributed_and_changes_nothing(citus: str) -> None:
    prepare(citus, distributed=True)
    said: list[str] = []
    assert prepare(citus, distributed=True, say=said.append) == 0
    assert said[0] == "distributed by their space before: space, record, receipt, token, mark, living"
    assert rows(citus, DISTRIBUTED) == TABLES


def test_the_planner_of_every_connection_of_the_role_walks_along_indexes(citus: str) -> None:
    """The hub's own connections say so as they begin, and that does not reach other machines."""
    said: list[str] = []
    prepare(citus, distributed=True, say=said.append)
    ways = ["bitmapscan", "hashjoin", "mergejoin", "seqscan", "sort"]
    assert rows(citus, SETTINGS) == [f"enable_{way}=off" for way in ways]
    assert rows(citus, "SHOW enable_seqscan") == ["off"]
    assert any("restart every hub" in line for line in said)
    assert not any("but not on" in line for line in said), "every machine was told"


if not CITUS:  # which machines are told cannot be chosen there

    def test_a_machine_that_does_not_know_the_planners_settings_is_named_with_what_to_run(citus: str) -> None:
        run(citus, "INSERT INTO machine VALUES ('far', false)")
        said: list[str] = []
        prepare(citus, distributed=True, say=said.append)
        [line] = [line for line in said if "but not on" in line]
        assert "far:5432" in line
        assert line.count("ALTER ROLE") == 5

    def test_a_database_of_any_name_is_distributed(postgres: str) -> None:
        with another_database(postgres, 'is it "ours"? 100%s') as url:
            run(url, STAND_IN)
            prepare(url, distributed=True)
            assert "enable_sort=off" in rows(url, SETTINGS)


def test_a_copy_on_every_machine_that_an_older_version_made_of_the_hubs_own_table_is_taken_back(
    citus: str,
) -> None:
    prepare(citus)
    run(citus, "SELECT create_reference_table('hub_meta')")
    said: list[str] = []
    prepare(citus, distributed=True, say=said.append)
    assert "on the coordinator alone now: hub_meta" in said
    assert rows(citus, DISTRIBUTED) == TABLES
    assert rows(citus, "SELECT value FROM hub_meta WHERE name = 'spaces'") == [0]


def test_rows_that_stay_where_the_tables_were_are_removed_and_said(citus: str) -> None:
    prepare(citus)
    run(citus, "INSERT INTO mark VALUES ('acme', 1, 1)")
    said: list[str] = []
    prepare(citus, distributed=True, say=said.append)
    assert "removed what was left of mark on the coordinator: 8192 bytes" in said
    assert rows(citus, "SELECT pg_relation_size('mark')") == [0]
    assert rows(citus, "SELECT count(*) FROM mark") == [1 if CITUS else 0]


def test_without_citus_it_says_so_and_the_hub_works_as_before(postgres: str) -> None:
    with another_database(postgres) as url:
        with pytest.raises(CannotDistribute, match="Citus extension"):
            prepare(url, distributed=True)
        Hub(url).close()
