"""Recovery (K8): ending sessions whose program has ended before them.

The lock of a store dies with its holder. So a session that the journal shows as running, while the lock is
free, was interrupted.
"""

from __future__ import annotations

from statesync.store.file.database import Database
from statesync.store.journal import sessions


def recover(database: Database) -> None:
    """End every session that the journal shows as running as ``failed``, interrupted.

    The caller holds the lock, so none of them can be alive. An upload that was under way stays in doubt;
    everything else that was staged is dropped.
    """
    with database.errors_mapped():
        interrupted = sessions.running(database.raw())
    if not interrupted:
        return
    # The machine and the journal: a program that has ended its sessions opens its store without them.
    from statesync.store.ending.interrupted import end

    for session in interrupted:
        end(database, session)
