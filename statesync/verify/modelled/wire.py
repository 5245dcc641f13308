"""What travels in the modelled world: the shapes of ``statesync.wire`` as values that can be remembered.

A record's fields are sorted pairs, so that two equal records are equal values. ``None`` in the place of
fields is a deleted record.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

Scalar = str | int | float | bool | None
Fields = tuple[tuple[str, Scalar], ...]
Filter = tuple[tuple[str, tuple[Scalar, ...]], ...]
"""The values that each of some fields may have."""


def fields(record: Mapping[str, Scalar]) -> Fields:
    """Return a record's fields as a value."""
    return tuple(sorted(record.items()))


@frozen(slots=False, cache_hash=True)
class Change:
    """One record that a device offers; see ``statesync.wire.Change`` for ``base`` and ``since``."""

    object: str
    key: str
    base: int
    data: Fields | None
    since: int = 0


@frozen(slots=False, cache_hash=True)
class Push:
    """One upload batch, exactly as it is sent; a repeat is equal."""

    client: str
    number: int
    batch: str
    hub: str | None
    epoch: int | None
    changes: tuple[Change, ...]
    head: int = 0
    offers_again: bool = True


@frozen(slots=False, cache_hash=True)
class Accepted:
    """The hub wrote the change."""

    version: int


@frozen(slots=False, cache_hash=True)
class Conflict:
    """Another device wrote the record since: this is what the hub has.

    ``lacks_record``: it has a record, which did not come with the verdict.
    """

    version: int
    data: Fields | None
    lacks_record: bool = False


@frozen(slots=False, cache_hash=True)
class Rejected:
    """The hub will not take this record."""

    code: str


Verdict = Accepted | Conflict | Rejected


@frozen(slots=False, cache_hash=True)
class PushAnswer:
    """One verdict for each change of the batch, in its order."""

    hub: str
    epoch: int
    head: int
    verdicts: tuple[Verdict, ...]


@frozen(slots=False, cache_hash=True)
class Scan:
    """How far a read in the order of keys has come; with ``since`` 0 it begins, and the hub chooses.

    ``since`` is the head at which it began, ``after`` the last key that it has looked at, and ``until`` the
    greatest key that there was when it began. ``spares`` asks for no more than the keys of what the client
    has written itself.
    """

    since: int = 0
    after: str = ""
    until: str = ""
    spares: bool = False


@frozen(slots=False, cache_hash=True)
class Feed:
    """How one object is to be read; ``filter`` narrows it.

    ``begun`` is the head of the page that began a read from the start, while that is not at its end; else 0.
    ``scan`` asks for records in the order of their keys; a hub that does not know that goes by the rest.
    """

    object: str
    cursor: int
    own: bool = False
    filter: Filter | None = None
    begun: int = 0
    scan: Scan | None = None


@frozen(slots=False, cache_hash=True)
class Pull:
    """The request for the next page of some feeds."""

    client: str
    number: int
    hub: str | None
    epoch: int | None
    feeds: tuple[Feed, ...]
    limit: int
    head: int = 0


@frozen(slots=False, cache_hash=True)
class Entry:
    """One record of a page."""

    object: str
    key: str
    version: int
    data: Fields | None


@frozen(slots=False, cache_hash=True)
class Scanned:
    """How far a page leads a scan: all keys up to ``last`` were looked at, or, if it is ``done``, all.

    ``stubs`` are those of records that are newer than ``since``: the feed will bring them.
    """

    since: int
    until: str
    last: str
    done: bool
    stubs: tuple[str, ...] = ()


@frozen(slots=False, cache_hash=True)
class Page:
    """Records in the order of their versions, and the cursors to save with them.

    A page of ``scans`` has them in the order of their keys, object after object.
    """

    hub: str
    epoch: int
    head: int
    entries: tuple[Entry, ...]
    cursors: tuple[tuple[str, int], ...]
    more: bool
    scans: tuple[tuple[str, Scanned], ...] = ()


@frozen(slots=False, cache_hash=True)
class Refusal:
    """The hub said no and applied nothing; ``epoch`` and ``number`` tell how to go on after a new epoch.

    ``highest`` is the version above which the device has to forget what it has seen.
    """

    code: str
    epoch: int | None = None
    number: int | None = None
    highest: int | None = None


Request = Push | Pull
Answer = PushAnswer | Page | Refusal
