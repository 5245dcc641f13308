"""The rows of a space and of its clients: identity, epoch and head, and each client's receipt."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from statesync.hub.db.database import Database
from statesync.hub.errors import epoch_changed, refused, wrong_hub
from statesync.wire import Push, Survey

_Answer = TypeVar("_Answer")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

_FIND = """
SELECT space.hub, space.epoch, space.head, space.horizon, space.begun, receipt.number, receipt.batch
FROM space LEFT JOIN receipt ON receipt.space = space.space AND receipt.client = ?
WHERE space.space = ?
"""
_MAKE = """
INSERT INTO space (space, hub, epoch, head, horizon, created) VALUES (?, ?, ?, 0, 0, ?)
ON CONFLICT DO NOTHING
"""
_COUNT = """
INSERT INTO living (space, object, records) VALUES {rows}
ON CONFLICT (space, object) DO UPDATE SET records = living.records + excluded.records
"""
_COUNTED_AT_ONCE = 500
"""Objects whose records are counted in one statement."""

_ANSWER = "SELECT answer FROM receipt WHERE space = ? AND client = ?"
_RECEIPT = """
INSERT INTO receipt (space, client, number, batch, answer) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (space, client) DO UPDATE SET
    number = excluded.number, batch = excluded.batch, answer = excluded.answer
"""


class ClientState(NamedTuple):
    """How far a space has come, and how far one client has come in it.

    ``number`` and ``batch`` are of the client's receipt: its last batch. Without a receipt the number is 0.
    What the batch was answered is much longer, and only its repeat asks for it (``answer_kept``).
    """

    hub: str
    epoch: str
    head: int
    purged_through: int
    """The version of the last delete that is no longer kept, 0 for none; ``horizon`` in the database."""
    begun: int
    """When the epoch began, in seconds of the wall clock; 0 for the first one."""
    number: int
    batch: str | None


def check_name(space: str) -> None:
    """Raise the 422 for a name that no space can have."""
    if not _NAME.fullmatch(space):
        raise refused(
            422, "bad_space", "a space's name is 1 to 64 letters, digits, dots, dashes and underscores"
        )


def find(database: Database, space: str, client: str) -> ClientState | None:
    """Return the state of ``client`` in ``space``, or None if there is no such space."""
    return state_of(database.run(_FIND, client, space).fetchone())


def ask(database: Database, space: str, client: str) -> ClientState | None:
    """Return what ``find`` returns, outside of any transaction."""
    return next(map(state_of, database.ask(_FIND, client, space)), None)


async def glance(database: Database, space: str, client: str) -> ClientState | None:
    """Return what ``find`` returns, in an event loop; None, too, if that takes a thread."""
    return next(map(state_of, await database.glance(_FIND, client, space) or ()), None)


def state_of(row: Sequence[Any] | None) -> ClientState | None:
    """Return the state of a row of seven columns; None where there is none, or no space in it."""
    if row is None or row[0] is None:
        return None
    hub, epoch, head, horizon, begun, number, batch = row
    return ClientState(hub, epoch, head, horizon, begun, number or 0, batch)


def lock(database: Database, space: str, client: str, most_spaces: int) -> ClientState:
    """Hold the space's row until the transaction ends, and return the client's state; make a new space.

    Whoever holds the row is the space's only writer, so its versions become visible in commit order.
    Raises the 422 for a new space on a hub that has ``most_spaces`` already.
    """
    return lock_and_ask(database, space, client, most_spaces, lambda: None)[0]


def lock_and_ask(
    database: Database, space: str, client: str, most_spaces: int, ask: Callable[[], _Answer]
) -> tuple[ClientState, _Answer]:
    """Do what ``lock`` does, and return with it what ``ask`` returned last.

    ``ask`` is called behind the statement that takes the lock, before its answer is there: what it begins to
    read is read under the lock, and travels with it.
    """
    take = f"SELECT 1 FROM space WHERE space = ?{database.dialect.row_lock}"
    while True:
        # A statement of its own reads the state: one that had waited for the lock would have an old receipt.
        taken, found, asked = database.run(take, space), database.run(_FIND, client, space), ask()
        is_held, state = taken.fetchone() is not None, state_of(found.fetchone())
        # Only a row that was locked counts. One that was merely seen may be new, and another writer's.
        if is_held and state is not None:
            return state, asked
        _make(database, space, most_spaces)


def lock_row(database: Database, space: str) -> bool:
    """Hold the space's row until the transaction ends; return False if there is no such space."""
    take = f"SELECT 1 FROM space WHERE space = ?{database.dialect.row_lock}"
    return database.run(take, space).fetchone() is not None


