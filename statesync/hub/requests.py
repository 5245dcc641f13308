"""Reading what devices send. Every check that needs no database is made here, before any lock is taken.

What a text would become in memory may be many times as long as it. So what it holds is counted before any
of it is made: how deep it nests, how many values it has, and how long all is that is no record.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TypeVar

import msgspec

from statesync.classes import frozen
from statesync.filters import WireFilter, excess, is_held
from statesync.hub.errors import Refused, body_too_large, malformed, refused, too_large
from statesync.hub.limits import HubLimits
from statesync.hub.texts.outline import check_text, commas_at, is_deeper_than
from statesync.hub.texts.quoting import quoted, shortened
from statesync.hub.texts.records import UNREADABLE, fault_of
from statesync.wire import MAX_KEY_LENGTH, MAX_VERSION, Change, Pull, Push, Rejected, Scan, Survey

_Document = TypeVar("_Document")

SMALL = 1 << 16
"""Bytes of a body that cost too little to be counted before they are read."""

LARGE = 1 << 20
"""Bytes of a body from which on one is read at a time."""

GROWS = 4
"""Times its size that a body may have in memory while it is read, with itself."""

_ALL_FILTERS = 20
"""Times the values of one filter that all filters of a pull may ask for."""

_FILTER_LEVEL, _VALUE_LEVEL = 3, 4
"""Where the fields of filters, and their values, stand in the objects of a pull."""


class _Sender(msgspec.Struct):
    """Who sends a request, and nothing else of it."""

    client: str


class _Unread(msgspec.Struct):
    """The changes of a push, and nothing else of it."""

    changes: msgspec.Raw


class _Record(msgspec.Struct):
    """The record of a change, and nothing else of it."""

    data: msgspec.Raw = msgspec.Raw()


class _Feeds(msgspec.Struct):
    """The objects of a pull, and nothing else of it."""

    objects: msgspec.Raw


class _Lists(msgspec.Struct):
    """What a survey lists, and nothing else of it."""

    columns: msgspec.Raw
    bounds: msgspec.Raw
    filter: msgspec.Raw = msgspec.Raw()


_SENDER = msgspec.json.Decoder(_Sender)
_UNREAD = msgspec.json.Decoder(_Unread)
_RECORDS = msgspec.json.Decoder(list[_Record])
_FEEDS = msgspec.json.Decoder(_Feeds)
_LISTS = msgspec.json.Decoder(_Lists)
_PUSH = msgspec.json.Decoder(Push)
_PULL = msgspec.json.Decoder(Pull)
_SURVEY = msgspec.json.Decoder(Survey)
_CHANGES = msgspec.json.Decoder(list[Change])

_TEXT = re.compile(r"[^\x00]{1,128}")


@frozen
class PushRequest:
    """One upload batch as it was sent: the envelope, and its changes decoded."""

    envelope: Push
    changes: list[Change]


def sender_of(body: bytes) -> str | None:
    """Return the client that a body names, of which nothing else is read; None for a body that has none.

    What else may be wrong with it is said by those who read all of it.
    """
    try:
        return _SENDER.decode(body).client
    except UNREADABLE:
        return None


def read_push(body: bytes, limits: HubLimits) -> PushRequest:
    """Return the batch in ``body``; raise the refusal of what is malformed or over a limit."""
    _check_body(body, limits.body, limits.nesting)
    if len(body) > SMALL:
        _check_batch(body, limits)
    envelope = _decoded(body, _PUSH)
    changes = _decoded(envelope.changes, _CHANGES)
    _check_identity(envelope.client, envelope.batch)
    _check_versions(envelope.head)
    if len(changes) > limits.batch:
        raise _too_many_changes(len(changes), limits)
    _refuse_duplicates(changes)
    return PushRequest(envelope, changes)


def read_pull(body: bytes, limits: HubLimits) -> Pull:
    """Return the request in ``body``; raise the refusal of what is malformed or over a limit."""
    _check_body(body, min(limits.question, limits.body), limits.nesting)
    if len(body) > SMALL:
        _check_objects(_decoded(body, _FEEDS).objects, limits)
    pull = _decoded(body, _PULL)
    _check_identity(pull.client)
    _check_feeds(pull, limits)
    return pull


def read_survey(body: bytes, limits: HubLimits) -> Survey:
    """Return the request in ``body``; raise the refusal of what is malformed or over a limit."""
    _check_body(body, min(limits.question, limits.body), limits.nesting)
    if len(body) > SMALL:
        _check_lists(_decoded(body, _LISTS), limits)
    survey = _decoded(body, _SURVEY)
    _check_identity(survey.client)
    _check_survey(survey, limits)
    _check_filter(survey.object, survey.filter, limits)
    return survey


def rejections(
    changes: list[Change], objects: frozenset[str] | None, unwritable: Collection[str], limits: HubLimits
) -> dict[int, Rejected]:
    """Return the changes, by their place, that cannot be taken whatever is stored, and why.

    ``objects`` are the names of the objects that records may belong to (None: any), ``unwritable`` those of
    the batch that its sender has no right to write.
    """
    found: dict[int, Rejected] = {}
    for place, change in enumerate(changes):
        if not change.object or not _is_name(change.object):
            message = f"an object's name has 1 to {MAX_KEY_LENGTH} characters, no NUL"
            found[place] = Rejected("unknown_object", message)
        elif change.object in unwritable:
            message = f"the token does not allow to write {quoted(change.object)}"
            found[place] = Rejected("forbidden", message)
        elif rejection := _rejection(change, objects, limits):
            found[place] = rejection
    return found


def text_of(change: Change) -> bytes | None:
    """Return the JSON text of the change's record, or None if none came with it."""
    return bytes(change.data) if isinstance(change.data, msgspec.Raw) else None


