"""The device database of the modelled world: what each effect of a decision writes (sections 4 and 5)."""

from __future__ import annotations

from attrs import evolve

from statesync.values import Direction
from statesync.verify.system.world import Accepted, Change, Conflict, Device, Page, Upload, Verdicts

BATCH_SIZE = 1


def edit(device: Device, key: str, value: str) -> Device:
    """Return ``device`` after its user wrote ``value``; changes of one record fold into one."""
    pending = next((change for change in device.outbox if change.key == key), None)
    if pending is None:
        position = device.positions + 1
        change = Change(key, value, device.cursor, 1, position)
        outbox = (*device.outbox, change)
    else:
        position = device.positions
        change = evolve(pending, value=value, revision=pending.revision + 1)
        outbox = tuple(change if each is pending else each for each in device.outbox)
    return evolve(
        device,
        rows=put(device.rows, key, value),
        outbox=outbox,
        positions=position,
        typed=(*device.typed, (key, value)),
    )


def put(rows: tuple[tuple[str, str], ...], key: str, value: str) -> tuple[tuple[str, str], ...]:
    """Return ``rows`` with one value changed, in the order of their keys."""
    return tuple(sorted({**dict(rows), key: value}.items()))


def next_upload(device: Device, looked_through: int, horizon: int) -> Upload | None:
    """Return the next upload batch, None if nothing waits up to the horizon."""
    waiting = sorted(
        (change for change in device.outbox if looked_through < change.position <= horizon),
        key=lambda change: change.position,
    )
    if not waiting:
        return None
    made = device.batches_made + 1
    return Upload(device.name, f"{device.name}{made}", device.number + 1, tuple(waiting[:BATCH_SIZE]))


def store_verdicts(device: Device, verdicts: Verdicts, policy: str) -> Device:
    """Return ``device`` after one transaction with all verdicts of its upload batch."""
    upload = device.upload
    if upload is None:
        raise ValueError("no upload batch is staged")
    for sent, verdict in zip(upload.changes, verdicts, strict=True):
        now = next((change for change in device.outbox if change.key == sent.key), None)
        if isinstance(verdict, Accepted):
            device = _acknowledge(device, sent, now, verdict)
        elif now is not None:
            device = _resolve(device, now, verdict, policy)
    accepted = sum(isinstance(verdict, Accepted) for verdict in verdicts)
    return evolve(
        device,
        number=upload.number,
        upload=None,
        in_doubt=False,
        uploaded=device.uploaded + accepted,
        committed=(*device.committed, (Direction.UPLOAD, accepted)),
    )


def _acknowledge(device: Device, sent: Change, now: Change | None, verdict: Accepted) -> Device:
    """The change leaves only if it is still the one that was sent; an edit since then stays."""
    if now is None or now.revision == sent.revision:
        return _without(device, sent.key)
    return _changed(device, evolve(now, base=verdict.version))


def _resolve(device: Device, now: Change, verdict: Conflict, policy: str) -> Device:
    if policy == "client_wins":
        lost = (*device.lost, (verdict.key, verdict.value))
        return evolve(_changed(device, evolve(now, base=verdict.version)), lost=lost)
    kept = evolve(_without(device, now.key), lost=(*device.lost, (now.key, now.value)))
    return evolve(kept, rows=put(kept.rows, verdict.key, verdict.value))


def resent(verdicts: Verdicts, policy: str) -> int:
    """Return how many records of an answer must go up again."""
    return sum(isinstance(verdict, Conflict) for verdict in verdicts) if policy == "client_wins" else 0


def _without(device: Device, key: str) -> Device:
    return evolve(device, outbox=tuple(change for change in device.outbox if change.key != key))


def _changed(device: Device, change: Change) -> Device:
    return evolve(device, outbox=tuple(change if each.key == change.key else each for each in device.outbox))


def store_page(device: Device, page: Page) -> Device:
    """Return ``device`` after one transaction with a page; what has a pending change is not overwritten."""
    pending = {change.key for change in device.outbox}
    rows = device.rows
    for record in page.records:
        if record.key not in pending:
            rows = put(rows, record.key, record.value)
    return evolve(
        device,
        rows=rows,
        cursor=page.cursor,
        received=(*device.received, *((record.key, record.version) for record in page.records)),
        downloaded=device.downloaded + len(page.records),
        committed=(*device.committed, (Direction.DOWNLOAD, len(page.records))),
    )
