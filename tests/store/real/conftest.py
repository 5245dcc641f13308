from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rig.device import quick_store

from statesync import Store
from statesync.hub import Hub, LocalRemote, prepare

from .sites import Define, Site


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a hub that nobody has opened yet; for copying."""
    path = tmp_path_factory.mktemp("prepared") / "hub.db"
    prepare(f"sqlite:///{path}")
    return path


@pytest.fixture
def hub(prepared: Path, tmp_path: Path) -> Iterator[Hub]:
    shutil.copy(prepared, tmp_path / "hub.db")
    hub = Hub(f"sqlite:///{tmp_path}/hub.db", without_tokens=True)
    yield hub
    hub.close()


def lay_under(path: Path, odd: str) -> None:
    """Let an empty table be declared as ``odd`` says, which has its name in the third place."""
    with closing(sqlite3.connect(path)) as plain:
        (version,) = plain.execute("PRAGMA schema_version").fetchone()
        plain.execute("PRAGMA writable_schema = ON")
        plain.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (odd, odd.split()[2]))
        plain.execute(f"PRAGMA schema_version = {version + 1}")
        plain.commit()


@pytest.fixture
def new_site(tmp_path: Path, hub: Hub) -> Iterator[Callable[..., Site]]:
    """Open a device: ``new_site("a", note)``; ``before`` makes tables that were there already.

    ``odd`` is a table that ``setup()`` refuses, as an older version has left it.
    """
    opened: list[Store] = []

    def make(name: str, define_model: Define, before: str = "", odd: str = "") -> Site:
        path = tmp_path / f"{name}.db"
        with closing(sqlite3.connect(path)) as plain:
            plain.executescript(before)
        store = quick_store(path)
        opened.append(store)
        model = define_model(store)
        store.setup()
        if odd:
            store.close()
            lay_under(path, odd)
        return Site(store, model, LocalRemote(hub, "space"))

    yield make
    for store in opened:
        store.close()