def _check_body(body: bytes, most: int, nesting: int) -> None:
    """Raise the refusal of a body that is too long, too deep, or no text."""
    if len(body) > most:
        raise body_too_large(most)
    if is_deeper_than(body, nesting):
        raise refused(422, "too_deep", f"the request nests deeper than the limit of {nesting} levels")
    try:
        check_text(body)  # records pass through undecoded, so bytes that are not text must be stopped here
    except UnicodeDecodeError as error:
        raise malformed(str(error)) from error


def _decoded(text: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[_Document]) -> _Document:
    try:
        return decoder.decode(text)
    except UNREADABLE as error:
        raise malformed(str(error)) from error


def _check_batch(body: bytes, limits: HubLimits) -> None:
    """Raise the refusal of a batch of too many changes, or with too much in it that is no record.

    Each change is an object: where the whole body has few of them, they need not be counted.
    """
    changes = _decoded(body, _UNREAD).changes
    if body.count(b"{") > limits.batch:
        count = commas_at(changes)[1] + 1
        if count > limits.batch:
            raise _too_many_changes(count, limits)
    if len(body) > LARGE:
        records = sum(len(each.data) for each in _decoded(changes, _RECORDS))
        if len(body) - records > max(LARGE, limits.page_bytes):
            what = "the names and keys of the batch are too long, with all that is besides its records"
            raise too_large("batch_too_large", what, limits.page_bytes)


def _too_many_changes(count: int, limits: HubLimits) -> Refused:
    message = f"the batch has {count} changes; the limit is {limits.batch}"
    return refused(422, "batch_too_large", message)


def _check_objects(objects: msgspec.Raw, limits: HubLimits) -> None:
    """Raise the refusal of a pull of more objects, or of more in their filters, than one may ask for."""
    commas = commas_at(objects)
    if commas[1] >= limits.objects:
        raise _too_many_objects(commas[1] + 1, limits)
    fields, values = limits.filter_fields * limits.objects, limits.filter_values * _ALL_FILTERS
    if commas[_FILTER_LEVEL] >= fields or commas[_VALUE_LEVEL] >= values:
        message = f"the filters of the pull ask for too much together; the limit is {values} values"
        raise refused(422, "filter_too_large", message)


def _check_lists(survey: _Lists, limits: HubLimits) -> None:
    """Raise the refusal of a survey with more columns, bounds or values of a filter than one may have."""
    _check_counts(commas_at(survey.columns)[1] + 1, commas_at(survey.bounds)[1] + 1, limits)
    wanted = commas_at(survey.filter)
    if wanted[1] >= limits.filter_fields or wanted[2] >= limits.filter_values:
        message = f"the filter of the survey asks for more than {limits.filter_values} values"
        raise refused(422, "filter_too_large", message)


def _check_identity(*texts: str) -> None:
    if not all(_TEXT.fullmatch(text) for text in texts):
        raise malformed("client and batch have 1 to 128 characters each, and no NUL")


