from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from statesync.cli.hub import hub
from statesync.hub import Hub, HubLimits, LocalRemote, Right, prepare
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
    refused = run("serve", "--database", url)
    assert refused.exit_code == 1
    assert "statesync hub init" in refused.output


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
