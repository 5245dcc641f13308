"""Rules that a table may get: unique texts, checks, and triggers that refuse; and a device that has some."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee

from statesync.classes import frozen
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import quoted
from statesync.testing.rows import Row
from statesync.testing.sites import WorldDevice, WorldHub


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


class MisfitDevice(WorldDevice):
    """A device whose tables have ``rules``, by their names; ``steps`` are its program's migrations."""

    def __init__(self, name: str, path: Path, models: Sequence[type[peewee.Model]]) -> None:
        super().__init__(name, path, models)
        self.rules: dict[str, TableRule] = {}
        self.steps: list[Any] = []

    def _set_up(self) -> None:
        with self.bound():
            for model in self.models:
                self.store.track(model)
            self.store.setup(migrations=self.steps)

    def make_rule(self, made: TableRule) -> None:
        """Make a rule by SQL of its own, unless the table's records break it already."""
        with closing(sqlite3.connect(self.path)) as plain:
            try:
                plain.execute(made.make)
            except sqlite3.DatabaseError as error:
                if "constraint failed" not in str(error):
                    raise
            else:
                self.rules[made.name] = made

    def end_rules(self, names: Iterable[str]) -> None:
        """Take rules away by a migration."""
        ended = [self.rules.pop(name) for name in names]

        def step(connection: sqlite3.Connection) -> None:
            for one in ended:
                connection.execute(one.end)

        self.steps.append(step)
        self._set_up()

    def check_fits(self, hub: WorldHub) -> None:
        """Hold the device, which has just synced, to Q5: where all that the hub has fits, nothing waits.

        What is still to go up may be in the way, and so may a trigger, which asks how a record came about.
        """
        ends = {one.end.split()[1] for one in self.rules.values()}
        if self.held() and not self.waiting() and "TRIGGER" not in ends and self._has_room(hub):
            raise AssertionError(f"{self.name} keeps in quarantine what fits: {self.store.quarantine()}")

    def _has_room(self, hub: WorldHub) -> bool:
        """Tell whether all records of the hub fit into new tables like the device's."""
        with self.looking() as found, closing(sqlite3.connect(":memory:")) as new:
            for tracked in self.objects.values():
                of_table = (
                    "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND type <> 'trigger' AND sql > ''"
                )
                for (sql,) in found.execute(of_table, (tracked.table,)):
                    new.execute(sql)
            try:
                for (name, key), record in hub.records(self.objects).items():
                    _insert(new, self.objects[name], {self.objects[name].key: key, **record})
            except sqlite3.IntegrityError:
                return False
        return True


def _insert(connection: sqlite3.Connection, tracked: TrackedObject, row: Row) -> None:
    names, marks = ", ".join(map(quoted, row)), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {quoted(tracked.table)} ({names}) VALUES ({marks})", list(row.values()))
