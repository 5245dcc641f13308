"""The story, in five acts. Each ends with checks of what it has shown."""

from __future__ import annotations

from collections.abc import Callable

from statesync.demo.airports import load_airports
from statesync.demo.killed import kill_while_downloading
from statesync.demo.offline import edit_offline
from statesync.demo.report import Holding, Play, SessionRow
from statesync.demo.stage import Device, digest
from statesync.errors import SyncCancelled
from statesync.lifecycle import BatchTrigger, Phase, Trigger
from statesync.session.telling.tracing import each_step
from statesync.values import JournalEntry, Part, Progress, State, SyncOptions

OPTIONS = SyncOptions(upload_batch_size=1000, download_batch_size=500)


def upload_everything(play: Play) -> None:
    """A program fills device A, and its first sync sends all of it to the hub."""
    a = play.stage.device("A")
    play.teller.act("Device A has the airports, the hub has none")
    loaded = load_airports(a.store, a.airports)
    play.teller.say(f"A's program has inserted {loaded:,} airports; {len(a.store.pending()):,} changes wait")
    with play.teller.transfer("A uploads", loaded) as show:
        a.scope.sync(OPTIONS, on_progress=show)
    last = a.last_session()
    play.teller.say(f"A uploaded {last.stats.uploaded:,} records in {last.stats.elapsed:.1f} s")
    held = play.stage.hub.records()
    play.expect(
        "the hub holds what A holds", held == a.records(), f"{len(held):,} records, compared one by one"
    )
    play.expect("nothing waits on A", not a.store.pending(), f"{len(a.store.pending())} changes")


def cancel_in_the_middle(play: Play) -> None:
    """Device B's first download is cancelled; its second session goes on from the last committed batch."""
    b, total = play.stage.device("B"), len(play.stage.hub.records())
    play.teller.act("Device B downloads, and is cancelled in the middle")
    with play.teller.transfer("B downloads", total) as show:
        _sync_and_cancel(b, total // 2, show)
    saved = b.count()
    _check_cancelled(play, b, saved, total)
    with play.teller.transfer("B goes on", total - saved) as show:
        b.scope.sync(OPTIONS, on_progress=show)
    _check_second_session(play, b)


def _sync_and_cancel(b: Device, at: int, show: Callable[[Progress], None]) -> None:
    """Sync, and cancel while the request of a batch is under way."""

    def watch(event: Progress) -> None:
        show(event)
        if event.part is Part.DOWNLOAD and event.state is State.STARTED and event.records >= at:
            b.scope.cancel_sync()

    try:
        with each_step(watch):
            b.scope.sync(OPTIONS)
    except SyncCancelled:
        return


def _check_cancelled(play: Play, b: Device, saved: int, total: int) -> None:
    session = b.last_session()
    play.teller.say(f"cancelled after {len(session.stats.batches)} batches: {saved:,} records are saved")
    play.expect(
        "the session is cancelled, the rest is left",
        session.phase is Phase.CANCELLED and 0 < saved < total,
        f"{session.phase} with {saved:,} of {total:,}",
    )
    play.expect(
        "B holds what its journal says",
        saved == session.stats.downloaded,
        f"{saved:,} in the table, {session.stats.downloaded:,} in the journal",
    )
    later = _begun_after_cancel(b.store.journal(session.id))
    play.expect("no batch was begun after the cancel", later == 0, f"{later} in the journal")


def _begun_after_cancel(journal: list[JournalEntry]) -> int:
    triggers = [entry.trigger for entry in journal]
    after = triggers[triggers.index(Trigger.CANCEL) :] if Trigger.CANCEL in triggers else triggers
    return after.count(Trigger.OPEN_BATCH) + after.count(BatchTrigger.SEND)


def _check_second_session(play: Play, b: Device) -> None:
    second, held = b.last_session(), play.stage.hub.records()
    play.teller.say(f"B's second session fetched {second.stats.downloaded:,} records")
    play.expect("B holds what the hub holds", b.records() == held, f"{b.count():,} of {len(held):,} records")
    sent = play.stage.hub.keys_sent_to(b)
    play.expect(
        "no record was sent to B twice",
        sorted(sent) == sorted(held),
        f"the hub sent {len(sent):,}, {len(set(sent)):,} different ones",
    )


def edit_on_both_sides(play: Play) -> None:
    """A and B edit the same airports offline and sync until they agree."""
    play.teller.act("A and B edit the same airports offline, then sync until they agree")
    edit_offline(play, OPTIONS)


def kill_in_the_middle(play: Play) -> None:
    """Device C's program is killed while it downloads, opened again and synced."""
    play.teller.act("Device C is killed in the middle of a download")
    kill_while_downloading(play, OPTIONS)


def compare_all(play: Play) -> None:
    """Whatever happened, hub and devices hold the same records."""
    play.teller.act("In the end")
    found = holdings(play)
    same = len({(holding.records, holding.checksum) for holding in found}) == 1
    alike = found[:1] if same else found
    play.expect(
        f"{', '.join(holding.holder for holding in found)} hold the same records",
        same,
        "; ".join(f"{holding.records:,}, checksum {holding.checksum}" for holding in alike),
    )


ACTS: tuple[Callable[[Play], None], ...] = (
    upload_everything,
    cancel_in_the_middle,
    edit_on_both_sides,
    kill_in_the_middle,
    compare_all,
)


def holdings(play: Play) -> tuple[Holding, ...]:
    """Return what the hub and each device hold now."""
    held = {"hub": play.stage.hub.records()}
    held |= {name: device.records() for name, device in play.stage.devices.items()}
    return tuple(Holding(name, len(records), digest(records)) for name, records in held.items())


def history(play: Play) -> tuple[SessionRow, ...]:
    """Return every session of every device, in the order in which they began."""
    found = [(name, info) for name, device in play.stage.devices.items() for info in device.sessions()]
    return tuple(
        SessionRow(
            name,
            info.id,
            info.phase,
            info.reason,
            len(info.stats.batches),
            info.stats.uploaded,
            info.stats.downloaded,
            round(info.stats.elapsed, 3),
        )
        for name, info in sorted(found, key=lambda row: row[1].id)
    )
