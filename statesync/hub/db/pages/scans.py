"""The records that a page takes from a scan: the living ones of an object, in the order of their keys.

They are read from one index, that of the primary key, in its order. Deleted ones stand in it, too, until
they are purged. So a page looks at so many keys and at no more, as a page of feeds does: past many deletes
it ends where it has come to.
"""

from __future__ import annotations

from statesync.classes import frozen
from statesync.hub.db.database import Database, FeedRow, Statement
from statesync.hub.db.pages import feeds
from statesync.hub.limits import Room
from statesync.wire import Scan

_WITHIN = "space = ? AND object = ? AND key > ? AND key <= ?"
"""Keys compare by their code points: their column is declared so."""


@frozen
class Stretch:
    """The keys that a page has looked at in one scan, up to ``last``, or to the end if it is ``done``."""

    rows: list[FeedRow]
    """The living ones. Where others say whether a record is deleted, these say whether it is told by its key
    alone; such have no text."""
    last: str
    looked_at: int
    """Keys; those of the rows alone, where the page is full."""
    done: bool

    @property
    def size(self) -> int:
        """Bytes of all texts."""
        return sum(len(row[4]) for row in self.rows if row[4] is not None)


def stretch_query(space: str, name: str, scan: Scan, spared: str, most: int, data: str = "data") -> Statement:
    """Return the query of the living records among the next ``most`` keys, in their order.

    What is newer than the scan, or was written by ``spared``, is a stub; the empty text is no writer.
    That is the order of the inner query, whose rows SQLite passes on as they come: to ask for the order once
    more would have it sort them. A text that is not wanted is not read; ``data`` is the expression for one
    that is.
    """
    sql = f"""
        SELECT object, key, version, stub, data FROM (
            SELECT object, key, version, deleted, version > ? OR writer = ? AS stub,
                CASE WHEN version <= ? AND writer <> ? AND NOT deleted THEN {data} END AS data
            FROM record WHERE {_WITHIN} ORDER BY key LIMIT ?
        ) AS looked_at WHERE NOT deleted"""
    return sql, [scan.since, spared, scan.since, spared, *_bounds(space, name, scan), most]


def count_query(space: str, name: str, scan: Scan, most: int) -> Statement:
    """Return the query that counts the next keys, up to ``most``, and tells the last of them."""
    sql = f"SELECT key FROM record WHERE {_WITHIN} ORDER BY key LIMIT ?"
    return f"SELECT count(*), max(key) FROM ({sql}) AS looked_at", [*_bounds(space, name, scan), most]


def last_query(space: str, name: str, most: int) -> Statement:
    """Return the query of the last ``most`` keys of an object, from the last one on, and of the number of its
    living records."""
    sql = """
        SELECT key, deleted, (SELECT records FROM living WHERE space = ? AND object = ?)
        FROM record WHERE space = ? AND object = ? ORDER BY key DESC LIMIT ?"""
    return sql, [space, name, space, name, most]


@frozen
class Keys:
    """The keys of one object, in the open transaction."""

    database: Database
    space: str
    object: str

    def end(self) -> tuple[str, int]:
        """Return where a scan ends that begins now, and how many living records there are.

        It ends at the greatest key that a living record has. Behind that there may be many deleted ones.
        Where there are too many to look for it, it is somewhere before the key that is returned. The empty
        text if there is no record.
        """
        last, count = "", 0
        for most in (1, feeds.FEW):
            sql, parameters = last_query(self.space, self.object, most)
            rows = self.database.run(sql, *parameters).fetchall()
            living = next((str(key) for key, deleted, _ in rows if not deleted), None)
            last, count = (str(rows[-1][0]), int(rows[-1][2] or 0)) if rows else ("", 0)
            if living is not None:
                return living, count
            if len(rows) < most:
                return "", 0
        return last, count

    def stretch(self, scan: Scan, spared: str, limit: int, allowance: Room, most: int) -> Stretch:
        """Return the next records of a scan; of those that ``spared`` has written, the keys alone.

        Up to ``limit``, none that begins past what is allowed, and those among ``most`` keys.
        """
        if not scan.until:  # there was no record
            return Stretch([], "", 0, done=True)
        dialect = self.database.dialect
        query = stretch_query(self.space, self.object, scan, spared, most, dialect.data_for_pages)
        rows, is_full = dialect.stretch(self.database.pool, query, limit, allowance)
        if is_full:
            return Stretch(rows, rows[-1][1], len(rows), done=False)
        sql, parameters = count_query(self.space, self.object, scan, most)
        looked_at, last = self.database.run(sql, *parameters).fetchone()
        if looked_at < most or last == scan.until:
            return Stretch(rows, scan.until, looked_at, done=True)
        return Stretch(rows, last, looked_at, done=False)


def _bounds(space: str, name: str, scan: Scan) -> list[object]:
    return [space, name, scan.after, scan.until]
