"""What other devices wrote is data on the command line: no markup, and nothing that a terminal obeys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from peewee import TextField
from rig.device import quick_store

from statesync import SyncOptions
from statesync.hub import Hub, LocalRemote, prepare

from .shell import call

HOSTILE = ["[/etc]", "[red]alarm[/red]", "\x1b[2J\x1b]0;owned\x07", "two\nlines", "\u202egnp.exe", "a\r\x9bK"]
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module", params=HOSTILE)
def text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    """A device with a conflict, a pending change and a record in quarantine, all with the text in them.

    No command of the tests changes it.
    """
    tmp_path = tmp_path_factory.mktemp("hostile")
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    hub = Hub(url, without_tokens=True)
    stores = [quick_store(tmp_path / f"{name}.db") for name in ("a", "b")]
    models: list[Any] = []
    for place, store in enumerate(stores):

        class Note(store.Model):  # type: ignore[name-defined, misc]
            title = TextField(unique=bool(place))

        store.setup()
        models.append(Note)
    (free, strict), remote = models, LocalRemote(hub, "space")
    later = SyncOptions(conflict_policy="later")
    for key in (text, "twin"):
        free.create(id=key, title=key)
    stores[0].scope(remote).sync()
    stores[1].scope(remote).sync()
    free.update(title="theirs " + text).where(free.id == text).execute()
    strict.update(title="mine " + text).where(strict.id == text).execute()
    free.create(id=text + "2", title="twin")
    stores[0].scope(remote).sync()
    stores[1].scope(remote).sync(later)
    for store in stores:
        store.close()
    hub.close()
    return tmp_path / "b.db"


@pytest.mark.parametrize("command", ["pending", "conflicts", "quarantine", "doctor", "sessions", "session"])
def test_a_hostile_text_is_shown_as_it_is_and_obeyed_by_nobody(
    database: Path, text: str, command: str
) -> None:
    ran = call(command, database)
    assert not OBEYED.search(ran.out)
    assert "Traceback" not in ran.err
    if command in ("pending", "conflicts", "quarantine"):
        shown = text.encode("unicode_escape").decode()
        assert shown in ran.out.replace("\n", "") or shown[:4] in ran.out
