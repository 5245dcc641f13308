"""The text of one record: its fields, and whether every JSON reader can read it."""

from __future__ import annotations

import re

import msgspec

from statesync.hub.texts.outline import outside_strings

Fields = dict[str, msgspec.Raw]

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a text that is no such document is refused by."""


class _AnyRecord(msgspec.Struct):
    """A JSON object, and nothing of what is in it."""


_FIELDS = msgspec.json.Decoder(Fields)
_RECORD = msgspec.json.Decoder(dict[str, object])
_ANY_RECORD = msgspec.json.Decoder(_AnyRecord)

_SHORT_RECORD = 1 << 12
_NO_NUMBERS = b"[]{}: \t\r\n"
_LONG_NUMBER = re.compile(rb"[-\d](?<![-+.\deE][-\d])[-+.\d]*+(?:[eE][-+\d]*|(?<=[-+.\d]{300}))")
"""A number that may be out of range: with an exponent, or with very many digits."""


def fields_of(text: bytes | str | msgspec.Raw) -> Fields | None:
    """Return the fields of a record with their JSON texts, or None if the text is no JSON object."""
    try:
        return _FIELDS.decode(text)
    except UNREADABLE:
        return None


def fault_of(text: bytes) -> str | None:
    """Return why nobody could read a record, None if everybody can: all of it is looked at, down to numbers.

    A long one may be hundreds of thousands of lists, so nothing is made of it. What is well-formed then has
    no other fault than a number that is out of range.
    """
    try:
        if len(text) <= _SHORT_RECORD:
            _RECORD.decode(text)
        else:
            _ANY_RECORD.decode(text)
            rest = (part.translate(None, _NO_NUMBERS) for part in outside_strings(text))
            for number in _LONG_NUMBER.finditer(b"".join(rest)):
                msgspec.json.decode(number[0])
    except UNREADABLE as error:
        return str(error)
    return None
