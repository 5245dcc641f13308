from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from rig.postgres import empty_schema, schema_at

from statesync.cli.hub import hub
from statesync.hub import Hub, HubLimits, LocalRemote, Right, prepare
from statesync.hub.db.opening import open_ready
from statesync.wire import Feed, Pull


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/hub.db"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(hub, arguments)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com"])
def test_the_hub_is_never_open_to_a_network(url: str, host: str) -> None:
    refused = run("serve", "--database", url, "--open", "--host", host)
    assert refused.exit_code == 2
    assert "loopback" in refused.output
    assert "statesync hub token create" in " ".join(refused.output.split())


def test_a_hub_that_cannot_start_says_what_to_do(url: str) -> None:
    Path(url.removeprefix("sqlite:///")).touch()
    refused = run("serve", "--database", url)
    assert refused.exit_code == 1
    assert "statesync hub init" in refused.output


@pytest.mark.parametrize(
    "command",
    [
        ["token", "create", "--space", "acme"],
        ["token", "list", "--space", "acme"],
        ["token", "revoke", "--space", "acme", "id"],
        ["purge", "--space", "acme", "--through", "1"],
        ["epoch", "--space", "acme"],
    ],
    ids=lambda command: command[1] if command[0] == "token" else command[0],
)
def test_a_command_on_a_database_without_a_hub_says_how_to_make_one(url: str, command: list[str]) -> None:
    refused = run(*command, "--database", url)
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit)
    assert "statesync hub init" in refused.output


@pytest.mark.parametrize("command", [["init"], ["serve"], ["token", "list", "--space", "acme"]])
def test_a_file_that_is_no_database_is_named_as_that(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    refused = run(*command, "--database", f"sqlite:///{tmp_path}/notes.txt")
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit)
    assert "file is not a database" in refused.output
    assert "check its address" in refused.output


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("sqlite:////no/such/folder/hub.db", "check its address"),
        ("postgresql://127.0.0.1:1/hub", "check its address"),
        ("postgresql://127.0.0.1/hub?colour=red", "colour"),
    ],
)
def test_init_on_a_database_that_is_not_there_says_what_to_check(address: str, why: str) -> None:
    refused = run("init", "--database", address)
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit)
    assert why in refused.output


def test_a_token_for_a_hub_that_is_busy_can_be_made_later(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run("init", "--database", url)
    monkeypatch.setattr("statesync.cli.hub.database.open_ready", partial(open_ready, patience=0.05))
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    refused = run("token", "create", "--database", url, "--space", "acme")
    holder.execute("ROLLBACK")
    holder.close()
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit)
    assert "try again" in refused.output
    assert run("token", "create", "--database", url, "--space", "acme").exit_code == 0


def test_every_limit_is_an_option_that_is_checked(url: str) -> None:
    prepare(url)
    shown = run("serve", "--help").output
    for name in HubLimits.__annotations__:
        assert f"--limit-{name.replace('_', '-')}" in shown
    refused = run("serve", "--database", url, "--limit-body", "0")
    assert refused.exit_code == 1
    assert "body is 0" in refused.output
    assert "1 to 255" in run("serve", "--database", url, "--limit-key", "256").output


def test_init_says_what_it_did(url: str) -> None:
    assert "ready" in run("init", "--database", url).output
    assert "up to date" in run("init", "--database", url).output


def test_init_cannot_distribute_without_citus_and_says_so(url: str) -> None:
    refused = run("init", "--database", url, "--distribute")
    assert refused.exit_code == 1
    assert "Citus" in refused.output


def test_the_life_of_a_token(url: str) -> None:
    run("init", "--database", url)
    of_acme = ("--database", url, "--space", "acme")
    made = run("token", "create", *of_acme, "--rights", "read", "--expires", "90d", "--label", "till 7")
    token = made.output.strip()
    identifier, secret = token.split("~")[1:]
    listed = run("token", "list", *of_acme).output
    for shown in (
        identifier,
        "valid",
        "*: read",
        "till 7",
        time.strftime("%Y", time.gmtime(time.time() + 90 * 86400)),
    ):
        assert shown in listed
    assert secret not in listed
    opened = Hub(url)
    pull = Pull("me", 0, None, None, {"Airport": Feed(0)}, 0)
    assert LocalRemote(opened, "acme", token).pull(pull).head == 0
    assert run("token", "revoke", *of_acme, "--", identifier).exit_code == 0
    with pytest.raises(Exception, match="unauthorized"):
        LocalRemote(opened, "acme", token).pull(pull)
    opened.close()
    assert "revoked" in run("token", "list", *of_acme).output
    assert run("token", "revoke", *of_acme, "--", identifier).exit_code == 1


