"""``statesync pending``, ``retry``, ``conflicts``, ``resolve``: what waits, and what both sides made."""

from __future__ import annotations

import click

from statesync.cli.devices import opened
from statesync.cli.kinds import COUNT, IDENTIFIER, NAME, TEXT
from statesync.cli.printing import (
    database_argument,
    json_option,
    local_time,
    plain_table,
    print_json,
    print_table,
    say,
)
from statesync.conflicts import Record
from statesync.values import ConflictEntry, Parked, PendingChange


@click.command()
@database_argument
@json_option
def pending(database: str, as_json: bool) -> None:
    """List the changes of the device database DB that wait for the hub, in the order of their making.

    A change that the hub refused is parked, and shows why: it waits until it is edited, or until `statesync
    retry` lets it go. A deferred one waits until the program marks it for upload, and one in conflict until
    `statesync resolve` has settled it.
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
    if change.parked is not None:
        return _refused(change.parked)
    return "deferred" if change.deferred else change.error or "waits"


def _refused(parked: Parked) -> str:
    about = f" ({parked.field})" if parked.field else ""
    often = "" if parked.attempts == 1 else f", refused {parked.attempts} times"
    until = "" if parked.retry_at is None else f", goes up again after {local_time(parked.retry_at)}"
    return f"parked: {parked.code}: {parked.message}{about}{often}{until}"


@click.command()
@database_argument
@click.argument("name", type=NAME, metavar="[OBJECT]", required=False)
@click.argument("key", type=TEXT, metavar="[KEY]", required=False)
@json_option
def retry(database: str, name: str | None, key: str | None, as_json: bool) -> None:
    """Let changes of the device database DB that the hub refused go up again with the next sync.

    Those of one record, of one OBJECT, or all. Do it once the cause is gone, such as a missing right.
    """
    with opened(database) as store:
        count = store.retry(name, key)
    if as_json:
        print_json({"retried": count})
    if key is not None and not count:
        raise click.ClickException(
            f"nothing is parked under the key {key!r} of {name}; see: statesync pending {database}"
        )
    if as_json:
        return
    go = "1 change goes" if count == 1 else f"{count} changes go"
    click.echo(f"{go} up again with the next sync")


@click.command()
@database_argument
@click.option("-n", "--limit", default=20, type=COUNT, show_default=True, help="How many, the newest.")
@json_option
def conflicts(database: str, limit: int, as_json: bool) -> None:
    """List the records of the device database DB that device and hub both changed, the newest last.

    For each one: what it was, what the device and the hub made of it, and what was kept. Those that wait for
    a decision come last; `statesync resolve` settles them.
    """
    with opened(database) as store:
        found = [*store.conflicts(limit), *store.conflicts(limit, waiting=True)]
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("there was no conflict")
    for entry in found:
        _print_conflict(entry)


@click.command()
@database_argument
@click.argument("number", metavar="ID", type=IDENTIFIER)
@click.option("--keep", type=click.Choice(["local", "remote"]), help="Which side stays, or comes back.")
@click.option(
    "--set",
    "values",
    multiple=True,
    type=TEXT,
    metavar="FIELD=VALUE",
    help="Decide a field; repeat it for more.",
)
@json_option
def resolve(database: str, number: int, keep: str | None, values: tuple[str, ...], as_json: bool) -> None:
    """Settle conflict ID of the device database DB, as `statesync conflicts` lists it.

    One that waits becomes the side that is kept; fields that --set leaves out are the hub's. Of one that was
    settled, what was lost comes back as an edit. What goes up from that, goes up with the next sync.
    """
    if (keep is None) == (not values):
        raise click.UsageError("Give either --keep or --set.")
    with opened(database) as store:
        store.resolve(number, keep or _fields(values))
        waiting = len(store.conflicts(waiting=True))
    if as_json:
        print_json({"id": number, "waiting": waiting})
        return
    click.echo(f"conflict {number} is resolved; {waiting} more wait, and the next sync sends what changed")


def _fields(values: tuple[str, ...]) -> dict[str, str]:
    odd = [value for value in values if "=" not in value]
    if odd:
        raise click.UsageError(f"--set takes FIELD=VALUE, not {odd[0]!r}.")
    return {name: value for name, _, value in (each.partition("=") for each in values)}


def _print_conflict(entry: ConflictEntry) -> None:
    say(f"{entry.id}  {entry.object} {entry.key}", bold=True, nl=False)
    click.echo(f"  {local_time(entry.at)}, session {entry.session}")
    table = plain_table("field", "before", "device", "hub", "kept")
    sides = (entry.base, entry.local, entry.remote)
    for name in _changed_fields(*sides, *(() if entry.waiting else (entry.kept,))):
        kept = "(waits)" if entry.waiting else _shown(entry.kept, name)
        table.add_row(name, *(_shown(side, name) for side in sides), kept)
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
