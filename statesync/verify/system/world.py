"""The modelled world: two devices, a hub, the wire between them, and what may still go wrong.

All are frozen values, so that a world can be remembered, compared and explored. The conversation in it is
the real one (``statesync.protocol``); store, hub and network are the smallest things that behave like the
real ones (sections 4 to 7 of the design).
"""

from __future__ import annotations

from attrs import frozen

from statesync.lifecycle import Phase
from statesync.protocol.messages import Begin, Conversation, GoOn, Prepare, Wait
from statesync.values import Direction


@frozen(cache_hash=True)
class Change:
    """One net change in a device's outbox. ``position`` is the order in which it was first made."""

    key: str
    value: str
    base: int
    revision: int
    position: int


@frozen(cache_hash=True)
class Upload:
    """One upload batch as it is sent: the exact payload under its id and number."""

    client: str
    id: str
    number: int
    changes: tuple[Change, ...]


@frozen(cache_hash=True)
class Accepted:
    """The hub wrote the change."""

    key: str
    version: int


@frozen(cache_hash=True)
class Conflict:
    """Another device wrote the record since: this is what the hub has."""

    key: str
    version: int
    value: str


@frozen(cache_hash=True)
class Record:
    """One record of the hub."""

    key: str
    version: int
    value: str
    writer: str


@frozen(cache_hash=True)
class Page:
    """Records in the order of their versions, and the cursor to save with them."""

    records: tuple[Record, ...]
    cursor: int
    more: bool


Verdicts = tuple[Accepted | Conflict, ...]


@frozen(cache_hash=True)
class Receipt:
    """What the hub keeps of a client's last batch."""

    client: str
    number: int
    batch: str
    verdicts: Verdicts


@frozen(cache_hash=True)
class Hub:
    """The hub. ``history`` has every value that was ever written, with its writer."""

    head: int
    records: tuple[Record, ...]
    receipts: tuple[Receipt, ...] = ()
    history: tuple[tuple[str, str, str], ...] = ()


@frozen(cache_hash=True)
class Device:
    """What one device's database holds; all of it survives a crash.

    ``upload`` is the staged payload, ``in_doubt`` that it was sent and has no answer yet. ``lost`` is the
    conflict log, ``received`` the records that came from the feed, ``typed`` what its user entered.
    ``committed`` has direction and records of every batch that the journal shows as committed.
    """

    name: str
    rows: tuple[tuple[str, str], ...]
    cursor: int
    outbox: tuple[Change, ...] = ()
    number: int = 0
    batches_made: int = 0
    positions: int = 0
    upload: Upload | None = None
    in_doubt: bool = False
    open_batch: tuple[int, Direction] | None = None
    lost: tuple[tuple[str, str], ...] = ()
    received: tuple[tuple[str, int], ...] = ()
    typed: tuple[tuple[str, str], ...] = ()
    uploaded: int = 0
    downloaded: int = 0
    committed: tuple[tuple[Direction, int], ...] = ()


@frozen(cache_hash=True)
class Lost:
    """The request ended without an answer; ``maybe_applied`` is all that the device knows."""

    maybe_applied: bool


@frozen(cache_hash=True)
class Ask:
    """The request for the next page."""

    client: str
    number: int
    cursor: int


Request = Upload | Ask
Reply = Verdicts | Page | Lost


@frozen(cache_hash=True)
class Budget:
    """How often each accident may still happen."""

    cancels: int = 1
    crashes: int = 1
    lost_requests: int = 1
    lost_answers: int = 1
    edits: int = 1


NOTHING_HAPPENS = Budget(0, 0, 0, 0, 0)


@frozen(cache_hash=True)
class Talk:
    """A session that runs, with all that a crash would make it forget.

    ``awaits`` is what its driver will do next, ``request`` what is under way to the hub, ``reply`` what is
    under way back. ``horizon``, ``looked_through`` and ``round`` tell the outbox's place.
    """

    conversation: Conversation
    awaits: Begin | Prepare | GoOn | Wait | None
    request: Request | None = None
    reply: Reply | None = None
    draining: bool = False
    horizon: int = 0
    looked_through: int = 0
    round: int = 0
    next_upload: Upload | None = None


@frozen(cache_hash=True)
class World:
    """Everything. ``stage`` 0 is the session in which accidents happen, 1 and 2 are undisturbed ones.

    ``late`` is a request whose sender does not wait any more: it reaches the hub at any time, or never.
    ``ended`` are the phases that sessions ended in.
    """

    hub: Hub
    devices: tuple[Device, Device]
    policy: str
    stage: int
    budget: Budget
    talk: Talk | None
    late: Request | None = None
    ended: tuple[Phase, ...] = ()

    @property
    def running(self) -> int:
        """The index of the device whose turn it is."""
        return 1 if self.stage == 2 else 0

    @property
    def device(self) -> Device:
        """The device whose turn it is."""
        return self.devices[self.running]

    @property
    def is_over(self) -> bool:
        """Whether the last session has ended."""
        return self.stage > 2
