"""The SQL of the triggers that track an object, in two kinds: plain ones, and nested ones.

Traps that they answer for (measured on SQLite 3.40):

* INSERT OR REPLACE fires no delete trigger, and an AFTER INSERT trigger cannot see the old row any more.
  So BEFORE INSERT keeps the values of all rows that the new one may replace, by key or by a unique
  index (``KEPT``): they count only if the write really happened. The AFTER trigger looks which are gone.
  OR IGNORE lets a write end there. What it kept is forgotten by the next write: until then a record may
  vanish otherwise, and would seem to be replaced.
  An index may be of expressions, of some records alone, and of a collation of its own; triggers compare as
  it does. Where a column must not be empty, OR REPLACE puts its default in place of NULL, and does so after
  the BEFORE trigger.
* That a record cannot be found proves nothing: it may have been deleted untracked, or lost. Only what a
  trigger saw going is ``GONE``, under a key that is a text: a key that the table has made a number of may
  have been another text.
* A change of the key is a delete of one record and an insert of another. Its triggers are there for
  statements that set the key: a trigger costs its call, even where it has nothing to do.
* A program's own AFTER trigger, or a foreign key's action, may write the same record, or delete it, before
  the AFTER trigger here has its turn. So where that may happen the BEFORE triggers log what a record was, or
  that there was none (``BEGUN``), and its first row in the log is what it was before the outermost write.
  They do not know whether the write will follow: the AFTER trigger says so, if the record is there then.
"""

from __future__ import annotations

from collections.abc import Iterator

from statesync.store.tracking.description import UniqueIndex
from statesync.store.tracking.log import BEGUN, GONE, KEPT, WRITTEN
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import is_key, is_same_key, quoted

KINDS = (
    "insert_before",
    "insert",
    "delete",
    "update",
    "rekey",
    "update_before",
    "rekey_before",
    "delete_before",
)


def trigger_name(name: str, what: str) -> str:
    """Return the name of one of an object's triggers."""
    return f"statesync_{name}_{what}"


def plain(tracked: TrackedObject, is_on: str) -> Iterator[tuple[str, str]]:
    """Yield the name and SQL of each trigger of a table whose writes write it no further.

    ``is_on`` is the condition that writes are tracked. A nested table has triggers of all these names, too.
    """
    of = _Parts(tracked, is_on)
    key, by_key = of.key, f"{of.key} = {of.new_key}"
    replaced = of.find_replaced() if tracked.uniques else ""
    new, old, gone = of.append_new(), of.append_old(WRITTEN), of.append_gone()
    yield of.keeper("insert_before", "BEFORE INSERT", is_on, [by_key, *of.clashes(of.new_key)])
    yield of.trigger("insert", "AFTER INSERT", is_on, replaced + new)
    yield of.trigger("delete", "AFTER DELETE", is_on, gone)
    yield of.trigger("update", "AFTER UPDATE", of.same, replaced + old)
    yield of.trigger("rekey", f"AFTER UPDATE OF {key}", of.moved, replaced + gone + new)
    clashes = of.clashes(f"OLD.{key}")
    # Only one of these is for a write: SQLite does not say which comes first, and it forgets what was kept.
    if clashes:
        yield of.keeper("update_before", "BEFORE UPDATE", of.same, clashes)
    yield of.keeper("rekey_before", f"BEFORE UPDATE OF {key}", of.moved, [by_key, *clashes])


def nested(tracked: TrackedObject, is_on: str) -> Iterator[tuple[str, str]]:
    """Yield the name and SQL of each trigger of a table whose writes may write it again."""
    of = _Parts(tracked, is_on)
    key, by_key = of.key, f"{of.key} = {of.new_key}"
    end_old, end_new = (of.end_write(f"{row}.{key}") if tracked.uniques else "" for row in ("OLD", "NEW"))
    begun, new, old, gone = of.append_old(BEGUN), of.new_if_there(), of.old_if_there(), of.gone_if_missing()
    twins = of.keep_rows(f"{by_key} AND NOT {is_same_key(key, of.new_key)}")
    starts = of.begin_new() + twins + of.keep_clashes(of.new_key)
    yield of.trigger("insert_before", "BEFORE INSERT", is_on, starts)
    yield of.trigger("insert", "AFTER INSERT", is_on, end_new + new)
    yield of.trigger("delete_before", "BEFORE DELETE", is_on, begun)
    yield of.trigger("delete", "AFTER DELETE", is_on, end_old + gone)
    yield of.trigger("update_before", "BEFORE UPDATE", is_on, begun + of.keep_clashes(f"OLD.{key}"))
    yield of.trigger("update", "AFTER UPDATE", of.same, end_old + old)
    target = of.keep_rows(by_key) + of.keep_that_there_is_none()
    yield of.trigger("rekey_before", f"BEFORE UPDATE OF {key}", of.moved, target)
    yield of.trigger("rekey", f"AFTER UPDATE OF {key}", of.moved, end_old + gone + new)