def test_a_token_for_one_object_opens_that_alone(url: str) -> None:
    run("init", "--database", url)
    made = run("token", "create", "--database", url, "--space", "acme", "--object", "Airport")
    opened = Hub(url)
    rights = opened.admit("acme", made.output.strip(), Right.WRITE)
    rights.require(Right.WRITE, ["Airport"])
    with pytest.raises(Exception, match="Country"):
        rights.require(Right.READ, ["Country"])
    opened.close()


@pytest.mark.parametrize("wrong", [["--rights", "admin"], ["--expires", "soon"], ["--space", "no such"]])
def test_a_token_that_cannot_be_is_refused_in_plain_words(url: str, wrong: list[str]) -> None:
    run("init", "--database", url)
    refused = run("token", "create", "--database", url, "--space", "acme", *wrong)
    assert refused.exit_code in (1, 2)
    assert isinstance(refused.exception, SystemExit)
    assert "Error: " in refused.output


def test_purge_forgets_old_deletes(url: str) -> None:
    run("init", "--database", url)
    purged = run("purge", "--database", url, "--space", "acme", "--through", "10")
    assert purged.output == "0 deletes are forgotten\n"


def test_epoch_begins_one_in_each_space_that_is_named_or_in_all(url: str) -> None:
    run("init", "--database", url)
    opened = Hub(url, without_tokens=True)
    pull = Pull("me", 0, None, None, {"Airport": Feed(0)}, 0)
    before = {space: LocalRemote(opened, space).pull(pull).epoch for space in ("acme", "north")}
    assert run("epoch", "--database", url, "--space", "acme").output == "acme has begun a new epoch\n"
    between = {space: LocalRemote(opened, space).pull(pull).epoch for space in ("acme", "north")}
    assert between["acme"] != before["acme"]
    assert between["north"] == before["north"]
    assert run("epoch", "--database", url, "--all").output.count("has begun") == 2
    after = {space: LocalRemote(opened, space).pull(pull).epoch for space in ("acme", "north")}
    opened.close()
    assert not after.items() & between.items()


def test_epoch_says_what_is_wrong(url: str) -> None:
    run("init", "--database", url)
    refused = run("epoch", "--database", url, "--space", "nowhere")
    assert refused.exit_code == 1
    assert "nothing was ever synced" in refused.output
    for both in ([], ["--space", "acme", "--all"]):
        assert "--space NAME, or --all" in run("epoch", "--database", url, *both).output


# -- a server that does not do what it is asked to ---------------------------------------------------------


@pytest.fixture
def server(postgres: str) -> Iterator[Callable[[str], str]]:
    """Make a hub on PostgreSQL and a user ``poor`` of it; return the address that he has."""
    name, url = f"poor_{os.getpid()}", empty_schema(postgres)
    schema = schema_at(url)
    prepare(url)
    with psycopg.connect(postgres, autocommit=True) as owner:

        def make(limits: str) -> str:
            owner.execute(f"CREATE ROLE {name} LOGIN {limits}")
            owner.execute(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
            return f"{url}&user={name}"

        yield make
        owner.execute(f"DROP OWNED BY {name}")
        owner.execute(f"DROP ROLE {name}")


def as_who_needs_no_hub(output: str, *words: str) -> None:
    said = " ".join(output.split())
    assert "hub init" not in said
    for word in words:
        assert word in said, said


@pytest.mark.parametrize("command", [["token", "list", "--space", "a"], ["serve", "--port", "0"]])
@pytest.mark.parametrize(
    ("limits", "cause", "advice"),
    [("", "permission denied", "the rights"), ("CONNECTION LIMIT 0", "too many", "take more connections")],
)
def test_a_server_that_refuses_its_user_is_not_taken_for_one_without_a_hub(
    server: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    limits: str,
    cause: str,
    advice: str,
) -> None:
    monkeypatch.setenv("STATESYNC_HUB_DATABASE", server(limits))
    refused = run(*command)
    assert refused.exit_code == 1
    as_who_needs_no_hub(refused.output, cause, advice)


def test_a_table_that_others_hold_is_not_taken_for_one_that_is_missing(
    postgres_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATESYNC_HUB_DATABASE", postgres_hub.url)
    monkeypatch.setattr("statesync.cli.hub.database.open_ready", partial(open_ready, patience=0.05))
    with psycopg.connect(postgres_hub.url) as other:
        other.execute("LOCK TABLE hub_meta")
        refused = run("token", "list", "--space", "a")
    assert refused.exit_code == 1
    as_who_needs_no_hub(refused.output, "lock timeout", "others hold its tables")
