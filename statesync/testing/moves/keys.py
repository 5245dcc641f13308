"""Keys of every kind in a ``SyncWorld``: all that the contract allows, and what two devices make alike.

A key is any text of up to 255 characters without a NUL. Keys differ to the byte, whatever collation a program
or its table has elsewhere. A table that cannot keep that is refused, and nothing is changed then.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import peewee
from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync.errors import UnsupportedModel
from statesync.scope import Store
from statesync.testing.rows import Row
from statesync.testing.sites import WorldDevice, key_of
from statesync.testing.world import SyncWorld, update

_ALIKE = (
    "Red",
    "red",
    "red ",
    "RED",
    "é",
    "e\u0301",
    "007",
    "7",
    "1e3",
    "1000",
    "null",
    "NULL",
    "true",
    "x'41'",
)
_ODD = (
    "'",
    '"',
    "\\",
    "%_",
    "[",
    "]",
    "{}",
    "\n",
    "\t",
    " ",
    "\x01",
    "\x7f",
    "\ufeff",
    "\ufffe",
    "\U0001f600",
)
_LONG = ("k" * 255, "\U0001f600" * 255)
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
_KEYS = st.sampled_from(_ALIKE) | st.sampled_from(_ODD + _LONG) | _TEXT

_sites = st.integers(0, 7)
_declared = st.sampled_from(
    ["TEXT COLLATE NOCASE", "TEXT COLLATE RTRIM", "NUMERIC", "STRING", "UUID", "INTEGER"]
)


class OddKeys(SyncWorld):
    """A world whose records have keys of every kind, some of them made on several devices."""

    def rows(self, model: type[peewee.Model], device: WorldDevice) -> st.SearchStrategy[Row]:
        """Return the strategy for new rows, with a key of any kind that is not on the device yet."""
        rows = super().rows(model, device)
        key = key_of(model).name
        if rows.is_empty or isinstance(key_of(model), peewee.UUIDField | peewee.ForeignKeyField):
            return rows
        return st.builds(lambda row, odd: row if odd is None else row | {key: odd}, rows, st.none() | _KEYS)

    @rule(key=st.sampled_from(_ALIKE), data=st.data())
    def make_apart(self, key: str, data: st.DataObject) -> None:
        """The same key is made on several devices, or one that is nearly the same."""
        model = self._model(data)
        for site, device in enumerate(self.devices):
            own = data.draw(st.sampled_from([key, *_ALIKE]))
            rows = super().rows(model, device)
            if not rows.is_empty and own not in self.keys(model, device):
                row: Row = data.draw(rows) | {key_of(model).name: own}
                self.write(self._device(site), lambda made=row: model.insert(made).execute())  # type: ignore[misc]

    @rule(site=_sites, key=_KEYS, data=st.data())
    def rekey(self, site: int, key: str, data: st.DataObject) -> None:
        """A record gets another key."""
        device, model = self._device(site), self._model(data)
        if keys := self.keys(model, device):
            before = data.draw(st.sampled_from(keys))
            self.write(device, update(model, before, {key_of(model).name: key}))

    @rule(site=_sites, declared=_declared)
    def refuse_key(self, site: int, declared: str) -> None:
        """A program tracks a table whose key would not be kept: it is refused, and all stays as it was."""
        device = self._device(site)
        with closing(sqlite3.connect(device.path)) as plain:
            plain.execute(f"CREATE TABLE IF NOT EXISTS refused (id {declared} PRIMARY KEY, text TEXT)")
            before = plain.execute("SELECT * FROM statesync_object").fetchall()
            with closing(Store(device.path)) as other:
                other.track(_refused())
                try:
                    other.setup()
                except UnsupportedModel:
                    assert plain.execute("SELECT * FROM statesync_object").fetchall() == before
                    return
        raise AssertionError(f"{device.name} tracks a key that is declared {declared}")


def _refused() -> type[peewee.Model]:
    fields: dict[str, Any] = {"id": peewee.CharField(primary_key=True), "text": peewee.TextField()}
    return type("Refused", (peewee.Model,), fields)
