"""A space's own row: its identity, its epoch and its head, and where each client stands in it."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import NamedTuple, cast

from statesync.hub.db.database import Database
from statesync.hub.errors import client_forked, epoch_changed, refused, wrong_hub
from statesync.wire import Pull, Push, Survey

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

EPOCH_LEAP = 1 << 32
"""Versions between two epochs: more than are given out between a backup and its restoration, and few enough
that two million epochs fit the integers that every JSON parser keeps exactly."""

_LOOK = """
SELECT space.hub, space.epoch, space.head, space.horizon, receipt.number, receipt.batch, receipt.answer
FROM space LEFT JOIN receipt ON receipt.space = space.space AND receipt.client = ?
WHERE space.space = ?
"""


class Standing(NamedTuple):
    """A space, and one client's receipt in it (number 0 where it has none)."""

    hub: str
    epoch: str
    head: int
    horizon: int
    number: int
    batch: str | None
    answer: str | None


def check_name(space: str) -> None:
    """Raise the 422 for a name that no space can have."""
    if not _NAME.fullmatch(space):
        raise refused(
            422, "bad_space", "a space's name is 1 to 64 letters, digits, dots, dashes and underscores"
        )


def look(database: Database, space: str, client: str) -> Standing | None:
    """Return where ``client`` stands in ``space``, or None if there is no such space."""
    row = database.run(_LOOK, client, space).fetchone()
    return None if row is None else Standing(row[0], row[1], row[2], row[3], row[4] or 0, row[5], row[6])


def lock(database: Database, space: str, client: str, most_spaces: int) -> Standing:
    """Take the space's row for this transaction, making the space if it is new, and return the standing.

    Whoever holds the row is the space's only writer, so its versions become visible in commit order.
    Raises the 422 for a new space on a hub that has ``most_spaces`` already.
    """
    take = f"SELECT 1 FROM space WHERE space = ?{database.dialect.row_lock}"
    # What counts is that the row was taken: one that is only seen may have come up since, and be another's.
    while database.run(take, space).fetchone() is None:
        _make(database, space, most_spaces)
    return cast(Standing, look(database, space, client))


def begin_epoch(database: Database, space: str, seen: int) -> str:
    """Give the locked space a new epoch and return it; receipts stay.

    ``seen`` is the highest version that is known to have been given out. The head leaps far past it, so no
    version is given out twice: a device can tell by a record's version whether it has seen it before.
    """
    epoch = str(uuid.uuid4())
    database.run("UPDATE space SET epoch = ?, head = ? WHERE space = ?", epoch, seen + EPOCH_LEAP, space)
    return epoch


def check_beliefs(standing: Standing, request: Push | Pull | Survey) -> None:
    """Raise the refusal of a device that believes in another hub or another epoch than this one."""
    if request.hub not in (None, standing.hub):
        raise wrong_hub(standing.hub)
    if request.epoch not in (None, standing.epoch):
        raise epoch_changed(standing.hub, standing.epoch, standing.number)


def check_not_forked(standing: Standing, last: int) -> None:
    """Raise the refusal of a client whose ``last`` acknowledged batch is behind its receipt."""
    if last < standing.number:
        raise client_forked(standing.number)


def purge(database: Database, space: str, through: int) -> int:
    """Delete the tombstones up to ``through``, move the horizon to the last of them, and count them."""
    take = f"SELECT horizon FROM space WHERE space = ?{database.dialect.row_lock}"
    if database.run(take, space).fetchone() is None:
        return 0
    doomed = "FROM record WHERE space = ? AND deleted AND version <= ?"
    last, count = database.run(f"SELECT max(version), count(*) {doomed}", space, through).fetchone()
    if count:
        database.run(f"DELETE {doomed}", space, through)
        database.run("UPDATE space SET horizon = ? WHERE space = ? AND horizon < ?", last, space, last)
    return int(count)


def _make(database: Database, space: str, most_spaces: int) -> None:
    made = database.run(
        "INSERT INTO space (space, hub, epoch, head, horizon, created) VALUES (?, ?, ?, 0, 0, ?) "
        "ON CONFLICT DO NOTHING",
        space,
        str(uuid.uuid4()),
        str(uuid.uuid4()),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if made.rowcount == 1:
        _count(database, most_spaces)


def _count(database: Database, most_spaces: int) -> None:
    """Count the space that was made; a counter in one row is exact where counting rows would not be."""
    counted = database.run(
        "UPDATE hub_meta SET value = value + 1 WHERE name = 'spaces' AND value < ?", most_spaces
    )
    if counted.rowcount != 1:
        raise refused(422, "too_many_spaces", f"this hub has its {most_spaces} spaces; it makes no more")
