"""``statesync doctor``, ``diagnose`` and ``quarantine``: is the file sound, does it say what the hub says?"""

from __future__ import annotations

import sys
from contextlib import closing

import click

from statesync.cli.devices import opened, remote_options
from statesync.cli.printing import (
    database_argument,
    json_option,
    local_time,
    plain_table,
    print_json,
    print_table,
    say,
)
from statesync.complaints import Complaint, Repair
from statesync.diagnosis.found import ObjectDiagnosis
from statesync.errors import StoreCorrupt
from statesync.net.remote import HttpRemote
from statesync.scope import Store
from statesync.values import Quarantined


@click.command()
@database_argument
@click.option("--repair", is_flag=True, help="Mend what can be mended; no pending change is lost.")
@json_option
def doctor(database: str, repair: bool, as_json: bool) -> None:
    """Check the device database DB: the file, the triggers, the outbox, the cursors and the journal.

    Says what is wrong in plain words; exit code 1 if anything is. With --repair it mends what can be
    mended, and says table by table what is gone: what has to come from the hub comes with the next sync.
    Stop the program that uses the database first. A copy of a damaged file is kept beside it, with .damaged
    at its end. A file whose indexes need a collation or a function of that program is mended by the program
    itself, with repair() of its Store.
    """
    found = left = _examined(database)
    if repair and found:
        with Store(database) as store:
            left = store.repair()
    if as_json:
        print_json({"found": found, "left": left})
    else:
        _report(found, left, repaired=repair)
    sys.exit(1 if left else 0)


def _examined(database: str) -> list[Complaint]:
    """Return what is wrong with a store, also with one that is too damaged to be opened."""
    try:
        with Store.open(database) as store:
            return store.examine()
    except StoreCorrupt as error:
        return [Complaint("file", error.message, Repair.SALVAGE)]


def _report(found: list[Complaint], left: list[Complaint], *, repaired: bool) -> None:
    if not found:
        click.echo("the store is sound")
    for complaint in found:
        say(f"{complaint.about}: {complaint.message}")
    if found and repaired:
        mended = [complaint for complaint in found if complaint not in left]
        click.echo(f"mended {len(mended)} of {len(found)}; sync to fetch what comes from the hub")
        for complaint in left:
            if complaint not in found:
                say(f"{complaint.about}: {complaint.message}")
    elif any(complaint.repair for complaint in found):
        click.echo("run it again with --repair to mend that")


@click.command()
@database_argument
@remote_options
@json_option
def diagnose(database: str, remote: HttpRemote, as_json: bool) -> None:
    """Compare the device database DB with the hub by checksums, down to the records that differ.

    Changes nothing on either side. Exit code 1 if anything differs that the next sync would not bring.
    """
    with closing(remote), Store.open(database) as store:
        found = store.scope(remote).diagnose()
    if as_json:
        print_json(found)
    else:
        _print_diagnosis(found.objects)
    sys.exit(0 if found.is_consistent() else 1)


def _print_diagnosis(objects: tuple[ObjectDiagnosis, ...]) -> None:
    numbers = ("here", "on the hub", "pending", "parked", "local only", "held back", "differ")
    table = plain_table("object", *numbers, right=("here", "on the hub"))
    for one in objects:
        waiting = (one.pending, one.parked, one.local_only, one.quarantined)
        counts = (one.here, one.there, *waiting, len(one.differences))
        table.add_row(one.object, *map(str, counts))
    print_table(table)
    for difference in (difference for one in objects for difference in one.differences):
        say(f"{difference.object} {difference.key}: {difference.kind.replace('_', ' ')}")


@click.command()
@database_argument
@json_option
def quarantine(database: str, as_json: bool) -> None:
    """List the records of the device database DB that the hub has sent and that do not fit their tables.

    For each one: the rule that it breaks, and the record that has its unique value. They are tried again with
    every sync that downloads: after the table was migrated, the value was given up, or the hub has a newer
    version. The exit code is 0 also if there are any.
    """
    with opened(database) as store:
        found = store.quarantine()
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("nothing is in quarantine")
        return
    table = plain_table("object", "key", "rule", "why", "in the way", "since", "tries", right=("tries",))
    for entry in found:
        table.add_row(*_cells(entry))
    print_table(table)


def _cells(entry: Quarantined) -> tuple[str, ...]:
    since, tries = local_time(entry.since), str(entry.tries)
    return entry.object, entry.key, entry.code, entry.message, entry.in_the_way or "", since, tries
