"""What travels between device and hub: the shapes of section 6 of the design, and nothing else.

Records travel as the JSON text that their device wrote (``msgspec.Raw``); whoever only passes a record
on does not decode it. These are msgspec structs, not attrs values, because every record of every page
passes through them. Those that there are thousands of hold nothing but texts and numbers, so Python need not
look for cycles in them (``gc=False``): it would do so some times a page.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from statesync.filters import WireFilter

MAX_VERSION = (1 << 63) - 1
"""The last version of a space, which is the largest integer of a database: a hub takes whatever versions it
can have given out, and gives out none that it would not take."""

MAX_NUMBER = 1 << 48
"""The highest number of a batch that a device believes to have been acknowledged. It counts on from there, so
a hub reads any number: one that it has not given out is never its own."""

Version = Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)]
"""A version of a record, or the version up to which a feed is read."""

Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
"""The number of a client's last batch."""

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""How many there are of something."""

MAX_KEY_LENGTH = 255
"""Characters that a record's key may have."""

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_KEY_LENGTH)]
"""The key of a record."""

Position = Annotated[str, msgspec.Meta(max_length=MAX_KEY_LENGTH)]
"""A key, or the empty text before all keys."""

MAX_RECORD_BYTES = 8 << 20
"""Bytes of JSON that a device sends of one record; a hub may allow less, and rejects it then."""

MAX_BATCH_BYTES = 8 << 20
"""Bytes of JSON at which a device closes a batch; a hub takes bodies of twice that, and some more."""


