"""``statesync pending``: what waits for the hub."""

from __future__ import annotations

import click

from statesync.cli.devices import opened
from statesync.cli.printing import (
    database_argument,
    json_option,
    plain_table,
    print_json,
    print_table,
)
from statesync.values import PendingChange


@click.command()
@database_argument
@json_option
def pending(database: str, as_json: bool) -> None:
    """List the changes of the device database DB that wait for the hub, in the order of their making.

    A change that the hub rejected shows why; the next sync tries it again. A deferred one waits until the
    program marks it for upload, and one in conflict until `statesync resolve` has settled it.
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
        table.add_row(change.object, change.key, change.operation, str(change.revision), _state(change))
    print_table(table)


def _state(change: PendingChange) -> str:
    if change.in_conflict:
        return "in conflict"
    return "deferred" if change.deferred else change.error or "waits"
