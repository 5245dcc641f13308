"""The rules of a modelled device's table: which records it takes, and which stand in the way of others."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from statesync.verify.modelled.wire import Fields

Rows = tuple[tuple[str, Fields], ...]


@frozen(slots=False, cache_hash=True)
class Rules:
    """What a table asks of its records: a check that refuses some, and that no two are alike."""

    refuses: tuple[Fields, ...] = ()
    is_unique: bool = False


def in_the_way(rules: Rules | None, rows: Rows, key: str, data: Fields | None) -> str | None:
    """Return the key of the other record that has what must be unique in this one."""
    if rules is None or not rules.is_unique or data is None:
        return None
    return next((other for other, record in rows if other != key and record == data), None)


def fits(rules: Rules | None, rows: Rows, key: str, data: Fields | None) -> bool:
    """Tell whether the table takes this record; a delete always fits."""
    if rules is None or data is None:
        return True
    return data not in rules.refuses and in_the_way(rules, rows, key, data) is None


def written(rows: Rows, changed: Iterable[tuple[str, Fields | None]]) -> Rows:
    """Return the rows after these records were written, or deleted (None)."""
    known = dict(rows)
    for key, data in changed:
        if data is None:
            known.pop(key, None)
        else:
            known[key] = data
    return tuple(sorted(known.items()))


def with_room(rules: Rules, rows: Rows, crowded: dict[str, Fields]) -> tuple[Rows, set[str]]:
    """Write records whose unique values are each other's, together; return also the keys that must wait.

    The old rows are lifted out first. Those that cannot move stay as they were, and with them those that
    want what these have.
    """
    wanted = {key: in_the_way(rules, rows, key, data) for key, data in crowded.items()}
    moving, staying = dict(crowded), set[str]()
    while moving := _that_can_move(moving, wanted, staying):
        moved, failed = written(rows, dict.fromkeys(moving).items()), set[str]()
        for key, data in moving.items():
            if fits(rules, moved, key, data):
                moved = written(moved, [(key, data)])
            else:
                failed.add(key)
        if not failed:
            return moved, crowded.keys() - moving.keys()
        staying |= failed
    return rows, set(crowded)


def _that_can_move(
    moving: dict[str, Fields], wanted: dict[str, str | None], staying: set[str]
) -> dict[str, Fields]:
    left = {key: data for key, data in moving.items() if key not in staying}
    while stuck := [key for key in left if wanted[key] is not None and wanted[key] not in left]:
        for key in stuck:
            del left[key]
    return left