def _check_feeds(pull: Pull, limits: HubLimits) -> None:
    if len(pull.objects) > limits.objects:
        raise _too_many_objects(len(pull.objects), limits)
    if pull.limit < 0:
        raise malformed("limit is not negative")
    feeds = pull.objects.values()
    _check_versions(pull.head, *(feed.cursor for feed in feeds), *(feed.begun for feed in feeds))
    if not all(map(_is_name, pull.objects)):
        raise malformed(f"an object's name has at most {MAX_KEY_LENGTH} characters, no NUL")
    for name, feed in pull.objects.items():
        _check_filter(name, feed.filter, limits)
        if feed.scan is not None:
            _check_scan(feed.scan)


def _check_scan(scan: Scan) -> None:
    """Refuse a scan that no hub has begun: the one that goes on has an end, and has not passed it.

    A range of keys that is read by itself may begin before all keys.
    """
    _check_versions(scan.since)
    if not all(map(_is_name, (scan.after, scan.until))):
        raise malformed(f"the keys of a scan have at most {MAX_KEY_LENGTH} characters, no NUL")
    if not scan.since and (scan.after or scan.until):
        raise malformed("a scan that begins has neither a position nor an end: the hub says where they are")
    if scan.since and not (scan.until and scan.after <= scan.until):
        raise malformed("a scan that goes on has an end, and its position is not behind that")


def _too_many_objects(count: int, limits: HubLimits) -> Refused:
    message = f"the pull asks for {count} objects; the limit is {limits.objects}"
    return refused(422, "too_many_objects", message)


def _check_counts(columns: int, bounds: int, limits: HubLimits) -> None:
    for code, what, count, most in (
        ("too_many_columns", "columns", columns, limits.columns),
        ("too_many_bounds", "bounds", bounds, limits.bounds),
    ):
        if count > most:
            raise refused(422, code, f"the survey has {count} {what}; the limit is {most}")


def _check_survey(survey: Survey, limits: HubLimits) -> None:
    _check_counts(len(survey.columns), len(survey.bounds), limits)
    if len(set(survey.columns)) < len(survey.columns):
        raise malformed("a survey names each of its columns once")
    if any("\0" in name or len(name) > MAX_KEY_LENGTH for name in (survey.object, *survey.columns)):
        raise malformed(f"a name has at most {MAX_KEY_LENGTH} characters and no NUL")
    if not survey.bounds or survey.bounds != sorted(set(survey.bounds)):
        raise malformed("the bounds of a survey are one or more keys, each above the one before")
    if any("\0" in key for key in (*survey.bounds, survey.until or "")):
        raise malformed("the bounds of a survey have no NUL")


def _check_filter(name: str, wanted: WireFilter | None, limits: HubLimits) -> None:
    if wanted is None:
        return
    if too_much := excess(wanted, limits.filter_fields, limits.filter_values):
        raise refused(422, "filter_too_large", f"the filter of {quoted(name)} {too_much}")
    if not all(is_held(value) for values in wanted.values() for value in values):
        raise malformed(f"the filter of {quoted(name)} asks for a number that no column holds")


def _check_versions(*versions: int) -> None:
    """Refuse versions that no space can reach, and no column can hold."""
    if not all(0 <= version <= MAX_VERSION for version in versions):
        raise malformed(f"cursors, head, begun and since are from 0 to {MAX_VERSION}")


def _is_name(name: str) -> bool:
    return len(name) <= MAX_KEY_LENGTH and "\0" not in name


def _refuse_duplicates(changes: list[Change]) -> None:
    seen = {(change.object, change.key) for change in changes}
    if len(seen) != len(changes):
        raise refused(422, "duplicate_key", "the batch has two changes of one record; send its net change")


def _rejection(change: Change, objects: frozenset[str] | None, limits: HubLimits) -> Rejected | None:
    name = change.object
    if objects is not None and name not in objects:
        return Rejected("unknown_object", f"this hub does not take {quoted(name)}")
    if not change.key or "\0" in change.key:
        return Rejected("bad_key", "a key is not empty and has no NUL in it")
    if len(change.key) > limits.key:
        message = f"the key has {len(change.key)} characters; the limit is {limits.key}"
        return Rejected("key_too_long", message)
    return _data_rejection(change, limits) if change.op == "upsert" else None


def _data_rejection(change: Change, limits: HubLimits) -> Rejected | None:
    text = text_of(change)
    if text is None:
        return Rejected("bad_record", "an upsert needs data")
    size = len(text)
    if size > limits.record:
        return Rejected("record_too_large", f"the record has {size} bytes; the limit is {limits.record}")
    if fault := fault_of(text):
        message = f"data is no JSON object of what columns hold: {shortened(fault)}"
        return Rejected("bad_record", message)
    return None
