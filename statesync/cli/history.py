"""``statesync sessions`` and ``statesync session``: what was synced, and how it went."""

from __future__ import annotations

import click

from statesync.cli.devices import opened
from statesync.cli.kinds import COUNT, NAME
from statesync.cli.printing import (
    database_argument,
    ending,
    json_option,
    local_time,
    plain_table,
    print_json,
    print_table,
    say,
)
from statesync.errors import UnknownObject
from statesync.scope import Store
from statesync.values import JournalEntry, SessionInfo


@click.command()
@database_argument
@click.option("-n", "--limit", default=20, type=COUNT, show_default=True, help="How many, the newest.")
@json_option
def sessions(database: str, limit: int, as_json: bool) -> None:
    """List the sessions of the device database DB, the newest last.

    A session that a crash left unfinished is shown as failed (interrupted).
    """
    with opened(database) as store:
        found = store.sessions(limit)
    if as_json:
        print_json(found)
    elif not found:
        click.echo(f"{database} has never been synced")
    else:
        _print_sessions(found)


def _print_sessions(found: list[SessionInfo]) -> None:
    figures = ("batches", "up", "down", "seconds")
    table = plain_table("session", "started", "ended as", *figures, right=figures)
    for info in found:
        table.add_row(
            info.id,
            local_time(info.started),
            ending(info),
            str(len(info.stats.batches)),
            f"{info.stats.uploaded:,}",
            f"{info.stats.downloaded:,}",
            f"{info.stats.elapsed:.2f}",
        )
    print_table(table)


@click.command()
@database_argument
@click.argument("session_id", type=NAME, metavar="[ID]", required=False)
@json_option
def session(database: str, session_id: str | None, as_json: bool) -> None:
    """Show all that one session of the device database DB did: its batches and every step it took.

    ID is the session's id or the beginning of it; without it, the newest session is shown.
    """
    with opened(database) as store:
        info = store.session(session_id) if session_id else _newest(store, database)
        journal = store.journal(info.id)
    if as_json:
        print_json({"session": info, "journal": journal})
        return
    _print_summary(info)
    _print_batches(info)
    _print_journal(journal)


def _newest(store: Store, database: str) -> SessionInfo:
    found = store.sessions(1)
    if not found:
        raise UnknownObject(f"{database} has never been synced; see: statesync sync --help")
    return found[0]


def _print_summary(info: SessionInfo) -> None:
    click.echo(f"session  {info.id}, started {local_time(info.started)}")
    say(f"scope    {', '.join(info.objects)} in space {info.space}")
    click.echo(
        f"ended    {ending(info)} after {info.stats.elapsed:.2f} s, "
        f"{info.stats.uploaded:,} records up, {info.stats.downloaded:,} down"
    )
    if info.error:
        say(f"because  {info.error}")


def _print_batches(info: SessionInfo) -> None:
    figures = ("batch", "records", "attempts", "request s", "parsing s", "storing s")
    table = plain_table("batch", "direction", "ended as", *figures[1:], right=figures)
    stats = {batch.number: batch for batch in info.stats.batches}
    for batch in info.batches:
        seconds = stats.get(batch.number)
        times = (seconds.request, seconds.parsing, seconds.storing) if seconds else ()
        table.add_row(
            str(batch.number),
            str(batch.direction),
            f"{batch.phase}, in doubt" if batch.in_doubt else str(batch.phase),
            f"{seconds.records if seconds else 0:,}",
            str(batch.attempts),
            *(f"{time:.3f}" for time in times),
        )
    if info.batches:
        click.echo()
        print_table(table)


def _print_journal(journal: list[JournalEntry]) -> None:
    table = plain_table(
        "step", "at s", "chart", "batch", "trigger", "from", "to", right=("step", "at s", "batch")
    )
    for entry in journal:
        table.add_row(
            str(entry.number),
            f"{entry.elapsed:.3f}",
            entry.chart,
            "" if entry.batch is None else str(entry.batch),
            str(entry.trigger),
            str(entry.source),
            str(entry.target),
        )
    click.echo()
    print_table(table)