class Change(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One record that a device offers.

    ``base`` is the version up to which the device had seen the hub when the record was first changed. 0
    means that it knows of no such record on any hub: that is in conflict with a living record of another
    writer, not with a tombstone. 1 and more: in conflict with a newer version of another writer, tombstones
    included, and, where the hub has nothing under this key and the base is below its horizon, with the
    tombstone that was purged.

    ``since``, where it is more than the base, stands for it in that last question: a base that says nothing
    of edits, because the hub has begun another epoch, may still say which deletes the device has heard of.
    And a record of base 0 that some hub may have had all the same, as its answer was lost, is in conflict
    with its tombstone, and may have been purged, too.
    """

    object: str
    key: str
    op: Literal["upsert", "delete"]
    base: int
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    since: int = 0


class Push(msgspec.Struct, frozen=True):
    """One upload batch.

    ``number`` follows the client's receipt; the same number with the same ``batch`` is a repeat.
    ``hub`` and ``epoch`` are what the device believes, None before its first answer; the hub refuses the
    batch, and applies nothing, where they are not its own. ``head`` is the highest head that the device has
    been told of: a hub that is behind it was restored from a backup. ``offers_again`` says that the device
    knows conflicts without their record (see ``Conflicted``); a hub sends such to no other device.
    """

    client: str
    number: int
    batch: str
    hub: str | None
    epoch: str | None
    changes: msgspec.Raw
    """A JSON list of ``Change``."""
    head: int = 0
    offers_again: bool = False


class Accepted(msgspec.Struct, frozen=True, tag_field="status", tag="accepted", gc=False):
    """The hub wrote the change under ``version``."""

    version: Version


class Conflicted(msgspec.Struct, frozen=True, tag_field="status", tag="conflict"):
    """Somebody else wrote the record since ``base``: this is what the hub has.

    A record that is not deleted may come without its data: it did not fit into the answer, or the answer is
    that to a repeat. Nothing is known of it then but that the change was not applied. The device offers the
    change again, in a later batch, and each answer brings the data of at least one of its conflicts.
    """

    version: Version
    deleted: bool = False
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def lacks_record(self) -> bool:
        """Whether the hub has a record that did not come with the verdict."""
        return not self.deleted and self.data is msgspec.UNSET


class Rejected(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="status", tag="rejected"):
    """The hub will not take this record.

    ``field`` is what it does not like of it, and ``retry_after`` after how many seconds it may take the very
    same; without that it will not, before something has changed.
    """

    code: str
    message: str
    field: str | None = None
    retry_after: float | None = None


Verdict = Accepted | Conflicted | Rejected


class PushAnswer(msgspec.Struct, frozen=True):
    """One verdict for each change of the batch, in its order."""

    hub: str
    epoch: str
    head: Version
    results: list[Verdict]


class Scan(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a read of one object in the order of its keys has come (see ``docs/scan.md``).

    ``since`` is the head of the hub when it began, ``after`` the last key that it has looked at, and
    ``until`` the greatest key that there was when it began. Without any of them it begins: the hub says what
    they are. ``spares`` asks for no more than the keys of what the client has written itself: it has that.
    """

    since: int = 0
    after: str = ""
    until: str = ""
    spares: bool = False


class Feed(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one object is to be read.

    ``cursor`` is the version up to which it has been applied. ``own`` asks for the client's own writes
    too, which a re-read needs. ``filter`` maps a field to the values that it may have, and the empty name to
    the keys: a record that does not match travels as deleted.

    ``begun``, amid a read from the start, is the head of the page that began it, which answered the cursor 0;
    else it is 0. All that such a read has met was there then. So it has missed no delete while the hub has
    purged none that came later, however far below that its cursor is.

    ``scan`` asks for records in the order of their keys. A hub that does not know scans passes over it, and
    goes by the rest; so the page that it answers has no ``scans``.
    """

    cursor: int
    own: bool = False
    filter: WireFilter | None = None
    begun: int = 0
    scan: Scan | None = None


class Pull(msgspec.Struct, frozen=True):
    """Ask for one page; ``number`` is the client's last acknowledged batch, ``limit`` 0 the hub's choice.

    ``hub``, ``epoch`` and ``head`` are as in ``Push``.
    """

    client: str
    number: int
    hub: str | None
    epoch: str | None
    objects: dict[str, Feed]
    limit: int
    head: int = 0


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One record of a page; ``data`` is left out of a deleted one.

    Both fields stay as they travel: to make one value of them for each record takes two and a half times as
    long as decoding it does, and every record of every page passes through here.
    """

    object: str
    key: str
    version: Version
    deleted: bool = False
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Scanned(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a page leads the scan of one object: it has looked at all keys up to ``last``, or at all keys
    if it is ``done``.

    ``since`` and ``until`` are as in ``Scan``. ``stubs`` are the keys, in their order, of living records that
    are newer than ``since``: the feed brings them. ``count``, on the first page of an object, is about how
    many living records there are; it is for the progress, and may be wrong.
    """

    since: Version
    until: Position
    last: Position
    done: bool
    stubs: list[Key] = []
    count: Count | None = None


class Page(msgspec.Struct, frozen=True, omit_defaults=True):
    """Records in the order of their versions, and the cursors to save with them.

    A page of ``scans`` has one object's records after the other's, each in the order of their keys. It has
    nothing of the feeds. A scan that it does not speak of was not reached; a page without any is one of the
    feeds, also where a scan was asked for.
    """

    hub: str
    epoch: str
    head: Version
    changes: list[Entry]
    cursors: dict[str, Version]
    more: bool
    scans: dict[str, Scanned] = {}


class Survey(msgspec.Struct, frozen=True):
    """Ask what the hub has of one object, for a comparison with what the device has.

    ``columns`` are those that count for a record's digest (see ``digest``). ``bounds`` cut the keys into
    ranges: each begins at its bound and ends before the next; the last one ends before ``until`` (None: at
    the end). ``listed`` asks for the records themselves, not for a tally of each range. ``partial`` says
    that tallies may be of a part of the keys: the answer says from which one to ask on, and they add up.
    """

    client: str
    hub: str | None
    epoch: str | None
    object: str
    columns: list[str]
    bounds: list[str]
    until: str | None = None
    listed: bool = False
    filter: WireFilter | None = None
    partial: bool = False


class Tally(msgspec.Struct, frozen=True):
    """How many records a range of keys has, and the sum of their digests in hexadecimal."""

    count: Count
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record that the hub has, or the tombstone of one (no digest)."""

    key: str
    version: Version
    digest: str | None = None


class SurveyAnswer(msgspec.Struct, frozen=True):
    """A tally for each range, or records in the order of their keys; the rest is from ``goes_on_at`` on."""

    hub: str
    epoch: str
    head: Version
    tallies: list[Tally]
    records: list[Finding]
    goes_on_at: str | None = None


class Signal(msgspec.Struct, frozen=True):
    """How far a space has come; ``epoch`` is None for a space that there is not yet.

    A hub answers the question for changes with it as soon as the head is another one than it was asked about,
    or when the time is over. It carries no records: it is a hint that there are some.
    """

    epoch: str | None
    head: Version


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was refused; ``epoch`` and ``number`` tell how to go on after ``epoch_changed``.

    ``highest`` comes with it where no new epoch was begun for what the device says that it has seen: the
    highest version that there can be here. Of what it has seen above that, the device cannot know when it
    was written.
    """

    code: str
    message: str
    hub: str | None = None
    epoch: str | None = None
    number: Number | None = None
    highest: Version | None = None


class Refusal(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: Problem


# The refusals that a device answers by adapting itself, not by failing.
CLIENT_FORKED = "client_forked"
EPOCH_CHANGED = "epoch_changed"
HORIZON_PASSED = "horizon_passed"
WRONG_HUB = "wrong_hub"

EPOCH_AWAITED = "epoch_awaited"
"""The refusal of a device that would begin a new epoch so soon after the last one."""

VERSIONS_USED_UP = "versions_used_up"
"""The refusal of a batch for which a space has not enough versions left."""

FORBIDDEN = "forbidden"
"""The refusal of a request that its token has no right to make."""

NOT_APPLIED = "not_applied"
"""The refusal of a hub that met a defect of its own, and rolled back: the batch was not applied."""

OUTCOME_UNKNOWN = "outcome_unknown"
"""The refusal of a hub that lost its database while it committed: the batch may have been applied."""

CONFLICT_UNREADABLE = "conflict_unreadable"
"""The rejection of a change whose conflict its sender may not see: the hub has the record."""
