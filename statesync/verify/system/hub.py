"""The hub of the modelled world (sections 4, 6 and 7 of the design): pure functions."""

from __future__ import annotations

from attrs import evolve

from statesync.verify.system.world import (
    Accepted,
    Ask,
    Change,
    Conflict,
    Hub,
    Page,
    Receipt,
    Record,
    Upload,
    Verdicts,
)

PAGE_SIZE = 1


class Forked(Exception):
    """The client's number does not follow its receipt: it would look like a copied device."""


def push(hub: Hub, upload: Upload) -> tuple[Hub, Verdicts]:
    """Apply one upload batch whole, or answer its repeat from the receipt. Raises ``Forked``."""
    client = upload.client
    last = next((receipt for receipt in hub.receipts if receipt.client == client), None)
    if last is not None and (last.number, last.batch) == (upload.number, upload.id):
        return hub, last.verdicts
    if upload.number != (last.number if last else 0) + 1:
        raise Forked(f"{client} sent batch number {upload.number}")
    verdicts: list[Accepted | Conflict] = []
    for change in upload.changes:
        hub, verdict = _judge(hub, client, change)
        verdicts.append(verdict)
    receipt = Receipt(client, upload.number, upload.id, tuple(verdicts))
    others = tuple(each for each in hub.receipts if each.client != client)
    return evolve(hub, receipts=(*others, receipt)), tuple(verdicts)


def _judge(hub: Hub, client: str, change: Change) -> tuple[Hub, Accepted | Conflict]:
    found = next((record for record in hub.records if record.key == change.key), None)
    if found is not None and found.version > change.base and found.writer != client:
        return hub, Conflict(found.key, found.version, found.value)
    version = hub.head + 1
    written = Record(change.key, version, change.value, client)
    kept = tuple(record for record in hub.records if record.key != change.key)
    history = (*hub.history, (change.key, change.value, client))
    return evolve(hub, head=version, records=(*kept, written), history=history), Accepted(change.key, version)


def pull(hub: Hub, ask: Ask) -> Page:
    """Return the next page of a client's feed, its own writes left out. Raises ``Forked``."""
    last = next((receipt.number for receipt in hub.receipts if receipt.client == ask.client), 0)
    if last != ask.number:
        raise Forked(f"{ask.client} asked with number {ask.number}, its receipt has {last}")
    feed = [record for record in hub.records if record.version > ask.cursor and record.writer != ask.client]
    page = tuple(sorted(feed, key=lambda record: record.version)[:PAGE_SIZE])
    more = len(feed) > len(page)
    return Page(page, page[-1].version if more else hub.head, more)
