"""What is compared of the modelled world and of the real thing, and what each calls the same by."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from statesync.lifecycle import Phase
from statesync.protocol.conversation import Conversation
from statesync.protocol.messages import Event, Prepared, RequestFailed
from statesync.store.outbox.settled import WAITING
from statesync.store.outbox.shared import IS_MERE_OFFER
from statesync.store.outbox.under_way import BATCH, SENT
from statesync.verify.modelled.device import Device, Pending, Tally
from statesync.verify.modelled.hub import Hub
from statesync.verify.modelled.wire import Fields, Scan
from statesync.verify.system.world import Talk

from .real import RealSession, without_time


@frozen
class Compared:
    """One thing, in the model and for real, in the real thing's words."""

    what: str
    model: Any
    real: Any


class Names:
    """What the model calls hubs, epochs, clients, batches and places in an outbox, and their real names."""

    def __init__(self) -> None:
        self._real: dict[tuple[str, object], object] = {("batch", "copy"): "copy"}

    def of(self, kind: str, name: object, real: object = None) -> Any:
        """Return the real name of ``name``, which is ``real`` where it is met for the first time.

        Names go one to one: a real name that stands for something else already is not taken again.
        """
        if name is None:
            return None
        known = (kind, name) in self._real
        if not known and real is not None and (kind, real) not in self._taken():
            self._real[kind, name] = real
        return self._real.get((kind, name), f"{kind} {name}, which has no real name")

    def _taken(self) -> set[tuple[str, object]]:
        return {(kind, real) for (kind, _), real in self._real.items()}

    def position(self, device: Device, at: int) -> int:
        """Return where a modelled place in an outbox really is: SQLite leaves gaps between them."""
        place = self._real.get(("place", (device.name, at)))
        return place[1] if isinstance(place, tuple) else at


def text_of(data: Fields | None) -> Any:
    """Return the one field that a record has here."""
    return None if data is None else dict(data)["text"]


def text_of_json(record: str | None) -> Any:
    """Return that field of a record as JSON, None where there is no record."""
    return None if record is None else (json.loads(record) or {}).get("text")


# -- the session -----------------------------------------------------------------------------------


def session(talk: Talk | None, device: Device, real: RealSession | None, names: Names) -> Iterator[Compared]:
    """Yield what a session remembers and waits for."""
    yield Compared("whether a session runs", talk is not None, real is not None)
    if talk is None or real is None:
        return
    yield Compared(
        "what the session remembers", _placed(talk.conversation, device, names), real.conversation()
    )
    yield Compared("what it hears next", _heard(talk.next), _heard(without_time(real.next)))
    at_the_hub = talk.request is not None and talk.reply is None
    yield Compared("whether it waits for the hub", at_the_hub, real.waits_for_the_hub)
    yield Compared("whether it asked ahead", talk.ahead is not None, real.requests._ahead is not None)


def _placed(now: Conversation, device: Device, names: Names) -> Conversation:
    batch = now.batch
    if batch is not None:
        batch = evolve(batch, last_position=names.position(device, batch.last_position))
    limit, looked_through = (names.position(device, at) for at in (now.upload_limit, now.looked_through))
    return evolve(now, batch=batch, upload_limit=limit, looked_through=looked_through)


def _heard(event: Event | None) -> Any:
    """Return an event so that it can be compared: real errors are made anew each time."""
    if isinstance(event, Prepared):
        return event.records, bool(event.last_position)
    if isinstance(event, RequestFailed):
        error = event.error
        code = error.problem and error.problem.code
        return type(error), error.status, error.retryable, error.maybe_applied, code
    return event


def journal(talk: Talk, device: Device, real: RealSession, plain: sqlite3.Connection) -> Compared:
    """Return the phases and the committed batches that the journal of the running session has."""
    name = (real.session.id,)
    # What has nothing to send is recorded with its first step; until then nobody sees that it is idle.
    row = plain.execute("SELECT phase FROM statesync_session WHERE id = ?", name).fetchone()
    (phase,) = row if real.session._store.is_recorded else (Phase.IDLE,)
    batch = plain.execute(
        "SELECT phase FROM statesync_batch WHERE session = ? AND phase NOT IN ('committed', 'aborted')", name
    ).fetchone()
    details = plain.execute(
        "SELECT detail FROM statesync_transition WHERE session = ? AND \"trigger\" = 'commit_batch' "
        "ORDER BY number",
        name,
    ).fetchall()
    committed = [json.loads(detail) for (detail,) in details]
    tallies = [
        Tally(each["direction"], each["records"], each.get("held", 0), each.get("released", 0))
        for each in committed
    ]
    now = talk.conversation
    return Compared(
        "journals",
        (now.phase, now.batch and (now.batch.phase,), list(device.committed)),
        (phase, batch, tallies),
    )


# -- a device --------------------------------------------------------------------------------------


