"""Making a sound copy of a damaged file: its trees are rebuilt from what is left, and SQLite copies the rest.

SQLite's own VACUUM makes the copy. So it has all that the file has: rows to the byte, generated columns,
tables that belong to virtual ones, counters, pragmas. Nothing of the program's has to be run for it, but the
collations and functions that its indexes are made with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from statesync.classes import frozen
from statesync.errors import StoreCorrupt
from statesync.store.care import garbling, rebuilding, searches
from statesync.store.care.losses import Loss, Losses
from statesync.store.care.pages import PageFile
from statesync.store.care.shapes import shape_of
from statesync.store.care.trees import Root, Tree, survey
from statesync.store.tracking.quoting import literal, quoted

Equip = Callable[[sqlite3.Connection], None]
"""Gives a connection the program's collations and functions."""

_SCHEMA_ROOT = 1
_LARGEST_ROOT, _INCREMENTAL = 52, 64


class _Entry(NamedTuple):
    """One entry of the file's list of tables and indexes."""

    kind: str
    name: str
    table: str
    root: int


@frozen
class _Plan:
    """What stands in the file: its trees, and how it frees pages by itself (0 to 2)."""

    entries: tuple[_Entry, ...]
    roots: tuple[Root, ...]
    vacuums: int


def mended_copy(work: Path, fresh: Path, equip: Equip) -> Losses:
    """Make at ``fresh`` a sound copy of the damaged file ``work``, which is changed on the way.

    Raises ``StoreCorrupt`` where the list of tables itself is damaged, and ``sqlite3.Error`` where the
    copy needs a collation or function that ``equip`` does not bring.
    """
    plan = _plan(work)
    with PageFile(work) as file:
        trees = survey(file, plan.roots)
        if not trees[_SCHEMA_ROOT].is_sound:
            raise StoreCorrupt("the list of tables in the file is damaged; restore the file from a backup")
        rebuilding.forget_free_pages(file)
        for tree in trees.values():
            if tree.root.columns is not None and not tree.is_sound:
                rebuilding.rebuild(file, tree)
        rebuilding.note_page_count(file)
    broken = {
        entry.table: trees[entry.root]
        for entry in plan.entries
        if entry.kind == "table" and not trees[entry.root].is_sound
    }
    losses = Losses(_losses(work, plan, trees, broken, equip))
    _make_indexes_anew(work, plan)
    return Losses([*losses, *_copy(work, fresh, plan, losses, equip)])


# -- what is there ---------------------------------------------------------------------------------


def _plan(work: Path) -> _Plan:
    with closing(sqlite3.connect(work)) as connection:
        rows = connection.execute(
            "SELECT type, name, tbl_name, rootpage FROM sqlite_master WHERE rootpage > 0"
        ).fetchall()
        entries = tuple(map(_Entry._make, rows))
        with_rowid = _with_rowid(connection)
        roots = [Root(_SCHEMA_ROOT, is_table=True, columns=5)]
        for entry in entries:
            is_table = entry.kind == "table"
            columns = _stored_columns(connection, entry.name) if is_table else None
            has_rowids = is_table and entry.name in with_rowid
            shape = shape_of(connection, entry.name) if has_rowids else ()
            roots.append(Root(entry.root, is_table=has_rowids, columns=columns, shape=shape))
    with PageFile(work) as file:
        vacuums = 0
        if file.header_number(_LARGEST_ROOT):
            vacuums = 2 if file.header_number(_INCREMENTAL) else 1
    return _Plan(entries, tuple(roots), vacuums)


def _with_rowid(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("PRAGMA table_list").fetchall()
    listed = {row[1] for row in rows if row[0] == "main" and not row[4]}
    return listed | {"sqlite_sequence", "sqlite_stat1", "sqlite_stat4"}


def _stored_columns(connection: sqlite3.Connection, table: str) -> int:
    rows = connection.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    return sum(row[6] != 2 for row in rows)  # a virtual generated column is not stored


# -- what is lost ----------------------------------------------------------------------------------


def _losses(
    work: Path, plan: _Plan, trees: Mapping[int, Tree], broken: Mapping[str, Tree], equip: Equip
) -> list[Loss]:
    with closing(sqlite3.connect(work, isolation_level=None)) as connection:
        equip(connection)
        return [_loss(connection, table, tree, plan, trees) for table, tree in broken.items()]


def _loss(
    connection: sqlite3.Connection, table: str, tree: Tree, plan: _Plan, trees: Mapping[int, Tree]
) -> Loss:
    (read,) = connection.execute(f"SELECT count(*) FROM {quoted(table)} NOT INDEXED").fetchone()
    if not tree.root.is_table:
        return Loss(table, read, None if tree.lost_pages else tree.lost_cells)
    sound = {e.name for e in plan.entries if e.kind == "index" and trees[e.root].is_sound}
    for index, columns in _unique_indexes(connection, table).items():
        if index in sound:
            known, garbled = garbling.compare(connection, table, index, columns)
            beside = [cell.rowid for leaf in tree.leaves for cell in leaf.kept or ()]
            doubtful = garbling.entries(connection, table, columns, [*garbled, *beside])
            return Loss(table, read, len(known), known, garbled, doubtful)
    return Loss(table, read, None if tree.lost_pages else tree.lost_cells)


def _unique_indexes(connection: sqlite3.Connection, table: str) -> dict[str, list[str]]:
    """Return the unique indexes of a table that have every row, with their columns; the key's first."""
    listed = connection.execute(f"PRAGMA index_list({quoted(table)})").fetchall()
    found = {}
    for _, name, is_unique, _origin, is_partial in sorted(listed, key=lambda row: row[3] != "pk"):
        rows = connection.execute(f"PRAGMA index_info({quoted(name)})").fetchall()
        columns = [row[2] for row in rows]
        if is_unique and not is_partial and None not in columns:
            found[name] = columns
    return found


# -- the copy --------------------------------------------------------------------------------------


def _make_indexes_anew(work: Path, plan: _Plan) -> None:
    with PageFile(work) as file:
        for entry in plan.entries:
            if entry.kind == "index":
                rebuilding.empty(file, entry.root)


def _copy(work: Path, fresh: Path, plan: _Plan, losses: Losses, equip: Equip) -> list[Loss]:
    """Make the copy; return what is lost of tables that had rows which nobody can have written."""
    with closing(sqlite3.connect(work, isolation_level=None)) as connection:
        equip(connection)
        connection.execute("PRAGMA synchronous = OFF")  # of the work file nothing is kept
        connection.execute("REINDEX")
        tables = [entry.name for entry in plan.entries if entry.kind == "table"]
        garbled = garbling.drop(connection, tables, losses)
        _restore_counters(connection)
        searches.rebuild(connection, losses)
        connection.execute(f"PRAGMA auto_vacuum = {plan.vacuums}")
        connection.execute("VACUUM INTO ?", (str(fresh),))
    return garbled


def _restore_counters(connection: sqlite3.Connection) -> None:
    """Let keys that SQLite counts go on from the highest that is there, where the counter is lost."""
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
    ).fetchall()
    for name, _ in rows:
        if not connection.execute("SELECT 1 FROM sqlite_sequence WHERE name = ?", (name,)).fetchone():
            connection.execute(
                f"INSERT INTO sqlite_sequence SELECT {literal(name)}, max(rowid) FROM {quoted(name)} "
                "HAVING count(*)"
            )
