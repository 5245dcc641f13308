"""Refusals in a ``SyncWorld``: a hub that takes no large records for a time, and what it has refused.

What is parked stays so until its record is written, or until a program asks for it. Whatever else is written
arrives, and once the hub takes everything again, what was parked goes up by a ``retry()`` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import peewee
from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync.testing.faults import Fault
from statesync.testing.sites import ORDINARY, WorldDevice
from statesync.testing.world import SyncWorld, Write
from statesync.values import Part, PendingChange

_sites = st.integers(0, 7)
_faults = st.lists(st.none() | st.sampled_from(Fault), max_size=4)


class Refusals(SyncWorld):
    """A world whose hub refuses records for being too large, and changes its mind."""

    def __init__(self) -> None:
        super().__init__()
        self._writes: Counter[str] = Counter()

    # -- what happens --------------------------------------------------------------------------------

    @rule(most=st.sampled_from([1, 50, 130]))
    def refuse_large_records(self, most: int) -> None:
        """Whoever runs the hub lowers the limit of a record."""
        self.hub.limit(evolve(self.hub.limits, record=most))

    @rule()
    def answer_in_pieces(self) -> None:
        """Whoever runs the hub lets an answer carry one record: the others in conflict come later."""
        self.hub.limit(evolve(self.hub.limits, page_bytes=1))

    @rule()
    def take_all_records(self) -> None:
        """Whoever runs the hub gives the records their room again."""
        self.hub.limit(ORDINARY)

    @rule(site=_sites, data=st.data())
    def retry(self, site: int, data: st.DataObject) -> None:
        """A program asks for what was refused: for one record, for one object, or for all of it."""
        device = self._device(site)
        before = device.waiting()
        parked = sorted(place for place, change in before.items() if change.parked)
        places = [(None, None), *((name, None) for name in device.objects), *parked]
        name, key = data.draw(st.sampled_from(places))
        asked = {(of, k) for of, k in parked if name in (None, of) and key in (None, k)}
        assert device.store.retry(name, key) == len(asked)
        after = device.waiting()
        assert after == {
            place: evolve(change, parked=None if place in asked else change.parked)
            for place, change in before.items()
        }

    @rule(site=_sites, at=st.integers(1, 200), faults=_faults)
    def crash(self, site: int, at: int, faults: list[Fault | None]) -> None:
        """A program that syncs ends anywhere, and parks no more and no less by that."""
        device = self._device(site)
        with self._parking_kept(device):
            super().crash(site, at, faults)

    def before_the_end(self) -> None:
        """Take away the cause of all refusals, and ask for what was refused, also in doubt."""
        self.take_all_records()
        for device in self.devices:
            device.remote.calm()
            if device.has_doubt():  # the hub has answered it, and gives that answer again
                self.let_sync(device, [], None)
            device.store.retry()
        super().before_the_end()

    # -- what must hold ------------------------------------------------------------------------------

    def let_sync(
        self,
        device: WorldDevice,
        faults: list[Fault | None],
        cancel_at: int | None,
        meanwhile: Write | None = None,
        *,
        during: Part = Part.UPLOAD,
        only: type[peewee.Model] | None = None,
    ) -> None:
        """Let a device sync: what is parked is not sent, and what is refused is counted."""
        known, doubtful, writes = device.refusals(), device.has_doubt(), self._writes[device.name]
        sessions = {session.id for session in device.store.sessions()}
        with self._parking_kept(device):
            super().let_sync(device, faults, cancel_at, meanwhile, during=during, only=only)
        # What was edited in doubt is refused, and may be accepted then.
        if writes == self._writes[device.name] and not doubtful:
            _check_counted(device, known, sessions)

    def write(self, device: WorldDevice, write: Write) -> None:
        """Let a write happen, also amid a session: it lets what was parked go up again."""
        self._writes[device.name] += 1
        super().write(device, write)

    @contextmanager
    def _parking_kept(self, device: WorldDevice) -> Iterator[None]:
        """Hold a device to Q2: what is parked, and was not written since, stays parked as it is.

        What was written meanwhile may have been sent again, and accepted. Where a program has described an
        object anew, all of it may.
        """
        before, writes, described = device.waiting(), self._writes[device.name], device.descriptions()
        yield
        after, now = device.waiting(), device.descriptions()
        for place, change in before.items():
            if change.parked is not None and now.get(place[0]) == described.get(place[0]):
                is_written = self._writes[device.name] > writes
                _check_parked(device, place, change, after.get(place), is_written=is_written)


def _check_parked(
    device: WorldDevice,
    place: tuple[str, str],
    change: PendingChange,
    now: PendingChange | None,
    *,
    is_written: bool,
) -> None:
    if now is not None and now.revision == change.revision:
        assert now.parked == change.parked, f"{device.name}: {place} left its parking without a reason"
    elif now is None and not is_written:
        assert place not in device.records(), f"{device.name}: {place} was parked, and went"


def _check_counted(device: WorldDevice, before: Counter[tuple[str, str]], sessions: set[str]) -> None:
    """Hold a device to Q3: a session's journal counts as many refusals as the outbox.

    A conflict that was decided made a new change of an old one: what that is refused counts from nothing.
    """
    details = [
        entry.detail
        for session in device.store.sessions()
        if session.id not in sessions
        for entry in device.store.journal(session.id)
        if entry.trigger == "commit_batch"
    ]
    counted = sum(detail.get("rejected", 0) for detail in details)
    in_outbox = (device.refusals() - before).total()
    is_exact = not any(detail.get("conflicts", 0) for detail in details)
    assert counted == in_outbox or (counted > in_outbox and not is_exact), (
        f"{device.name} counts its refusals otherwise"
    )
