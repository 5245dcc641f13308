"""What one session holds between two transitions: the batch that stands ready, and what was answered to it.

Nothing here must survive: what must is in the database.
"""

from __future__ import annotations

from attrs import define

from statesync.store import pages, verdicts
from statesync.wire import Change, Page, Pull, PushAnswer


@define(eq=False)
class Upload:
    """The upload batch that stands ready or is under way."""

    wire_id: str
    wire_number: int
    payload: bytes
    changes: list[Change]
    through: int
    revisions: tuple[tuple[int, int], ...] = ()
    replayed: tuple[str, int] | None = None
    answer: PushAnswer | None = None
    resolutions: list[verdicts.Resolution] | None = None


@define(eq=False)
class Download:
    """The page that has come in answer to ``request``, decoded."""

    request: Pull
    page: Page
    parts: list[pages.ObjectPage]


@define
class Timing:
    """Seconds spent on the open batch."""

    request: float = 0.0
    parsing: float = 0.0
