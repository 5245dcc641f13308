"""A database without the hub's tables, as a restore makes it for a while: everybody is told to come again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote

import psycopg
import pytest
from cli.shell import call
from rig.device import device_at

from statesync import SyncFailed, SyncOptions
from statesync.hub import Hub, Right, create_token, serving

from .test_servers import pull, push, refusal

TABLES = ("hub_meta", "space", "record", "receipt", "mark", "token", "living")


@contextmanager
def without(hub: Hub, *tables: str) -> Iterator[None]:
    """Let these tables be away for so long."""
    rename(hub, {table: f"away_{table}" for table in tables})
    yield
    rename(hub, {f"away_{table}": table for table in tables})


def rename(hub: Hub, names: dict[str, str]) -> None:
    with hub.database.writing():
        for old, new in names.items():
            hub.database.run(f"ALTER TABLE {old} RENAME TO {new}")


def test_a_database_without_the_hub_s_tables_is_told_in_words_and_nothing_is_logged_as_a_defect(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    push(hub)
    with caplog.at_level(logging.WARNING), without(hub, *TABLES):
        for attempt in (lambda: push(hub, 2), lambda: pull(hub), hub.check_ready) * 5:
            status, code, words = refusal(attempt)
            assert (status, code) == (503, "database_unavailable")
            assert "statesync hub init" in words
            assert "restore" in words
    assert len(caplog.records) <= 2
    assert all(record.exc_info is None for record in caplog.records)
    hub.check_ready()
    assert push(hub, 2) == 2


@pytest.mark.parametrize("table", TABLES)
def test_a_hub_is_not_ready_while_one_of_its_tables_is_away(hub: Hub, table: str) -> None:
    with without(hub, table):
        assert refusal(hub.check_ready)[0] == 503
    hub.check_ready()


def test_readiness_tells_at_once_that_a_push_has_found_no_table(hub: Hub) -> None:
    push(hub)
    hub.check_ready()
    with without(hub, "record"):
        hub.check_ready()  # a second has not passed, and nobody was refused
        refusal(lambda: push(hub, 2))
        assert refusal(hub.check_ready)[0] == 503


def test_a_token_is_not_called_bad_while_its_table_is_away(new_database: Callable[[], str]) -> None:
    with closing(Hub(new_database())) as hub:
        token = create_token(hub.database, "acme", {"*": frozenset(Right)})
        with without(hub, "token"):
            assert refusal(lambda: hub.admit("acme", token, Right.READ))[0] == 503
        assert hub.admit("acme", token, Right.READ)


def test_a_table_of_another_version_is_no_defect_of_a_batch(hub: Hub) -> None:
    push(hub)
    with hub.database.writing():
        hub.database.run("ALTER TABLE space RENAME COLUMN begun TO away")
    assert refusal(lambda: push(hub, 2))[:2] == (503, "database_unavailable")


def test_a_device_parks_nothing_for_a_database_that_is_being_restored(
    new_database: Callable[[], str], tmp_path: Path, no_backoff: None
) -> None:
    with (
        closing(Hub(new_database(), without_tokens=True)) as hub,
        serving(hub) as address,
        device_at(tmp_path / "device.db", address, "acme") as device,
    ):
        for name in ("a", "b", "c"):
            device.airport.create(name=name)
        with without(hub, *TABLES), pytest.raises(SyncFailed):
            device.scope.sync(SyncOptions(max_attempts=2))
        device.scope.sync()
        assert not list(device.store.pending())
        assert pull(hub) == 3


def schema_of(hub: Hub) -> str:
    return unquote(hub.url).rpartition("=")[2]


def test_a_search_path_that_leads_elsewhere_is_told_in_the_same_words(postgres_hub: Hub) -> None:
    push(postgres_hub)
    name = schema_of(postgres_hub)
    with psycopg.connect(postgres_hub.url, autocommit=True) as other:
        other.execute(f"ALTER SCHEMA {name} RENAME TO {name}_away")
        for attempt in (lambda: push(postgres_hub, 2), lambda: pull(postgres_hub), postgres_hub.check_ready):
            assert "statesync hub init" in refusal(attempt)[2]
        ran = call("hub", "init", "--database", postgres_hub.url)
        assert (ran.code, "search_path" in ran.err) == (1, True)
        other.execute(f"ALTER SCHEMA {name}_away RENAME TO {name}")
    postgres_hub.check_ready()
    assert push(postgres_hub, 2) == 2


def test_tables_whose_rights_are_not_given_yet_are_told_in_words(postgres_hub: Hub, postgres: str) -> None:
    name = schema_of(postgres_hub)
    role = f"role_{name}"
    push(postgres_hub)
    with psycopg.connect(postgres, autocommit=True) as other:
        other.execute(f"CREATE ROLE {role}")
        other.execute(f"GRANT USAGE ON SCHEMA {name} TO {role}")
        with postgres_hub.database.connection():
            postgres_hub.database.run(f"SET ROLE {role}")
        status, code, words = refusal(lambda: push(postgres_hub, 2))
        assert (status, code) == (503, "database_unavailable")
        assert "rights" in words
        other.execute(f"DROP OWNED BY {role}")
        other.execute(f"DROP ROLE {role}")
    assert push(postgres_hub, 2) == 2
