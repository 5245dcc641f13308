"""What the tests of a session's end share: code that hangs, and a watch that is in a hurry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rig.walls import Wall

from statesync.session import handle


@pytest.fixture
def wall() -> Iterator[Wall]:
    built = Wall()
    yield built
    built.remove()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a tenth of a second for a thread that is late, and would not come."""
    monkeypatch.setattr(handle, "LATE", 0.1)
