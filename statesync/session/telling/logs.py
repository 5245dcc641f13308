"""What a session says in a program's log: one line at INFO when it has ended, and each step at DEBUG.

Records of the log have the ``session``, and the ``batch`` where one is meant, as attributes. Nothing of the
program's records is in it, and no token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from statesync.session.announcement import Ended
from statesync.values import Progress, State

_log = logging.getLogger(__name__)


def log_end(session: str, space: str, ended: Ended) -> None:
    """Write the one line that a session has in a program's log; nothing of its records is in it."""
    stats = ended.result.stats if ended.result else None
    if stats is not None and _log.isEnabledFor(logging.INFO):
        why = "" if ended.error is None else f" ({ended.error.reason})"
        counts = (stats.uploaded, stats.downloaded, stats.elapsed)
        _log.info(
            "session %s in space %s: %s%s, %d up, %d down, %.1f s",
            session,
            space,
            ended.phase,
            why,
            *counts,
            extra={"session": session},
        )


def log_steps(session: str) -> tuple[Callable[[Progress], None], ...]:
    """Return what writes the steps of a session into the log; nothing, and at no cost, without DEBUG."""

    def log(event: Progress) -> None:
        if event.batch is not None:
            _log.debug(
                "session %s batch %d: %s, %s, attempt %s, %d records%s",
                session,
                event.batch,
                event.part,
                event.state,
                event.attempt,
                event.records,
                _why(event),
                extra={"session": session, "batch": event.batch},
            )

    return (log,) if _log.isEnabledFor(logging.DEBUG) else ()


def _why(event: Progress) -> str:
    if event.state is not State.WAITING or event.error is None:
        return ""
    return f"; {event.error.reason}, again at {event.next_at:%H:%M:%S.%f}"
