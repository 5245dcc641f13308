"""Images: a record as JSON text that is exact for every value that SQLite stores.

JSON text of SQLite's own would round floats to 15 digits and refuse blobs. So a float is ``[digits]`` and a
blob ``[null, hex]``. SQLite makes images of the log's rows, Python makes them of records; both read alike. An
image that SQLite made of a text that is no UTF-8 is none itself.
"""

from __future__ import annotations

import json
from typing import Any

from statesync.conflicts import Record
from statesync.store.file.reading import UnreadableText
from statesync.store.tracking.description import Description
from statesync.store.tracking.log import log_columns
from statesync.store.tracking.quoting import literal

_KEEPING_BYTES = "surrogateescape"

_MEMBERS = 50
"""How many members one ``json_object`` gets: SQLite's functions take 127 arguments, two of them a member."""


def image_of(record: Record | None) -> str | None:
    """Return a record's image: the same text form that ``image_sql`` makes."""
    return None if record is None else json.dumps({name: _wrapped(value) for name, value in record.items()})


def record_of_image(image: str | UnreadableText | None) -> Record | None:
    """Read an image back into the values that SQLite stores."""
    if image is None:
        return None
    if isinstance(image, UnreadableText):
        members = json.loads(image.raw.decode("utf-8", _KEEPING_BYTES))
        return {name: _with_bytes(_unwrapped(value)) for name, value in members.items()}
    return {name: _unwrapped(value) for name, value in json.loads(image).items()}


def _wrapped(value: Any) -> Any:
    if isinstance(value, float):
        return [repr(value)]
    return [None, value.hex()] if isinstance(value, bytes) else value


def _with_bytes(value: Any) -> Any:
    """Return a text that was made of bytes which are no UTF-8 as those bytes."""
    if not isinstance(value, str) or value.isascii():
        return value
    raw = value.encode("utf-8", _KEEPING_BYTES)
    return UnreadableText(raw) if raw.decode("utf-8", "replace") != value else value


def _unwrapped(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return float(value[0]) if len(value) == 1 else bytes.fromhex(value[1])


def image_sql(of: Description, row: str) -> str:
    """Return the expression for the image of a ``row`` of the object's log."""
    values = [f"{row}.{name}" for name in log_columns(of)]
    members = [
        f"{literal(name)}, CASE typeof({value}) "
        f"WHEN 'real' THEN json_array(printf('%!.20e', {value})) "
        f"WHEN 'blob' THEN json_array(NULL, hex({value})) ELSE {value} END"
        for name, value in zip(of.column_names, values, strict=True)
    ]
    parts = [members[start : start + _MEMBERS] for start in range(0, len(members) or 1, _MEMBERS)]
    objects = [f"json_object({', '.join(part)})" for part in parts]
    if len(objects) == 1:
        return objects[0]
    return "'{' || " + " || ',' || ".join(f"trim({each}, '{{}}')" for each in objects) + " || '}'"
