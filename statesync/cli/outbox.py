"""``statesync pending`` and ``statesync conflicts``: what waits for the hub, and what both sides changed."""

from __future__ import annotations

import click

from statesync.cli.devices import opened
from statesync.cli.printing import (
    database_argument,
    json_option,
    local_time,
    plain_table,
    print_json,
    print_table,
)
from statesync.conflicts import Record
from statesync.values import ConflictEntry


@click.command()
@database_argument
@json_option
def pending(database: str, as_json: bool) -> None:
    """List the changes of the device database DB that wait for the hub, in the order of their making.

    A change that the hub rejected shows why; the next sync tries it again. A deferred one waits until the
    program marks it for upload.
    """
    with opened(database) as store:
        found = store.pending()
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("nothing waits for the hub")
        return
    table = plain_table("object", "key", "change", "writes", "state", right=("writes",))
    for change in found:
        state = "deferred" if change.deferred else change.error or "waits"
        table.add_row(change.object, change.key, change.operation, str(change.revision), state)
    print_table(table)


@click.command()
@database_argument
@click.option("-n", "--limit", default=20, show_default=True, help="How many, the newest.")
@json_option
def conflicts(database: str, limit: int, as_json: bool) -> None:
    """List the records of the device database DB that device and hub both changed, the newest last.

    For each one: what it was, what the device and the hub made of it, and what was kept.
    """
    with opened(database) as store:
        found = store.conflicts(limit)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("there was no conflict")
    for entry in found:
        _print_conflict(entry)


def _print_conflict(entry: ConflictEntry) -> None:
    click.secho(f"{entry.object} {entry.key}", bold=True, nl=False)
    click.echo(f"  {local_time(entry.at)}, session {entry.session}")
    table = plain_table("field", "before", "device", "hub", "kept")
    sides = (entry.base, entry.local, entry.remote, entry.kept)
    for name in _changed_fields(*sides):
        table.add_row(name, *(_shown(side, name) for side in sides))
    print_table(table)
    click.echo()


def _changed_fields(*sides: Record | None) -> list[str]:
    """Return the fields that are not the same on every side that has the record."""
    living = [side for side in sides if side is not None]
    names = dict.fromkeys(name for side in living for name in side)
    differing = [name for name in names if any(side.get(name) != living[0].get(name) for side in living)]
    return differing or list(names)[:1]


def _shown(side: Record | None, name: str) -> str:
    if side is None:
        return "(deleted)"
    value = side.get(name)
    return "" if value is None else str(value)
