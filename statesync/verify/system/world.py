"""The modelled world: two devices, a hub, the wire between them, and what may still go wrong.

All are frozen values, so that a world can be remembered, compared and explored. The conversation in it is
the real one (``statesync.protocol``); device, hub and network are the smallest things that behave like the
real ones (sections 4 to 7 of the design).
"""

from __future__ import annotations

from attrs import field, frozen

from statesync.errors import RemoteError
from statesync.lifecycle import Phase
from statesync.protocol.conversation import Conversation
from statesync.protocol.messages import Answered, Event, RequestFailed
from statesync.verify.evolving import evolve
from statesync.verify.modelled.device import Device
from statesync.verify.modelled.downloads import Fetched
from statesync.verify.modelled.hub import Hub
from statesync.verify.modelled.uploads import Batch, Verdicts
from statesync.verify.modelled.wire import Fields, Filter, Page, Pull, PushAnswer, Request, Scan
from statesync.verify.system.happening import Budget, Happening, Kind


@frozen(slots=False, cache_hash=True)
class Failed:
    """What comes back instead of an answer. Errors are compared by identity: each kind is made once."""

    error: RemoteError


Reply = PushAnswer | Page | Failed


@frozen(slots=False, cache_hash=True)
class Ahead:
    """A page that was asked for before its batch was opened, and what has come of it."""

    request: Pull
    reply: Reply | None = None


@frozen(slots=False, cache_hash=True)
class Asked:
    """Who the device was, and how far its object was read, when it asked for something.

    ``scan``, ``floors`` and ``filter`` are as on the device, and ``beside`` is where its other object was.
    """

    client: str
    place: tuple[int, str | None, int, int, int]
    scan: Scan | None = None
    floors: tuple[tuple[str, int], ...] = ()
    filter: Filter | None = None
    beside: Asked | None = None


@frozen(slots=False, cache_hash=True)
class Options:
    """What a session was asked to do. ``batch_size`` are the records of an upload batch."""

    uploads: bool = True
    downloads: bool = True
    policy: str = "merge_fields"
    batch_size: int = 1


@frozen(slots=False, cache_hash=True)
class Talk:
    """A session that runs, with all that a crash would make it forget.

    ``next`` is what its driver hears next, if no cancel comes first. ``request`` is under way; with ``reply``
    it is on its way back. ``taken`` is an answer that was checked and is not stored yet. ``backs_off`` and
    ``grace`` are timers that run, ``builds`` says that an index is being built. ``gave_up``: the conversation
    has an error of the upload, which it does not compare by. ``looks`` are the descriptions that the session
    began with, ``asked`` is where the request of the open batch was asked from. ``held_before`` counts what
    was in quarantine when it began.

    For the promises alone: ``told`` counts the records, up and down, that the program heard of; ``accepted``
    are the records that the hub took in this session, a replay left out, and ``waited`` those that had
    changes when it began.
    """

    conversation: Conversation
    options: Options
    next: Event | None
    batch: Batch | None = None
    request: Request | None = None
    reply: Reply | None = None
    ahead: Ahead | None = None
    taken: Verdicts | Fetched | None = None
    backs_off: bool = False
    builds: bool = False
    grace: float | None = None
    gave_up: bool = False
    looks: tuple[tuple[str, int], ...] = ()
    asked: Asked | None = None
    held_before: int = 0
    told: tuple[int, int] = (0, 0)
    accepted: tuple[str, ...] = ()
    waited: tuple[str, ...] = ()

    @property
    def is_under_way(self) -> bool:
        """Whether the end of a request has not been heard of."""
        return self.request is not None or isinstance(self.next, Answered | RequestFailed)


@frozen(slots=False, cache_hash=True)
class Plan:
    """A session that will be begun: by which device, and how."""

    device: int
    options: Options = field(factory=Options)


@frozen(slots=False, cache_hash=True)
class Written:
    """One write on the hub, in the epoch of its time; 0 for one that a restored backup may not have."""

    epoch: int
    key: str
    data: Fields | None
    writer: str


@frozen(slots=False, cache_hash=True)
class World:
    """Everything. ``running`` is the device whose session runs; ``plans`` are the sessions after it.

    ``late`` is a request whose sender does not wait any more: it reaches the hub at any time, or never.
    ``backup`` is what the hub can be restored from; ``most_later`` are the bytes that it allows a record once
    the first session is over. For the promises alone: ``ended`` is the phase that
    the last session ended in, ``written`` is what devices have written on the hub, and ``is_odd`` says that
    the hub may get a reason to doubt a device.
    """

    hub: Hub
    devices: tuple[Device, Device]
    plans: tuple[Plan, ...]
    budget: Budget
    running: int = 0
    talk: Talk | None = None
    late: Request | None = None
    backup: Hub | None = None
    most_later: int = 1 << 20
    ended: Phase | None = None
    written: tuple[Written, ...] = ()
    is_odd: bool = False

    @property
    def device(self) -> Device:
        """The device whose session runs."""
        return self.devices[self.running]

    @property
    def is_over(self) -> bool:
        """Whether the last session has ended."""
        return self.talk is None and not self.plans

    def after(self, kind: Kind, times: int = 1) -> World:
        """Return this world with an accident less to come."""
        return evolve(self, budget=self.budget.without(kind, times))


@frozen
class Step:
    """One thing that happens, where it leads, and the promise that it breaks, if it does."""

    happening: Happening
    words: str
    target: World
    broken: str | None = None