def tables(device: Device, plain: sqlite3.Connection, names: Names) -> Iterator[Compared]:
    """Yield what a device's database holds."""

    def rows(sql: str) -> list[Any]:
        return plain.execute(sql).fetchall()

    records = [(key, text_of(data)) for key, data in device.rows]
    yield Compared("records", records, rows("SELECT id, text FROM note ORDER BY id"))
    logged = [(each.key, each.before is not None, text_of(each.before)) for each in device.log]
    yield Compared(
        "logs", logged, rows('SELECT key, known, was_text FROM "statesync_log_Note" ORDER BY rowid')
    )
    for stands in rows("SELECT client, number, hub, epoch, head FROM statesync_space"):
        yield Compared("where it stands", _stands(device, stands, names), stands)
    for cursor in rows("SELECT cursor, rereading, reread_from, missed_from, begun FROM statesync_cursor"):
        read = (device.cursor, device.rereading, device.reread_from, device.missed_from, device.begun)
        yield Compared("cursors", read, cursor)
    for *position, floors in rows("SELECT since, after, until, floors FROM statesync_cursor"):
        scan = device.scan or Scan()
        led = (scan.since, scan.after, scan.until), [list(each) for each in device.floors]
        yield Compared("scans", led, (tuple(position), json.loads(floors)))
    seen = rows("SELECT key FROM statesync_seen ORDER BY key")
    yield Compared("seen keys", [(key,) for key in device.seen], seen)
    ahead = rows("SELECT key, version FROM statesync_base ORDER BY key")
    yield Compared("versions that are exceptions to the cursor", list(device.ahead), ahead)
    held = [(each.key, each.version, text_of(each.data), each.in_the_way, each.tries) for each in device.held]
    waits = rows(
        "SELECT key, version, CAST(data AS TEXT), in_the_way, tries FROM statesync_quarantine ORDER BY rowid"
    )
    found = [(key, version, text_of_json(data), *why) for key, version, data, *why in waits]
    yield Compared("quarantines", held, found)
    yield _outbox(device, plain, names)
    yield _doubt(device, plain, names)
    overruled = [
        (each.key, *map(text_of, (each.base, each.local, each.remote, each.kept)))
        for each in device.conflicts
    ]
    found = rows("SELECT key, base, local, remote, kept FROM statesync_conflict ORDER BY id")
    yield Compared("conflict logs", overruled, [(key, *map(text_of_json, sides)) for key, *sides in found])


def _stands(device: Device, real: tuple[Any, ...], names: Names) -> tuple[Any, ...]:
    client, _, hub, epoch, _ = real
    return (
        names.of("client", device.client, client),
        device.number,
        names.of("hub", device.hub, hub),
        names.of("epoch", device.epoch, epoch),
        device.head,
    )


def _outbox(device: Device, plain: sqlite3.Connection, names: Names) -> Compared:
    found = plain.execute(
        f"SELECT position, {BATCH}, key, operation, image, base, since, revision, {SENT}, error IS NOT NULL, "
        f"parked, {IS_MERE_OFFER} FROM {WAITING} ORDER BY position"
    ).fetchall()
    real = [
        ((device.name, at), batch, key, operation, text_of_json(image), *rest)
        for at, batch, key, operation, image, *rest in found
    ]
    nowhere: list[tuple[Any, ...]] = [(None, None)] * len(device.outbox)
    met = [row[:2] for row in real] + nowhere
    model = [
        _change(device, change, place, batch, names)
        for change, (place, batch) in zip(device.outbox, met, strict=False)
    ]
    return Compared("outboxes", model, real)


def _change(device: Device, change: Pending, place: Any, batch: Any, names: Names) -> tuple[Any, ...]:
    return (
        names.of("place", (device.name, change.position), place),
        names.of("batch", change.batch, batch),
        change.key,
        change.operation,
        text_of(change.image),
        change.base,
        change.since,
        change.revision,
        change.sent,
        change.failed,
        change.parked,
        change.is_mere_offer,
    )


def _doubt(device: Device, plain: sqlite3.Connection, names: Names) -> Compared:
    found = plain.execute(
        "SELECT wire_id, wire_number, payload FROM statesync_batch JOIN statesync_payload "
        "USING (session, number) WHERE doubt = 1"
    ).fetchall()
    real = [
        (
            batch,
            number,
            [
                (c["key"], c["base"], c.get("since", 0), c.get("data", {}).get("text"))
                for c in json.loads(payload)
            ],
        )
        for batch, number, payload in found
    ]
    model, kept = [], device.payload
    if device.in_doubt and kept is not None:
        batch = names.of("batch", kept.batch, real[0][0] if real else None)
        model = [(batch, kept.number, [(c.key, c.base, c.since, text_of(c.data)) for c in kept.changes])]
    return Compared("batches in doubt", model, real)


# -- the hub ---------------------------------------------------------------------------------------


def hub(model: Hub, plain: sqlite3.Connection, names: Names) -> Iterator[Compared]:
    """Yield what the hub's database holds."""
    space = plain.execute("SELECT hub, epoch, head, horizon FROM space").fetchone()
    if space is None:
        yield Compared("heads", model.head, 0)
        return
    own = names.of("hub", model.id, space[0]), names.of("epoch", model.epoch, space[1])
    yield Compared("spaces", (*own, model.head, model.purged_through), space)
    found = plain.execute("SELECT key, version, writer, data FROM record ORDER BY version").fetchall()
    writers = {key: writer for key, _, writer, _ in found}
    records = [
        (each.key, each.version, names.of("client", each.writer, writers.get(each.key)), text_of(each.data))
        for each in model.records
    ]
    yield Compared("records of the hub", records, [(*row[:3], text_of_json(row[3])) for row in found])
    receipts = [
        (names.of("client", each.client), each.number, names.of("batch", each.batch))
        for each in model.receipts
    ]
    known = plain.execute("SELECT client, number, batch FROM receipt ORDER BY client").fetchall()
    yield Compared("receipts", sorted(receipts), known)
