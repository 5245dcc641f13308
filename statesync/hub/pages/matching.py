"""Whether a record, as its JSON text, passes a filter: only what that looks at is decoded."""

from __future__ import annotations

import msgspec

from statesync.filters import Filter
from statesync.hub.texts.records import fields_of

_OUT_OF_RANGE = object()
"""A number that nothing that can be asked for equals."""


def passes(key: str, text: bytes, wanted: Filter) -> bool:
    """Tell whether a record passes a filter."""
    fields = fields_of(text) or {}
    return wanted.passes({name: _value(fields.get(name)) for name in wanted.names}, key)


def _value(field: msgspec.Raw | None) -> object:
    try:
        return None if field is None else msgspec.json.decode(field)
    except msgspec.MsgspecError:
        return _OUT_OF_RANGE
