"""The hub's files on SQLite: nobody but their owner reads them, and what cannot be made is said in a line."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cli.shell import call

from statesync.hub import BadDatabase, Hub, Right, create_token, prepare


@pytest.fixture
def open_to_all() -> Iterator[None]:
    """A process whose files everybody may read, as many services' are."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_to_all")
def test_a_new_hub_s_file_and_those_beside_it_are_for_their_owner_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    with closing(Hub(url)) as hub:
        create_token(hub.database, "space", {"*": frozenset(Right)})
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert found.keys() >= {"hub.db", "hub.db-wal"}
    assert set(found.values()) == {0o600}


def test_a_file_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    prepare(f"sqlite:///{path}")
    path.chmod(0o640)
    prepare(f"sqlite:///{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_folder_that_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    ran = call("hub", "init", "--database", f"sqlite:///{tmp_path}/nowhere/hub.db")
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1
    assert "check its address" in ran.err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_file_in_utf_16_is_refused_by_name_when_it_is_made_and_when_it_is_opened(
    tmp_path: Path, encoding: str
) -> None:
    """Its pages would be no JSON, and its keys are in another order than those of devices."""
    path = tmp_path / "hub.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute("CREATE TABLE other (id)")
    with pytest.raises(BadDatabase, match=f"{encoding}.*sqlite3 OLD .dump"):
        prepare(f"sqlite:///{path}")
    with pytest.raises(BadDatabase, match=encoding):
        Hub(f"sqlite:///{path}")
