"""Reading what devices send: every check that needs no database, before any lock is taken."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from attrs import frozen

from statesync.hub.errors import Refused, malformed, refused, too_large
from statesync.hub.limits import HubLimits
from statesync.wire import MAX_KEY_LENGTH, Change, Pull, Push, Rejected, Survey

Fields = dict[str, msgspec.Raw]

_PUSH = msgspec.json.Decoder(Push)
_PULL = msgspec.json.Decoder(Pull)
_SURVEY = msgspec.json.Decoder(Survey)
_CHANGES = msgspec.json.Decoder(list[Change])
_FIELDS = msgspec.json.Decoder(Fields)

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BRACES_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_MOST_VERSIONS = 1 << 62
_TEXT = re.compile(r"[^\x00]{1,128}")


@frozen
class Offer:
    """One upload batch as it was sent: the envelope, and its changes."""

    push: Push
    changes: list[Change]


def read_push(body: bytes, limits: HubLimits) -> Offer:
    """Return the batch in ``body``; raise the refusal of what is malformed or over a limit."""
    _check_body(body, limits)
    try:
        body.decode()  # records pass through unread: what is not text must not get in
        push = _PUSH.decode(body)
        changes = _CHANGES.decode(push.changes)
    except _UNREADABLE as error:
        raise malformed(str(error)) from error
    _check_identity(push.client, push.batch)
    _check_versions(push.head)
    if len(changes) > limits.batch:
        message = f"the batch has {len(changes)} changes; the limit is {limits.batch}"
        raise refused(422, "batch_too_large", message)
    _refuse_duplicates(changes)
    return Offer(push, changes)


def read_pull(body: bytes, limits: HubLimits) -> Pull:
    """Return the request in ``body``; raise the refusal of what is malformed or over a limit."""
    _check_body(body, limits)
    try:
        body.decode()
        pull = _PULL.decode(body)
    except _UNREADABLE as error:
        raise malformed(str(error)) from error
    _check_identity(pull.client)
    _check_feeds(pull, limits)
    return pull


def read_survey(body: bytes, limits: HubLimits) -> Survey:
    """Return the request in ``body``; raise the refusal of what is malformed or over a limit."""
    _check_body(body, limits)
    try:
        body.decode()
        survey = _SURVEY.decode(body)
    except _UNREADABLE as error:
        raise malformed(str(error)) from error
    _check_identity(survey.client)
    if any("\0" in name or len(name) > limits.key for name in (survey.object, *survey.columns)):
        raise malformed(f"a name has at most {limits.key} characters and no NUL")
    return survey


def rejection(change: Change, known: frozenset[str] | None, limits: HubLimits) -> Rejected | None:
    """Return why this record is not taken, or None; ``known`` are the objects that may be (None: any)."""
    name = change.object
    if known is not None and name not in known:
        return Rejected("unknown_object", f"this hub does not take {name!r}")
    if not name or not _is_name(name):
        return Rejected("unknown_object", f"an object's name has 1 to {MAX_KEY_LENGTH} characters, no NUL")
    if not change.key or "\0" in change.key:
        return Rejected("bad_key", "a key is not empty and has no NUL in it")
    if len(change.key) > limits.key:
        message = f"the key has {len(change.key)} characters; the limit is {limits.key}"
        return Rejected("key_too_long", message)
    return _data_rejection(change, limits) if change.op == "upsert" else None


def text_of(change: Change) -> bytes | None:
    """Return the JSON text of the change's record, or None if none came with it."""
    return bytes(change.data) if isinstance(change.data, msgspec.Raw) else None


def fields_of(text: bytes | str | msgspec.Raw) -> Fields | None:
    """Return the fields of a record with their JSON texts, or None if the text is no JSON object."""
    try:
        return _FIELDS.decode(text)
    except _UNREADABLE:
        return None


def is_deeper_than(body: bytes, levels: int) -> bool:
    """Tell whether ``body`` nests deeper than ``levels``, without parsing it.

    Strings are taken out, then the innermost pairs of brackets, level by level. A backslash stands in
    strings only: at any other the parser stops, and does not see what follows.
    """
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    outside = b"".join(unescaped.split(b'"')[::2])
    brackets = outside.translate(_BRACES_TO_BRACKETS, _NOT_BRACKETS)
    for _ in range(levels):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            return False  # nothing is left, or the rest is no JSON, which the parser will say
        brackets = outer
    return b"[]" in brackets


def _check_body(body: bytes, limits: HubLimits) -> None:
    if len(body) > limits.body:
        raise body_too_large(limits)
    if is_deeper_than(body, limits.nesting):
        raise refused(422, "too_deep", f"the request nests deeper than the limit of {limits.nesting} levels")


def body_too_large(limits: HubLimits) -> Refused:
    """Return the refusal of a body over the limit."""
    return too_large("body_too_large", "the request's body is too large", limits.body)


def _check_identity(*texts: str) -> None:
    if not all(_TEXT.fullmatch(text) for text in texts):
        raise malformed("client and batch have 1 to 128 characters each, and no NUL")


def _check_feeds(pull: Pull, limits: HubLimits) -> None:
    if len(pull.objects) > limits.objects:
        message = f"the pull asks for {len(pull.objects)} objects; the limit is {limits.objects}"
        raise refused(422, "too_many_objects", message)
    if pull.limit < 0:
        raise malformed("limit is not negative")
    _check_versions(pull.head, *(feed.cursor for feed in pull.objects.values()))
    if not all(map(_is_name, pull.objects)):
        raise malformed(f"an object's name has at most {MAX_KEY_LENGTH} characters, no NUL")


def _check_versions(*versions: int) -> None:
    """Refuse what no space can have come to: a lie about it must not drive a head out of its column."""
    if not all(0 <= version <= _MOST_VERSIONS for version in versions):
        raise malformed(f"cursors and head are from 0 to {_MOST_VERSIONS}")


def _is_name(name: str) -> bool:
    return len(name) <= MAX_KEY_LENGTH and "\0" not in name


def _refuse_duplicates(changes: list[Change]) -> None:
    seen: Mapping[tuple[str, str], None] = dict.fromkeys((change.object, change.key) for change in changes)
    if len(seen) != len(changes):
        raise refused(422, "duplicate_key", "the batch has two changes of one record; send its net change")


def _data_rejection(change: Change, limits: HubLimits) -> Rejected | None:
    text = text_of(change)
    if text is None:
        return Rejected("bad_record", "an upsert needs data")
    size = len(text)
    if size > limits.record:
        return Rejected("record_too_large", f"the record has {size} bytes; the limit is {limits.record}")
    if fields_of(text) is None:
        return Rejected("bad_record", "data is not a JSON object")
    return None
