from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.places import memory

from .day import prepare_day
from .network.served import Network, network_of


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder, in memory where there is room: what these tests end is a process, not the power."""
    made = Path(tempfile.mkdtemp(prefix="statesync-", dir=memory()))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """``network(folder)`` puts the hub of a folder behind HTTP and a proxy."""
    with network_of() as made:
        yield made


@pytest.fixture(scope="session")
def morning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the day as they are before the first sync; for copying."""
    made = tmp_path_factory.mktemp("morning")
    prepare_day(made)
    return made
