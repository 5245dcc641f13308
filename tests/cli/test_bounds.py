"""Every number and text of the command line has bounds: what no database or header takes is wrong usage."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from rig.device import Device

from statesync import HttpRemote, Store, SyncOptions
from statesync.cli.commands import LISTED
from statesync.cli.kinds import Text
from statesync.errors import BadOptions, StoreReadOnly, SyncError, UsageError
from statesync.hub import Retention, create_token, prepare
from statesync.hub.access.rights import ALL_RIGHTS
from statesync.hub.db.opening import open_ready

from .shell import Ran, call

JUDGED_ELSEWHERE = {"limit"}
"""The limits of a hub are judged by ``HubLimits``, which has the bounds of each."""


def parameters(command: click.Command, name: str) -> Iterator[tuple[str, click.Parameter]]:
    for parameter in command.params:
        yield f"{name} {parameter.name}", parameter
    if isinstance(command, click.Group):
        for below, one in command.commands.items():
            yield from parameters(one, f"{name} {below}")


PARAMETERS = dict(each for name, listed in LISTED.items() for each in parameters(listed.load(), name))


def kinds(parameter: click.Parameter) -> list[Any]:
    return [*parameter.type.types] if isinstance(parameter.type, click.Tuple) else [parameter.type]


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_has_a_type_with_bounds(name: str) -> None:
    parameter = PARAMETERS[name]
    if (parameter.name or "").partition("_")[0] in JUDGED_ELSEWHERE and name.startswith("hub serve"):
        return
    for kind in kinds(parameter):
        assert type(kind) not in (type(click.STRING), type(click.INT), type(click.FLOAT)), kind
        if isinstance(kind, click.IntRange | click.FloatRange):
            assert kind.min is not None
            assert kind.max is not None


def test_the_search_finds_them() -> None:
    found = {"sync batch_size", "resolve number", "hub token create label", "hub serve limit_body"}
    assert found < PARAMETERS.keys()
    assert sum(isinstance(kind, Text) for one in PARAMETERS.values() for kind in kinds(one)) > 10


@pytest.fixture(autouse=True)
def log_as_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("statesync"), "propagate", False)


@pytest.fixture
def database(here: Device, tmp_path: Path) -> Path:
    here.add(1)
    return tmp_path / "here.db"


NUMBERS = [str(1 << 63), "9" * 30, "9" * 5000, "0", "-1", "1.5", "nan", ""]
PLACES = {
    "sync --batch-size": lambda number: ["sync", "DB", "--batch-size", number],
    "sync --attempts": lambda number: ["sync", "DB", "--attempts", number],
    "sessions --limit": lambda number: ["sessions", "DB", "--limit", number],
    "conflicts --limit": lambda number: ["conflicts", "DB", "--limit", number],
    "resolve": lambda number: ["resolve", "DB", "--keep", "local", "--", number],
}
TO_NOBODY = ["--remote", "http://127.0.0.1:9", "--space", "s"]


def assert_wrong_usage(ran: Ran) -> None:
    assert (ran.code, ran.out) == (2, ""), ran
    assert ran.err.startswith("statesync: ")
    assert ran.err.count("\n") == 1, ran.err


@pytest.mark.parametrize("place", PLACES)
def test_a_number_that_is_none_is_wrong_usage(place: str, database: Path) -> None:
    for number in NUMBERS:
        words = [database if word == "DB" else word for word in PLACES[place](number)]
        at = words.index(database) + 1
        assert_wrong_usage(call(*words[:at], *(TO_NOBODY if words[0] == "sync" else ()), *words[at:]))


TEXTS = {
    "--space": ["sync", "DB", "--remote", "http://127.0.0.1:9", "--space", "\udcff"],
    "--remote": ["sync", "DB", "--remote", "http://127.0.0.1:9/\udcff", "--space", "s"],
    "--token": ["sync", "DB", *TO_NOBODY, "--token", "acme~id~\udcff"],
    "--proxy": ["sync", "DB", *TO_NOBODY, "--proxy", "http://\udcff"],
    "diagnose --space": ["diagnose", "DB", "--remote", "http://127.0.0.1:9", "--space", "\udcff"],
    "session": ["session", "DB", "\udcff"],
    "retry OBJECT": ["retry", "DB", "\udcff"],
    "retry KEY": ["retry", "DB", "Airport", "\udcff"],
    "--set": ["resolve", "DB", "1", "--set", "name=\udcff"],
    "a space without end": ["sync", "DB", "--remote", "http://127.0.0.1:9", "--space", "s" * 300],
}


@pytest.mark.parametrize("place", TEXTS)
def test_a_text_that_is_none_is_wrong_usage(place: str, database: Path) -> None:
    assert_wrong_usage(call(*(database if word == "DB" else word for word in TEXTS[place])))


HOSTS = ["hub..local", ".hub", f"{'x' * 64}.local", "x" * 300, "a b", "-hub", "256.1.1.1", ""]


@pytest.mark.parametrize("command", ["sync", "diagnose"])
def test_a_host_that_cannot_be_is_wrong_usage(command: str, database: Path) -> None:
    for host in HOSTS:
        ran = call(command, database, "--remote", f"http://{host}", "--space", "s")
        assert_wrong_usage(ran)
        assert "http://host:8710" in ran.err


SECRETS = {
    "a line end": ["--remote", "http://127.0.0.1:9", "--token", "acme~id~hunter2\nx"],
    "no ASCII": ["--remote", "http://127.0.0.1:9", "--token", "acme~id~hunter2\u20ac"],
    "NUL": ["--remote", "http://127.0.0.1:9", "--token", "acme~id~hunter2\0"],
    "a password": ["--remote", "http://u:hunter2@127.0.0.1:9"],
    "a password that is no text": ["--remote", "http://u:hunter2@\udcff"],
    "a password in what is no address": ["--remote", "u:hunter2@host"],
    "a proxy's password": ["--remote", "http://127.0.0.1:9", "--proxy", "ftp://u:hunter2@host"],
}


@pytest.mark.parametrize("command", ["sync", "diagnose"])
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_that_is_wrong_is_shown_nowhere(command: str, secret: str, database: Path) -> None:
    ran = call(command, database, "--space", "s", *SECRETS[secret])
    assert_wrong_usage(ran)
    assert "hunter2" not in ran.err
    for file in database.parent.iterdir():
        assert b"hunter2" not in file.read_bytes(), file


TOKEN_OF_A_FILE = "acme~id~hunter2\n"


def test_a_token_whose_file_ends_its_line_is_the_token(database: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        ran = call(
            "sync",
            database,
            "--remote",
            url,
            "--space",
            "s",
            "--attempts",
            "1",
            STATESYNC_TOKEN=TOKEN_OF_A_FILE,
        )
    assert "cannot be reached" in ran.err
    assert "hunter2" not in ran.out + ran.err


# -- the API refuses the same --------------------------------------------------------------------------------

REFUSED: dict[str, Callable[[Store], object]] = {
    "batches up": lambda store: SyncOptions(upload_batch_size=1 << 63),
    "batches down": lambda store: SyncOptions(download_batch_size=1 << 63),
    "attempts": lambda store: SyncOptions(max_attempts=1 << 63),
    "sessions": lambda store: store.sessions(1 << 63),
    "fewer sessions than none": lambda store: store.sessions(-1),
    "conflicts": lambda store: store.conflicts(1 << 63),
    "conflicts that wait": lambda store: store.conflicts(10**30, waiting=True),
    "a space": lambda store: HttpRemote("http://host", "\udcff"),
    "a path": lambda store: HttpRemote("http://host/\udcff", "s"),
    "a history": lambda store: Store("x.db", keep_sessions=1 << 63),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_database_takes_is_bad_options(what: str, here: Device) -> None:
    with pytest.raises(BadOptions):
        REFUSED[what](here.store)


NOT_THERE: dict[str, Callable[[Store], object]] = {
    "a conflict": lambda store: store.resolve(1 << 63, "local"),
    "a conflict below all numbers": lambda store: store.resolve(-(10**30), "local"),
    "a session": lambda store: store.session("\udcff"),
    "a journal": lambda store: store.journal("\udcff"),
    "an object": lambda store: store.retry("\udcff"),
}


@pytest.mark.parametrize("what", NOT_THERE)
def test_what_cannot_be_there_is_not_there(what: str, here: Device) -> None:
    with pytest.raises(UsageError):
        NOT_THERE[what](here.store)


@pytest.mark.parametrize("seconds", [-1.0, 1e30, float("nan"), float("inf")])
def test_a_retention_that_no_hub_can_count_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="retention"):
        Retention(seconds)


@pytest.mark.parametrize("expires", [-1, 253_402_300_800, 1 << 63])
def test_a_token_that_outlives_calendars_is_refused(expires: int, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    with closing(open_ready(url)) as database, pytest.raises(ValueError, match="expires"):
        create_token(database, "s", ALL_RIGHTS.grants, expires=expires)


# -- nothing is left, and everything is said -----------------------------------------------------------------


def test_a_file_that_is_no_store_gets_no_lock_beside_it(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello\n" * 2000)
    ran = call("doctor", text, "--repair")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    for path in (text, tmp_path / "nothing"):
        with pytest.raises(SyncError):
            Store(path).repair()
    assert list(tmp_path.iterdir()) == [text]


def test_a_store_is_not_begun_where_there_is_no_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statesync.store.opening._ROOM_OF_NEW", 1 << 62)
    with pytest.raises(SyncError, match="free some space"):
        Store(tmp_path / "new.db").setup()
    assert list(tmp_path.iterdir()) == []


def test_what_a_new_store_takes_is_what_is_asked_for(tmp_path: Path) -> None:
    from statesync.store.opening import _ROOM_OF_NEW

    with Store(tmp_path / "new.db") as store:
        store.setup()
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) < _ROOM_OF_NEW


def test_a_store_is_not_made_of_a_hub(tmp_path: Path) -> None:
    prepare(f"sqlite:///{tmp_path}/hub.db")
    before = (tmp_path / "hub.db").read_bytes()
    with Store(tmp_path / "hub.db") as store, pytest.raises(UsageError, match="a file of its own"):
        store.setup()
    assert (tmp_path / "hub.db").read_bytes() == before


def test_a_working_folder_that_is_gone_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ran = call("sessions", "device.db")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "change into a folder that is there" in ran.err
    with pytest.raises(StoreReadOnly):
        Store("device.db")