class _Parts:
    """Parts of the triggers of one object."""

    def __init__(self, tracked: TrackedObject, is_on: str) -> None:
        self._tracked = tracked
        self.key, self._table, self._log = map(quoted, (tracked.key, tracked.table, tracked.log))
        is_other = f"OLD.{self.key} IS NOT NEW.{self.key} COLLATE BINARY"
        self._stand_ins = {quoted(name).lower(): sql for name, sql in tracked.stand_ins}
        self.new_key: str = self._new(self.key)
        """The key that a write puts there, before it is."""
        self.same, self.moved = f"NOT ({is_other}) AND {is_on}", f"{is_other} AND {is_on}"

    def trigger(self, what: str, when: str, only: str, body: str) -> tuple[str, str]:
        """Return the name and SQL of a trigger."""
        name = trigger_name(self._tracked.name, what)
        return name, f"CREATE TRIGGER {quoted(name)} {when} ON {self._table} WHEN {only} BEGIN {body} END"

    def keeper(self, what: str, when: str, only: str, replaced: list[str]) -> tuple[str, str]:
        """Return the trigger that keeps the rows that NEW may replace, and forgets those of the last write.

        Mostly there are none. To look for them costs less than to begin the trigger's body.
        """
        found = [f"EXISTS (SELECT 1 FROM {self._table} WHERE {where})" for where in replaced]
        left = f"(SELECT changed FROM {self._log} ORDER BY rowid DESC LIMIT 1) = {KEPT}"
        only = f"{only} AND ({' OR '.join((*found, left))})"
        forget = f"DELETE FROM {self._log} WHERE {self._kept_last()}; "
        return self.trigger(what, when, only, forget + "".join(map(self.keep_rows, replaced)))

    # -- what may be replaced --------------------------------------------------------------------------

    def clashes(self, own_key: str) -> list[str]:
        """Return the conditions on other rows that have NEW's values in a unique index."""
        others = f"{self.key} IS NOT {own_key} AND typeof({self.key}) = 'text'"
        return [" AND ".join((*self._clash(index), others)) for index in self._tracked.uniques]

    def _clash(self, index: UniqueIndex) -> Iterator[str]:
        """Yield what makes a row clash with NEW in one index; SQLite finds such rows by that index.

        Whether the index is about NEW nobody asks: a record that was kept and is still there counts nothing.
        """
        if index.where is not None:
            yield f"({index.where})"
        for term in index.terms:
            new = self._of_new(term.sql) if term.is_expression else self._new(term.sql)
            yield f"({term.sql}) = {new} COLLATE {quoted(term.collation)}"

    def _of_new(self, expression: str) -> str:
        """Return what an expression of the table's columns is for NEW."""
        names = map(quoted, (self._tracked.key, *self._tracked.column_names, *self._tracked.others))
        columns = ", ".join(f"{self._new(name)} AS {name}" for name in names)
        return f"(SELECT ({expression}) FROM (SELECT {columns}))"

    def _new(self, column: str) -> str:
        """Return what a write that may replace puts into a column, of which a BEFORE trigger knows NULL."""
        stand_in = self._stand_ins.get(column.lower())
        return f"NEW.{column}" if stand_in is None else f"coalesce(NEW.{column}, {stand_in})"

    def keep_rows(self, where: str) -> str:
        """Return the statement that keeps rows of the table as they are before the write."""
        return f"INSERT INTO {self._log} SELECT {self._logged('', KEPT)} FROM {self._table} WHERE {where}; "

    def keep_clashes(self, own_key: str) -> str:
        """Return the statements that keep what NEW may replace by a unique index."""
        return "".join(map(self.keep_rows, self.clashes(own_key)))

    # -- plain writes ----------------------------------------------------------------------------------

    def append_new(self) -> str:
        """Return the statement that logs a new record."""
        return f"INSERT INTO {self._log} (key, changed, known) VALUES (NEW.{self.key}, {WRITTEN}, 0); "

    def append_old(self, changed: int) -> str:
        """Return the statement that logs a record as it was before the write."""
        return f"INSERT INTO {self._log} VALUES ({self._logged('OLD.', changed)}); "

    def append_gone(self) -> str:
        """Return the statement that logs a record which is gone, as it was."""
        changed = f"CASE typeof(OLD.{self.key}) WHEN 'text' THEN {GONE} ELSE {WRITTEN} END"
        return f"INSERT INTO {self._log} VALUES ({self._logged('OLD.', changed)}); "

    def find_replaced(self) -> str:
        """Return the statement that marks as gone what the write has replaced of the rows kept before it."""
        return (
            f"UPDATE {self._log} SET changed = {GONE} WHERE {self._kept_last()} "
            f"AND NOT EXISTS (SELECT 1 FROM {self._table} AS now WHERE now.{self.key} = {self._log}.key); "
        )

    def _kept_last(self) -> str:
        """Return the condition on rows at the log's end, after which no write has followed yet."""
        done = f"SELECT rowid FROM {self._log} WHERE changed > {KEPT} ORDER BY rowid DESC LIMIT 1"
        return f"changed = {KEPT} AND rowid > coalesce(({done}), 0)"

    # -- writes within writes --------------------------------------------------------------------------

    def begin_new(self) -> str:
        """Return the statement that logs, before an insert, what has NEW's key, or that nothing has it."""
        values = "".join(f", now.{quoted(name)}" for name in self._tracked.column_names)
        return (
            f"INSERT INTO {self._log} SELECT {self.new_key}, {BEGUN}, now.{self.key} IS NOT NULL{values} "
            f"FROM (SELECT 1) LEFT JOIN {self._table} AS now ON {self._has('now', self.new_key)} "
            f"WHERE {self.new_key} IS NOT NULL; "
        )

    def keep_that_there_is_none(self) -> str:
        """Return the statement that logs, before a change of the key, that nothing has NEW's key."""
        return (
            f"INSERT INTO {self._log} (key, changed, known) SELECT {self.new_key}, {KEPT}, 0 "
            f"WHERE NOT {self._is_there(self.new_key)} AND {self.new_key} IS NOT NULL; "
        )

    def new_if_there(self) -> str:
        """Return the statement that logs a new record, unless a write within its own has removed it.

        A key that is NULL is refused by the log.
        """
        return (
            f"INSERT INTO {self._log} (key, changed, known) SELECT NEW.{self.key}, {WRITTEN}, 0 "
            f"WHERE NEW.{self.key} IS NULL OR {self._is_there(f'NEW.{self.key}')}; "
        )

    def old_if_there(self) -> str:
        """Return the statement that logs a record that was updated, unless a write within has removed it."""
        logged = self._logged("OLD.", WRITTEN)
        return f"INSERT INTO {self._log} SELECT {logged} WHERE {self._is_there(f'NEW.{self.key}')}; "

    def gone_if_missing(self) -> str:
        """Return the statement that logs a record that was deleted, and may have been made again within."""
        is_gone = f"typeof(OLD.{self.key}) = 'text' AND NOT {self._is_there(f'OLD.{self.key}')}"
        changed = f"CASE WHEN {is_gone} THEN {GONE} ELSE {WRITTEN} END"
        return f"INSERT INTO {self._log} VALUES ({self._logged('OLD.', changed)}); "

    def end_write(self, own_key: str) -> str:
        """Return the statements that end a write: they find what was replaced since it has begun.

        What was kept or written since, and is not there, has gone within. Its own row, and those of writes
        within it that did not follow, are none of a write that has begun any more. So the last one of a key
        is that of the innermost write.
        """
        begun = (
            f"(SELECT rowid FROM {self._log} WHERE changed = {BEGUN} AND key = {own_key} "
            "ORDER BY rowid DESC LIMIT 1)"
        )
        is_here = f"SELECT 1 FROM {self._table} AS now WHERE {self._has('now', f'{self._log}.key')}"
        return (
            f"UPDATE {self._log} SET changed = {GONE} WHERE rowid > {begun} AND NOT EXISTS ({is_here}) "
            f"AND (changed = {KEPT} AND known OR changed = {WRITTEN}); "
            f"UPDATE {self._log} SET changed = {KEPT} WHERE changed = {BEGUN} AND rowid >= {begun}; "
        )

    def _is_there(self, key: str) -> str:
        """Return the condition that a record is in its table, whatever triggers have done since."""
        return f"EXISTS (SELECT 1 FROM {self._table} AS now WHERE {self._has('now', key)})"

    def _has(self, row: str, key: str) -> str:
        return is_key(f"{row}.{self.key}", key)

    def _logged(self, row: str, changed: int | str) -> str:
        """Return what the log gets of a record that is there before the write."""
        values = [f"{row}{quoted(name)}" for name in self._tracked.column_names]
        return ", ".join((f"{row}{self.key}", str(changed), "1", *values))
