"""Reading what devices send. Every check that needs no database is made here, before any lock is taken."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TypeVar

import msgspec
from attrs import frozen

from statesync.filters import WireFilter, excess, is_held
from statesync.hub.errors import body_too_large, malformed, refused
from statesync.hub.limits import HubLimits
from statesync.wire import MAX_KEY_LENGTH, MAX_VERSION, Change, Pull, Push, Rejected, Survey

Fields = dict[str, msgspec.Raw]

_Document = TypeVar("_Document", Push, Pull, Survey)


class _Sender(msgspec.Struct):
    client: str


_SENDER = msgspec.json.Decoder(_Sender)
_PUSH = msgspec.json.Decoder(Push)
_PULL = msgspec.json.Decoder(Pull)
_SURVEY = msgspec.json.Decoder(Survey)
_CHANGES = msgspec.json.Decoder(list[Change])
_FIELDS = msgspec.json.Decoder(Fields)
_RECORD = msgspec.json.Decoder(dict[str, object])

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BRACES_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
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
    except _UNREADABLE:
        return None


def read_push(body: bytes, limits: HubLimits) -> PushRequest:
    """Return the batch in ``body``; raise the refusal of what is malformed or over a limit."""
    envelope = _decoded(body, _PUSH, limits)
    try:
        changes = _CHANGES.decode(envelope.changes)
    except _UNREADABLE as error:
        raise malformed(str(error)) from error
    _check_identity(envelope.client, envelope.batch)
    _check_versions(envelope.head)
    if len(changes) > limits.batch:
        message = f"the batch has {len(changes)} changes; the limit is {limits.batch}"
        raise refused(422, "batch_too_large", message)
    _refuse_duplicates(changes)
    return PushRequest(envelope, changes)


def read_pull(body: bytes, limits: HubLimits) -> Pull:
    """Return the request in ``body``; raise the refusal of what is malformed or over a limit."""
    pull = _decoded(body, _PULL, limits)
    _check_identity(pull.client)
    _check_feeds(pull, limits)
    return pull


def read_survey(body: bytes, limits: HubLimits) -> Survey:
    """Return the request in ``body``; raise the refusal of what is malformed or over a limit."""
    survey = _decoded(body, _SURVEY, limits)
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
        if change.object in unwritable:
            message = f"the token does not allow to write {change.object!r}"
            found[place] = Rejected("forbidden", message)
        elif rejection := _rejection(change, objects, limits):
            found[place] = rejection
    return found


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

    Strings are taken out, then the innermost pairs of brackets, level by level. In JSON a backslash stands in
    strings only; at any other the parser stops, so what follows does not count.
    """
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    outside = b"".join(unescaped.split(b'"')[::2])
    brackets = outside.translate(_BRACES_TO_BRACKETS, _NOT_BRACKETS)
    for _ in range(levels):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            return False  # nothing is left, or the rest is no JSON, and the parser will refuse it
        brackets = outer
    return b"[]" in brackets


def _decoded(body: bytes, decoder: msgspec.json.Decoder[_Document], limits: HubLimits) -> _Document:
    if len(body) > limits.body:
        raise body_too_large(limits.body)
    if is_deeper_than(body, limits.nesting):
        raise refused(422, "too_deep", f"the request nests deeper than the limit of {limits.nesting} levels")
    try:
        body.decode()  # records pass through undecoded, so bytes that are not text must be stopped here
        return decoder.decode(body)
    except _UNREADABLE as error:
        raise malformed(str(error)) from error


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
    for name, feed in pull.objects.items():
        _check_filter(name, feed.filter, limits)


def _check_survey(survey: Survey, limits: HubLimits) -> None:
    for code, what, count, most in (
        ("too_many_columns", "columns", len(survey.columns), limits.columns),
        ("too_many_bounds", "bounds", len(survey.bounds), limits.bounds),
    ):
        if count > most:
            raise refused(422, code, f"the survey has {count} {what}; the limit is {most}")
    if any("\0" in name or len(name) > limits.key for name in (survey.object, *survey.columns)):
        raise malformed(f"a name has at most {limits.key} characters and no NUL")
    if not survey.bounds or survey.bounds != sorted(set(survey.bounds)):
        raise malformed("the bounds of a survey are one or more keys, each above the one before")
    if any("\0" in key for key in (*survey.bounds, survey.until or "")):
        raise malformed("the bounds of a survey have no NUL")


def _check_filter(name: str, wanted: WireFilter | None, limits: HubLimits) -> None:
    if wanted is None:
        return
    if too_much := excess(wanted, limits.filter_fields, limits.filter_values):
        raise refused(422, "filter_too_large", f"the filter of {name!r} {too_much}")
    if not all(is_held(value) for values in wanted.values() for value in values):
        raise malformed(f"the filter of {name!r} asks for a number that no column holds")


def _check_versions(*versions: int) -> None:
    """Refuse versions that no space can reach, and no column can hold."""
    if not all(0 <= version <= MAX_VERSION for version in versions):
        raise malformed(f"cursors and head are from 0 to {MAX_VERSION}")


def _is_name(name: str) -> bool:
    return len(name) <= MAX_KEY_LENGTH and "\0" not in name


def _refuse_duplicates(changes: list[Change]) -> None:
    seen = {(change.object, change.key) for change in changes}
    if len(seen) != len(changes):
        raise refused(422, "duplicate_key", "the batch has two changes of one record; send its net change")


def _rejection(change: Change, objects: frozenset[str] | None, limits: HubLimits) -> Rejected | None:
    name = change.object
    if objects is not None and name not in objects:
        return Rejected("unknown_object", f"this hub does not take {name!r}")
    if not name or not _is_name(name):
        return Rejected("unknown_object", f"an object's name has 1 to {MAX_KEY_LENGTH} characters, no NUL")
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
    if fault := _fault_of(text):
        return Rejected("bad_record", f"data is no JSON object of what columns hold: {fault}")
    return None


def _fault_of(text: bytes) -> str | None:
    """Return why nobody could read a record, None if everybody can: all of it is decoded, down to numbers."""
    try:
        _RECORD.decode(text)
    except _UNREADABLE as error:
        return str(error)
    return None
