"""Two devices on a hub that can be restored from a backup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..sites import Site, note
from .hubs import RestorableHub


@pytest.fixture
def restorable(tmp_path: Path) -> Iterator[RestorableHub]:
    """A hub that can be restored from a backup."""
    hub = RestorableHub(tmp_path / "restorable.db")
    yield hub
    hub.close()


@pytest.fixture
def pair(new_site: Callable[..., Site], restorable: RestorableHub) -> tuple[Site, Site]:
    """Two devices that have synced one record with it."""
    a, b = restorable.take(new_site("a", note)), restorable.take(new_site("b", note))
    a.model.create(id="first")
    a.sync()
    b.sync()
    return a, b
