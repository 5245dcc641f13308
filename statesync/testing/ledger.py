"""A ledger of what people wrote on their devices, to be settled in the end: nothing may be lost.

Every local write is a *claim*: these columns were given these values, or the record was deleted. A claim is
settled if the hub once held it, if the device's conflict log tells that it lost, or if it still waits in the
outbox. A write to a record whose last change had not gone up yet takes that claim over.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field

from statesync.classes import define
from statesync.conflicts import Record
from statesync.testing.sites import WorldDevice, WorldHub

_Place = tuple[str, str, str]


@define(eq=False)
class Ledger:
    """The claims of every device, by (device, object, key); a claim of None is a delete.

    ``deleted`` are the records, by (object, key), that somebody has deleted somewhere.
    """

    _claims: dict[_Place, list[Record | None]] = field(factory=dict, init=False)
    deleted: set[tuple[str, str]] = field(factory=set, init=False)
    _made: set[_Place] = field(factory=set, init=False)
    """Where the last claim began with no record: if that is deleted before it goes up, nothing is claimed."""

    def note(
        self,
        device: WorldDevice,
        name: str,
        key: str,
        before: Record | None,
        after: Record | None,
        *,
        was_pending: bool,
        has_left: bool = False,
    ) -> None:
        """Enter one write that made ``before`` into ``after``; None is a record that is not there.

        ``has_left`` says that the hub has had the record from this device, whatever the device knows of it.
        """
        if before == after:
            return
        place = (device.name, name, key)
        claims = self._claims.setdefault(place, [])
        earlier = claims.pop() if was_pending and claims else None
        if not was_pending:
            (self._made.discard if before else self._made.add)(place)
        if after is None:
            self.deleted.add((name, key))
            if has_left or not was_pending or place not in self._made:
                claims.append(None)
        else:
            changed = {
                column: value for column, value in after.items() if (before or {}).get(column) != value
            }
            still = {column: after[column] for column in earlier or {} if column in after}
            claims.append(still | changed if before is not None else after)

    def claim(self, device: WorldDevice, name: str, key: str, values: Record) -> None:
        """Enter values that were decided on: what was claimed before is settled by the conflict log."""
        self._claims.setdefault((device.name, name, key), []).append(values)

    def let_go(self, device: WorldDevice, name: str, key: str) -> None:
        """Let go of the write that waits: the device has written the record anew, for itself alone."""
        claims = self._claims.get((device.name, name, key))
        if claims:
            claims.pop()

    def forget(self, device: WorldDevice) -> None:
        """Let go of all that a device wrote: its conflict log is lost, and nobody can tell any more."""
        for place in [place for place in self._claims if place[0] == device.name]:
            del self._claims[place]

    def forget_column(self, device: WorldDevice, column: str) -> None:
        """Claim nothing any more of a column that a device has not got any more."""
        for (who, *_), claims in self._claims.items():
            for claim in claims:
                if who == device.name and claim is not None:
                    claim.pop(column, None)

    def lost(self, devices: dict[str, WorldDevice], hub: WorldHub) -> list[str]:
        """Return a line for every claim that was lost."""
        return list(self._lost(devices, hub))

    def _lost(self, devices: dict[str, WorldDevice], hub: WorldHub) -> Iterator[str]:
        for (who, name, key), claims in self._claims.items():
            device = devices[who]
            held = hub.history(device.objects[name], key)
            logged = [local for _, local, _, _ in device.conflicts(name, key)]
            waits = (name, key) in device.pending_keys()
            for claim in claims:
                if not waits and not _is_settled(claim, held, logged):
                    said = "the delete" if claim is None else f"{claim}"
                    yield f"{who} wrote {said} to {name} {key}, and that was lost"

    def made_up(self, hub: WorldHub) -> list[str]:
        """Return a line for every delete that the hub has heard of, and that nobody has made."""
        made_up = hub.deleted() - self.deleted
        return [f"nobody has deleted {name} {key}, and the hub was told so" for name, key in made_up]


def _is_settled(claim: Record | None, held: list[Record | None], logged: list[Record | None]) -> bool:
    if claim is None:
        return None in logged or not held or None in held
    return not claim or any(_contains(record, claim) for record in (*held, *logged))


def _contains(record: Record | None, claim: Record) -> bool:
    return record is not None and all(record.get(column) == value for column, value in claim.items())
