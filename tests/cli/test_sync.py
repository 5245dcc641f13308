"""``statesync sync`` on a device database, without the program's models."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rich.console import Console
from rig.certificates import make_certificate
from rig.device import Device
from rig.forwarding import forwarding
from rig.gate import Gate, refuse

from statesync import Part, Progress, State, Unreachable
from statesync.cli.syncing.progress import described, records_bar
from statesync.hub import Hub, Right, create_token, prepare, serving

from .shell import call

NewDevice = Callable[..., Device]


@pytest.fixture
def database(here: Device, tmp_path: Path) -> Path:
    """The database of the device ``here``, whose program is not running."""
    return tmp_path / "here.db"


def test_sync_brings_both_directions_without_the_program_s_models(
    here: Device, there: Device, database: Path, address: str, space: str
) -> None:
    there.add(3, first=100)
    there.sync()
    here.add(2)
    ran = call("sync", database, "--remote", address, "--space", space)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("done: 2 records up, 3 down, in ")
    there.sync()
    assert here.rows() == there.rows()
    assert len(here.keys()) == 5
    assert here.store.pending() == []


@pytest.mark.parametrize(("flag", "up", "down"), [("--upload-only", 1, 0), ("--download-only", 0, 1)])
def test_one_direction_alone(
    flag: str, up: int, down: int, here: Device, there: Device, database: Path, address: str, space: str
) -> None:
    there.add(1, first=100)
    there.sync()
    here.add(1)
    ran = call("sync", database, "--remote", address, "--space", space, flag, "--json")
    stats = ran.json()["result"]["stats"]
    assert (ran.code, stats["uploaded"], stats["downloaded"]) == (0, up, down)


def test_both_directions_excluded_is_wrong_usage(database: Path) -> None:
    ran = call("sync", database, "--remote", "http://x", "--space", "s", "--upload-only", "--download-only")
    assert ran.code == 2


def test_the_batch_size_holds_for_both_directions(
    here: Device, there: Device, database: Path, address: str, space: str
) -> None:
    there.add(4, first=100)
    there.sync()
    here.add(3)
    ran = call("sync", database, "--remote", address, "--space", space, "--batch-size", 2, "--json")
    batches = [(batch["direction"], batch["records"]) for batch in ran.json()["result"]["stats"]["batches"]]
    assert [records for direction, records in batches if direction == "upload"] == [2, 1]
    came = [records for direction, records in batches if direction == "download"]
    assert (max(came), sum(came)) == (2, 4), "the keys of its own three are among what a page may have"


@pytest.mark.parametrize(
    ("policy", "name", "elevation"),
    [("merge_fields", "ours", 7), ("server_wins", "n0", 7), ("client_wins", "ours", 0)],
)
def test_the_conflict_policy_is_the_one_that_was_asked_for(
    policy: str,
    name: str,
    elevation: int,
    here: Device,
    there: Device,
    database: Path,
    address: str,
    space: str,
) -> None:
    there.add(1)
    there.sync()
    here.sync()
    there.edit("k00000", elevation=7)
    there.sync()
    here.edit("k00000", name="ours")
    ran = call("sync", database, "--remote", address, "--space", space, "--conflicts", policy)
    assert ran.code == 0
    assert f"conflicts: 1; see: statesync conflicts {database}" in ran.out
    assert (here.field("k00000", "name"), here.field("k00000", "elevation")) == (name, elevation)


def test_what_the_hub_rejects_is_counted_and_waits(
    here: Device, database: Path, address: str, space: str
) -> None:
    here.add(1)
    here.add(1, first=1)
    here.edit("k00001", name="x" * (2 << 20))  # twice what a hub takes of one record
    ran = call("sync", database, "--remote", address, "--space", space)
    assert ran.code == 0
    assert "rejected: 1; see: statesync pending" in ran.out
    assert list(here.operations()) == ["k00001"]


def test_the_token_comes_from_the_option_or_the_environment(
    here: Device, database: Path, tmp_path: Path, space: str
) -> None:
    url = f"sqlite:///{tmp_path}/guarded.db"
    prepare(url)
    hub = Hub(url)
    token = create_token(hub.database, space, {"*": frozenset({Right.READ, Right.WRITE})})
    with serving(hub) as address:
        where = ("sync", database, "--remote", address, "--space", space)
        assert call(*where, "--token", token).code == 0
        assert call(*where, STATESYNC_TOKEN=token).code == 0
        refused = call(*where)
        assert refused.code == 1
        assert "401" in refused.err
    hub.close()


def test_json_tells_of_a_failed_session_what_is_durable(
    here: Device, database: Path, gate: Gate, space: str
) -> None:
    here.add(2)
    gate.plan(*[refuse(500, "broken")] * 2)
    ran = call("sync", database, "--remote", gate.url, "--space", space, "--attempts", 2, "--json")
    told = ran.json()
    assert ran.code == 1
    assert (told["phase"], told["reason"], told["result"]["stats"]["uploaded"]) == (
        "failed",
        "remote_error",
        0,
    )
    assert told["message"] in ran.err
    assert gate.verbs() == ["push", "push"]
    with sqlite3.connect(database) as raw:
        assert raw.execute("SELECT phase FROM statesync_session").fetchall() == [("failed",)]


def test_a_sync_goes_by_the_proxy_and_shows_the_certificate_that_it_is_given(
    here: Device, database: Path, address: str, space: str, tmp_path: Path
) -> None:
    here.add(1)
    hub = urlsplit(address)
    with forwarding(hosts={"hub.invalid": hub.port or 0}, credentials="till:s3cret") as proxy:
        where = ("sync", database, "--remote", "http://hub.invalid", "--space", space)
        by = f"http://till:s3cret@localhost:{proxy.port}"
        assert call(*where, "--proxy", by).code == 0
        assert call(*where, HTTP_PROXY=by).code == 0
        past = call(*where, "--proxy", "none", "--attempts", 1, HTTP_PROXY=by)
        assert (past.code, "cannot be reached" in past.err) == (1, True)
    certificate, key = make_certificate(tmp_path, "own", "correct horse")
    secure = ("sync", database, "--remote", "https://localhost:9", "--space", space, "--attempts", 1)
    shown = (*secure, "--client-certificate", certificate, "--client-key", key)
    assert "passphrase" in call(*shown).err
    opened = call(*shown, "--ca-certs", certificate, STATESYNC_CLIENT_PASSPHRASE="correct horse")
    assert (opened.code, "cannot be reached" in opened.err) == (1, True)
    assert call(*secure, "--client-key", key).code == 2


def test_the_bar_says_why_a_batch_waits_and_which_attempt_it_is() -> None:
    error = Unreachable("no hub is there")
    again = datetime.now(UTC) + timedelta(seconds=4.4)
    waiting = Progress(Part.UPLOAD, State.WAITING, 1, attempt=1, error=error, next_at=again)
    assert described(waiting) == "upload: unreachable, again in 4 s"
    assert described(Progress(Part.UPLOAD, State.STARTED, 1, attempt=2)) == "upload, attempt 2"
    assert described(Progress(Part.DOWNLOAD, State.ENDED, 1, attempt=1, behind=0)) == "download"
    far = Progress(Part.DOWNLOAD, State.ENDED, 1, attempt=2, behind=12_000)
    assert described(far) == "download, attempt 2, 12,000 versions behind the hub"


def test_a_bar_says_how_much_is_done_where_that_is_known_and_how_long_the_rest_takes() -> None:
    told = io.StringIO()
    bar = records_bar(Console(file=told, force_terminal=True, width=120))
    known, unknown = bar.add_task("upload", total=200), bar.add_task("download", total=None)
    bar.update(known, completed=50)
    bar.update(unknown, completed=7)
    bar.console.print(bar.get_renderable())
    first, second = [line for line in told.getvalue().splitlines() if "records" in line]
    assert " 25%" in first
    assert "-:--:--" in first, "nobody knows yet how fast it is"
    assert "%" not in second
