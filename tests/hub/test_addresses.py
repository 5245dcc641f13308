"""The password in a database's address is in no message, no log, no repr and no list of processes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from statesync.cli.hub import hub
from statesync.hub import BadDatabase, Hub, HubError, Setup, prepare
from statesync.hub.addresses import has_password, without_password

SECRET = "geheim"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://hub:geheim@db:5432/hub", "postgresql://hub:***@db:5432/hub"),
        ("postgresql://hub:geheim@db/hub?sslmode=require", "postgresql://hub:***@db/hub?sslmode=require"),
        ("postgresql://:geheim@/hub?host=/run", "postgresql://:***@/hub?host=/run"),
        ("postgresql://db/hub?user=hub&password=geheim", "postgresql://db/hub?user=hub&password=***"),
        ("postgresql://db/hub?sslpassword=geheim&user=hub", "postgresql://db/hub?sslpassword=***&user=hub"),
        ("postgresql://db/hub?pass%77ord=geheim", "postgresql://db/hub?pass%77ord=***"),
        ("postgresql://db/hub?application_name=a@b&password=geheim",
         "postgresql://db/hub?application_name=a@b&password=***"),
        ("postgresql://hub:gehei@m/?#:geheim@db/hub", "postgresql://hub:***@db/hub"),
        ("postgresql://hub:geheim/hub", "postgresql://hub:***/hub"),
        ("mysql://hub:geheim@db/hub", "mysql://hub:***@db/hub"),
        ("hub:geheim@db/hub", "hub:***@db/hub"),
        ("postgresql://db/hub?oauth_client_secret=geheim", "postgresql://db/hub?oauth_client_secret=***"),
        ("postgresql://db/hub?scram_client_key=geheim&user=hub",
         "postgresql://db/hub?scram_client_key=***&user=hub"),
        ("host=db scram_server_key=geheim", "host=db scram_server_key=***"),
        ("host=db password=geheim user=hub", "host=db password=*** user=hub"),
        ("host=db password = 'geheim geheim' user=hub", "host=db password=*** user=hub"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_what_may_be_its_password(address: str, shown: str) -> None:
    assert without_password(address) == shown
    assert has_password(address)


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:///hub.db", "sqlite:////srv/a@b:c/hub.db", "postgresql://hub@db/hub", "postgresql:///hub",
        "postgresql://postgres:@/postgres?host=/sockets", "postgresql://hub@[::1]:5432/hub", "hub.db",
        "postgresql://hub@a:1,b:2/hub?options=-c%20search_path%3Da:b&passfile=/etc/pass",
    ],
)  # fmt: skip
def test_an_address_without_a_password_is_shown_as_it_is(address: str) -> None:
    assert without_password(address) == address
    assert not has_password(address)


BROKEN = [
    "mysql://hub:geheim@db/hub",
    "postgresql://hub:geheim/hub",
    "postgresql://hub:1/geheim@127.0.0.1/hub",
    "postgresql://hub:a@geheim@127.0.0.1:1/hub",
    "postgresql://127.0.0.1:1/hub?password=geheim&colour=red",
    "postgresql://hub:geheim%zz@127.0.0.1:1/hub",
    "postgresql://hub:geheim@127.0.0.1:1/hub",
    "postgresql://hub:x@geheim:y@127.0.0.1:1/hub",
    "postgresql://127.0.0.1:1/hub?oauth_client_secret=geheim&sslmode=nonsense",
]


@pytest.mark.parametrize("address", BROKEN)
def test_no_error_says_the_password_of_an_address(
    address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.DEBUG):
        for opens in (Hub, prepare):
            with pytest.raises(HubError) as caught:
                opens(address)
            assert SECRET not in str(caught.value)
            assert SECRET not in repr(caught.value)
        monkeypatch.setenv("STATESYNC_HUB_DATABASE", address)
        for command in (["init"], ["serve"], ["token", "list", "--space", "acme"]):
            refused = CliRunner().invoke(hub, command)
            assert refused.exit_code == 1
            assert SECRET not in refused.output
    assert SECRET not in caplog.text


def test_an_address_that_libpq_reads_as_another_one_says_how_a_password_is_written() -> None:
    with pytest.raises(BadDatabase, match="%2F"):
        Hub("postgresql://hub:1/geheim@127.0.0.1/hub")


def test_a_setup_is_shown_without_the_password() -> None:
    shown = repr(Setup(url="postgresql://hub:geheim@db/hub"))
    assert "postgresql://hub:***@db/hub" in shown
    assert SECRET not in shown


# -- the command line --------------------------------------------------------------------------------------


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(hub, arguments, env=environment)


@pytest.mark.parametrize(
    "command", [["init"], ["serve"], ["token", "list", "--space", "a"], ["purge", "--space", "a"]]
)
def test_a_password_on_the_command_line_is_refused_with_where_else_it_goes(command: list[str]) -> None:
    refused = run(*command, "--database", "postgresql://hub:geheim@127.0.0.1:1/hub")
    assert refused.exit_code == 2
    for word in ("STATESYNC_HUB_DATABASE", "--database-file", "PGPASSFILE", "hub:***@127.0.0.1"):
        assert word in refused.output
    assert SECRET not in refused.output


def test_the_address_comes_from_a_file_or_from_the_environment(tmp_path: Path) -> None:
    address, other = f"sqlite:///{tmp_path}/hub.db", f"sqlite:///{tmp_path}/other.db"
    (tmp_path / "address").write_text(f"{address}\n")
    from_file = ("--database-file", str(tmp_path / "address"))
    assert run("init", *from_file, STATESYNC_HUB_DATABASE=other).exit_code == 0
    assert (tmp_path / "hub.db").exists()
    assert run("init", STATESYNC_HUB_DATABASE=other).exit_code == 0
    assert (tmp_path / "other.db").exists()
    assert "up to date" in run("init", "--database", other, STATESYNC_HUB_DATABASE=address).output
    both = run("init", *from_file, "--database", other)
    assert both.exit_code == 2
    assert "exclude" in both.output


def test_a_file_that_holds_no_address_is_named_as_that(tmp_path: Path) -> None:
    (tmp_path / "address").write_bytes(b"\xff\xfe")
    refused = run("init", "--database-file", str(tmp_path / "address"))
    assert refused.exit_code == 1
    assert "no database of a hub" in refused.output
