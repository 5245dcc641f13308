"""Rules that a table may get: unique texts, checks, and triggers that refuse."""

from __future__ import annotations

import peewee
from attrs import frozen

from statesync.store.tracking.quoting import quoted


@frozen
class TableRule:
    """A rule of one table: the SQL that makes it, and the SQL that takes it away again."""

    name: str
    make: str
    end: str


def rules_of(model: type[peewee.Model]) -> list[TableRule]:
    """Return the rules that a table may get, the unique text first."""
    table, text = model._meta.table_name, text_of(model)
    on, column = quoted(table), quoted(text.column_name)
    rules = [
        _index(table, "one", f"({column})"),
        _index(table, "one_in_any_case", f"(lower({column}))"),
        _index(table, "one_of_the_short", f"({column}) WHERE length({column}) < 2"),
        _check(table, "short", f"length({column}) < 4"),
        _check(table, "known", f"{column} IS NOT NULL"),
    ]
    for event in ("INSERT", "UPDATE", "DELETE"):
        row = "OLD" if event == "DELETE" else "NEW"
        for action in ("ABORT, 'no'", "ROLLBACK, 'not at all'", "IGNORE"):
            name = quoted(f"rule_{table}_{event}_{action[:3]}")
            make = (
                f"CREATE TRIGGER {name} BEFORE {event} ON {on} WHEN {row}.{column} = 'd' "
                f"BEGIN SELECT RAISE({action}); END"
            )
            rules.append(TableRule(name, make, f"DROP TRIGGER {name}"))
    return rules


def _index(table: str, name: str, what: str) -> TableRule:
    index = quoted(f"rule_{table}_{name}")
    return TableRule(index, f"CREATE UNIQUE INDEX {index} ON {quoted(table)} {what}", f"DROP INDEX {index}")


def _check(table: str, name: str, condition: str) -> TableRule:
    """A column may say what others must be."""
    column, of = quoted(f"rule_{name}"), quoted(table)
    make = f"ALTER TABLE {of} ADD COLUMN {column} INTEGER CHECK ({condition})"
    return TableRule(f"{table}_{name}", make, f"ALTER TABLE {of} DROP COLUMN {column}")


def text_of(model: type[peewee.Model]) -> peewee.Field:
    """Return the model's first column of text."""
    return next(one for one in model._meta.sorted_fields if isinstance(one, peewee.TextField))
