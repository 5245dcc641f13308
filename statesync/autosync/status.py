"""What a keeper says of itself: where it stands, since when, why, what wakes it, and what is stuck."""

from __future__ import annotations

from datetime import UTC, datetime

from statesync.classes import frozen
from statesync.errors import SyncError
from statesync.keeping.standing import Standing
from statesync.lifecycle import KEEPER, KeeperPhase, Phase
from statesync.values import Backlog


@frozen
class LastSession:
    """The session that has ended last.

    ``id`` is None for one that could not begin, ``phase`` how it ended, ``error`` why it did not end in
    ``done``.
    """

    id: str | None
    phase: Phase
    at: datetime
    error: SyncError | None


@frozen
class InSync:
    """When everything was in sync for the last time, and on what evidence.

    ``session`` had sent all that was here and fetched all that the hub had, and nothing waited nor was stuck
    when it had ended.
    """

    at: datetime
    session: str


@frozen
class KeeperStatus:
    """What a keeper does, at one moment.

    ``why`` says what led to ``phase``, ``since`` when. ``next`` is what wakes it next, as a trigger of its
    chart or ``start``, None where nothing does any more; ``next_at`` when, None where that is not up to the
    clock. ``last`` is the last session, ``backlog`` what waits and is stuck, ``in_sync`` when all was in sync
    for the last time, as far as this keeper has seen. ``hears`` says whether the hub answers the question for
    news: where it does not, what others send comes with the interval; None where it is not asked, as without
    ``live``, or had no time to answer. ``is_behind`` says whether the hub is known to have
    more than was read here, or may have: it has told of news, a session is due or runs, whoever began it, or
    the last one has not read all.
    """

    phase: KeeperPhase
    since: datetime
    why: str
    next: str | None
    next_at: datetime | None
    last: LastSession | None
    backlog: Backlog
    in_sync: InSync | None
    is_behind: bool = False
    hears: bool | None = None

    @property
    def is_up_to_date(self) -> bool:
        """Whether the last session brought everything in sync, and nothing waits or is stuck here since.

        What the hub has got since then, and has not told of, nobody here can know before the next session.
        Never true while a change waits, is deferred, parked, in conflict or in doubt, while a record is in
        quarantine, while an object is read from the start, while it ``is_behind``, nor in a phase in which
        something keeps the keeper from its next session.
        """
        rests = self.phase in (KeeperPhase.RESTING, KeeperPhase.LISTENING)
        in_sync = self.in_sync is not None and self.last is not None and self.in_sync.session == self.last.id
        return rests and in_sync and self.backlog.is_empty and not self.is_behind


def what_wakes(standing: Standing) -> tuple[str | None, float | None]:
    """Return what wakes a keeper next that was started, and when by the monotonic clock."""
    if KEEPER.is_final(standing.phase):
        return None, None
    if standing.has_session:
        return "session_ended", None
    if standing.asking is not None:
        return "conditions_changed", standing.due
    coming = standing.next_trigger()
    return (None, None) if coming is None else (str(coming[0]), coming[2])


def as_time(wall: float) -> datetime:
    """Return a time of the wall clock, in UTC."""
    return datetime.fromtimestamp(wall, UTC)