def move_head(database: Database, space: str, head: int) -> None:
    """Note that versions up to ``head`` are given out in the locked space."""
    database.run("UPDATE space SET head = ? WHERE space = ?", head, space)


def count_living(database: Database, space: str, more: Mapping[str, int]) -> None:
    """Note how many more living records each object of the locked space has; fewer are less than 0."""
    changed = [(name, count) for name, count in more.items() if count]
    for first in range(0, len(changed), _COUNTED_AT_ONCE):
        some = changed[first : first + _COUNTED_AT_ONCE]
        values = [value for name, count in some for value in (space, name, count)]
        database.run(_COUNT.format(rows=", ".join(["(?, ?, ?)"] * len(some))), *values)


def move_purged_through(database: Database, space: str, version: int) -> None:
    """Note that the locked space has forgotten its deletes up to ``version``; it never moves back."""
    database.run("UPDATE space SET horizon = ? WHERE space = ? AND horizon < ?", version, space, version)


def keep_receipt(database: Database, space: str, request: Push, answer: str) -> None:
    """Keep what the client's batch was answered, in place of the receipt before it."""
    database.run(_RECEIPT, space, request.client, request.number, request.batch, answer)


def answer_kept(database: Database, space: str, client: str) -> str:
    """Return what the receipt of ``client``, which has one, says that its last batch was answered."""
    return str(database.run(_ANSWER, space, client).fetchone()[0])


def begin_epoch(database: Database, space: str, head: int, now: int) -> str:
    """Give the locked space a new epoch, whose versions follow ``head``, and return it; receipts stay."""
    epoch = str(uuid.uuid4())
    sql = "UPDATE space SET epoch = ?, head = ?, begun = ? WHERE space = ?"
    database.run(sql, epoch, head, now, space)
    return epoch


def check_beliefs(state: ClientState, request: Survey) -> None:
    """Raise the refusal of a device that believes in another hub or another epoch than this one."""
    if request.hub not in (None, state.hub):
        raise wrong_hub(state.hub)
    if request.epoch not in (None, state.epoch):
        raise epoch_changed(state.hub, state.epoch, state.number)


def names(database: Database) -> list[str]:
    """Return the names of all spaces, in order."""
    return [row[0] for row in database.run("SELECT space FROM space ORDER BY space")]


def _make(database: Database, space: str, most_spaces: int) -> None:
    hub, epoch = str(uuid.uuid4()), str(uuid.uuid4())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    database.run(_MAKE, space, hub, epoch, now)
    # How many rows a statement has changed is not known before an answer is asked for; a look is one.
    if database.run("SELECT 1 FROM space WHERE space = ? AND hub = ?", space, hub).fetchone() is not None:
        _count_new_space(database, most_spaces)


def _count_new_space(database: Database, most_spaces: int) -> None:
    """Add the new space to the counter; a counter in one row is exact, a count of rows would not be."""
    database.run("UPDATE hub_meta SET value = value + 1 WHERE name = 'spaces'")
    (count,) = database.run("SELECT value FROM hub_meta WHERE name = 'spaces'").fetchone()
    if count > most_spaces:
        raise refused(422, "too_many_spaces", f"this hub has its {most_spaces} spaces; it makes no more")
