"""A day in the field: what two devices did apart, and the three syncs of the day, two of them cancelled.

Everything that a session can meet is in it: uploads in several batches, an edit while a batch is under
way, conflicts of every kind, a record that the hub rejects, pages with deletes, cancels in both directions.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from statesync import InDoubt, Progress, Remote, SyncCancelled, SyncOptions
from statesync.testing import Watch
from statesync.values import Part, State

from .field import Device, Rows, device, device_at, local_hub, make_hub

OPTIONS = SyncOptions(upload_batch_size=3, download_batch_size=3)

IN_FLIGHT = "edited while its batch was under way"
LONG = "x" * 500
SHORT = "no longer too long"

EXPECTED: Rows = {
    "a1": (IN_FLIGHT, 1),
    "a2": ("a2", 2),
    "a3": ("a3", 3),
    "a4": ("by plain SQL", 4),
    "long": (SHORT, 0),
    "b1": ("b1", 1),
    "b2": ("b2", 2),
    "b3": ("b3", 3),
    "b4": ("b4", 4),
    "s1": ("text of a", 100),  # each changed another field: merged
    "s2": ("text of b", 2),  # both changed the same field: the hub wins
    "s6": ("s6", 600),  # deleted here, changed there: the hub wins
    "s7": ("s7", 7),
}
"""What every side holds in the end, by the rules of ``merge_fields``. s3, s4 and s5 are deleted."""

IN_CONFLICT = {"s1", "s2", "s5", "s6"}


def prepare_day(folder: Path) -> None:
    """Make ``hub.db``, ``a.db`` and ``b.db`` as they are in the morning, before any sync."""
    make_hub(folder / "hub.db")
    with (
        local_hub(folder / "hub.db") as hub,
        device(folder / "a.db") as a,
        device(folder / "b.db") as b,
    ):
        for number in range(1, 8):
            b.write(f"s{number}", f"s{number}", number)
        b.store.scope(hub).sync()
        a.store.scope(hub).sync()
        _work_of_b(b)
        b.store.scope(hub).sync()
        _work_of_a(a)


def _work_of_b(b: Device) -> None:
    b.write("s1", number=100)
    b.write("s2", "text of b")
    b.delete("s3", "s5")
    b.write("s6", number=600)
    for number in range(1, 5):
        b.write(f"b{number}", f"b{number}", number)


def _work_of_a(a: Device) -> None:
    a.write("a1", "a1", 1)
    a.write("a2", "a2", 2)
    a.write("a3", "a3", 3)
    a.write("gone", "made and deleted again")
    a.delete("gone")
    with closing(sqlite3.connect(a.store.database.database)) as plain, plain:
        plain.execute("INSERT INTO note VALUES ('a4', 'by plain SQL', 4, 0)")
    a.write("s1", "text of a")
    a.write("s2", "lost to b")
    a.delete("s4", "s6")
    a.write("s5", "lost to a delete")
    a.write("long", LONG, 0)


def live_the_day(folder: Path, remote: Remote, watch: Watch | None = None) -> None:
    """Open device a and sync three times: cancelled in the upload, in the download, and to the end.

    Before the last one, the record that was rejected for its length is shortened.
    """
    a = device_at(folder / "a.db")
    if watch is not None:
        watch.database(a.store.database)
    a.store.setup()
    _sync_cancelled_in(a, remote, Part.UPLOAD)
    _sync_cancelled_in(a, remote, Part.DOWNLOAD)
    a.write("long", SHORT)
    a.store.scope(remote).sync(OPTIONS)
    a.store.close()


def _sync_cancelled_in(a: Device, remote: Remote, part: Part) -> None:
    """Sync; edit a1 while its batch is under way; cancel in the second batch of the ``part``."""
    scope = a.store.scope(remote)
    begun: set[int | None] = set()

    def on_progress(event: Progress) -> None:
        if event.state is not State.STARTED or event.part is not part:
            return
        begun.add(event.batch)
        if part is Part.UPLOAD and len(begun) == 1:
            edit_in_flight(a)
        if len(begun) == 2:
            scope.cancel_sync(on_failure=lambda _: None)

    try:
        scope.sync(OPTIONS, on_progress)
    except (SyncCancelled, InDoubt):
        return
    raise AssertionError(f"the session was over before the second batch of the {part}")


def edit_in_flight(a: Device) -> None:
    """Make the edit of the day that is made while the record is on its way."""
    a.write("a1", IN_FLIGHT)
