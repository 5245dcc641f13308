"""One model on tables with rules of their own, as programs and their administrators make them."""

from __future__ import annotations

from typing import Any

from peewee import BareField, BlobField, TextField

from statesync import Store


def item(store: Store) -> Any:
    """A model that takes everything; whether its table does is another matter."""

    class Item(store.Model):  # type: ignore[name-defined, misc]
        title = TextField(null=True)
        n = BareField(null=True)

    return Item


def with_bytes(store: Store) -> Any:
    """The model of a program to which a title is bytes."""

    class Item(store.Model):  # type: ignore[name-defined, misc]
        title = BlobField(null=True)

    return Item


def table(title: str = "TEXT", n: str = "", *rules: str, options: str = "") -> str:
    """Return the table ``item`` with these columns, rules and options."""
    parts = ", ".join(["id TEXT NOT NULL PRIMARY KEY", f"title {title}", f"n {n}", *rules])
    return f"CREATE TABLE item ({parts}) {options};"


def trigger(when: str, condition: str, action: str) -> str:
    return f"CREATE TRIGGER mine {when} ON item WHEN {condition} BEGIN SELECT RAISE({action}); END;"
