"""What the log of an object proves, as parts of a statement: which records are gone, which were written."""

from __future__ import annotations

from statesync.store.tracking.images import image_sql
from statesync.store.tracking.log import GONE, KEPT
from statesync.store.tracking.objects import TrackedObject
from statesync.store.tracking.quoting import in_main, is_key, quoted


def is_gone(tracked: TrackedObject) -> str:
    """Return the condition that the log proves that a ``logged`` record is there no more.

    That it is not found proves nothing: it may have been deleted untracked, or lost with a damaged page. One
    that stood in the way was replaced where a record is in its place whose key the table takes for the same.
    Most rows tell of a write, and prove nothing: for those nobody looks for the record.
    """
    key, table = quoted(tracked.key), in_main(tracked.table)
    is_there = f"EXISTS (SELECT 1 FROM {table} AS now WHERE {is_key(f'now.{key}', 'logged.key')})"
    twin = f"SELECT 1 FROM {table} AS twin WHERE twin.{key} = logged.key"
    return (
        f"(CASE logged.changed WHEN {GONE} THEN NOT {is_there} "
        f"WHEN {KEPT} THEN logged.known AND NOT {is_there} AND EXISTS ({twin}) ELSE 0 END)"
    )


def is_write(tracked: TrackedObject) -> str:
    """Return the condition that a ``logged`` row tells of a write, and not of one that may follow."""
    return f"(logged.changed > {KEPT} OR {is_gone(tracked)})"


def written(tracked: TrackedObject) -> str:
    """Select what was really written, one row a record: key, values before the writes, whether it is gone.

    The last write of a record says what it is, as in a fold.
    """
    gone, really = is_gone(tracked), is_write(tracked)
    last = f"max(CASE WHEN {really} THEN 2 * logged.rowid + {gone} END)"
    return (
        f"SELECT logged.key AS key, net.gone AS gone, "
        f"CASE WHEN logged.known THEN {image_sql(tracked, 'logged')} END AS image "
        f"FROM (SELECT min(logged.rowid) AS first, {last} % 2 AS gone "
        f"FROM {in_main(tracked.log)} AS logged GROUP BY logged.key HAVING sum({really})) AS net "
        f"JOIN {in_main(tracked.log)} AS logged ON logged.rowid = net.first"
    )
