"""``statesync sync``: one session over a device database. Exit code 0 done, 1 failed, 3 cancelled."""

from __future__ import annotations

import click

from statesync.classes import frozen
from statesync.cli.commands import visible
from statesync.cli.devices import opened, remote_options
from statesync.cli.kinds import COUNT
from statesync.cli.printing import database_argument, json_option, print_json, say
from statesync.cli.syncing.interrupt import cancelled_by_signals, grace_option
from statesync.cli.syncing.progress import SessionBar
from statesync.conflicts import POLICIES
from statesync.errors import (
    AllRejected,
    ConnectionLost,
    RemoteError,
    SyncCancelled,
    SyncError,
    Unauthorized,
    Unreachable,
)
from statesync.net.remote import HttpRemote
from statesync.scope import Store
from statesync.session.handle import Session
from statesync.values import CancelOptions, SyncOptions, SyncResult, SyncType

CANCELLED = 3
"""The exit code of a session that was cancelled."""


@click.command()
@database_argument
@remote_options
@click.option("--upload-only", is_flag=True, help="Send changes, fetch nothing.")
@click.option("--download-only", is_flag=True, help="Fetch records, send nothing.")
@click.option(
    "--batch-size", type=COUNT, help="Records a batch; without it, 50 up, and down what fits into 0.1 s."
)
@click.option(
    "--conflicts",
    type=click.Choice(list(POLICIES)),
    default="merge_fields",
    show_default=True,
    help="What is kept of a record that both sides changed.",
)
@click.option("--attempts", type=COUNT, default=5, show_default=True, help="How often one batch is sent.")
@grace_option
@json_option
def sync(
    database: str,
    remote: HttpRemote,
    upload_only: bool,
    download_only: bool,
    batch_size: int | None,
    conflicts: str,
    attempts: int,
    grace: float,
    as_json: bool,
) -> None:
    """Sync the device database DB with a hub, without the program that it belongs to.

    Changes made here go up, what others changed comes down. Ctrl-C, SIGTERM, or the end of its terminal
    cancels: the batch in flight is brought to its end, what was saved stays, and the next sync goes on from
    there. A second Ctrl-C kills. The exit code is 0 if the session is done, 1 if it failed, 3 if it was
    cancelled.
    """
    if upload_only and download_only:
        raise click.UsageError("--upload-only and --download-only exclude each other.")
    usual = SyncOptions()
    options = SyncOptions(
        upload_batch_size=batch_size or usual.upload_batch_size,
        download_batch_size=batch_size or usual.download_batch_size,
        sync_type=_direction(upload_only=upload_only, download_only=download_only),
        conflict_policy=conflicts,
        max_attempts=attempts,
        get_sync_stats=as_json,
        cancel_grace=grace,
    )
    cancel = CancelOptions(grace=grace)
    with opened(database) as store:
        session = store.scope(remote).start_sync(options)
        ended = _follow(session, cancel, quiet=as_json)
        _report(database, store, session, ended, as_json=as_json)


def _direction(*, upload_only: bool, download_only: bool) -> SyncType:
    if upload_only:
        return SyncType.UPLOAD_ONLY
    return SyncType.DOWNLOAD_ONLY if download_only else SyncType.FULL


def _follow(session: Session, cancel: CancelOptions, *, quiet: bool) -> SyncError | None:
    """Show the session until it has ended, and return its error."""
    with cancelled_by_signals(session, cancel.grace), SessionBar(quiet=quiet) as bar:
        for event in session.events():
            bar.show(event)
        return session.exception()


@frozen
class _Outcome:
    """What ``--json`` prints of a session."""

    session: str
    phase: str
    code: int | None
    reason: str | None
    message: str | None
    result: SyncResult | None


def _report(database: str, store: Store, session: Session, error: SyncError | None, *, as_json: bool) -> None:
    result: SyncResult | None = session.result() if error is None else error.result
    if as_json:
        info = store.session(session.id)
        code = error.code if error else None
        print_json(_Outcome(session.id, info.phase, code, info.reason, info.error, result))
    elif result is not None:
        _print_summary(database, result)
    if isinstance(error, SyncCancelled):
        click.echo(visible(f"statesync: {error.message}; sync again to go on"), err=True)
        raise click.exceptions.Exit(CANCELLED)
    if error is not None:
        raise click.ClickException(f"{error.message}{_what_next(database, error)}")


def _what_next(database: str, error: SyncError) -> str:
    """Return the advice that the error's own message cannot give: it knows no command line."""
    match error:
        case Unreachable():
            return "; check the address and the network, then sync again"
        case Unauthorized():
            return "; give a token of this space with --token or in STATESYNC_TOKEN"
        case AllRejected():
            return f"; see: statesync pending {database}"
        case ConnectionLost() | RemoteError(retryable=True):
            return "; what was saved stays, sync again to go on"
        case _:
            return ""


def _print_summary(database: str, result: SyncResult) -> None:
    stats = result.stats
    click.echo(
        f"{result.phase}: {stats.uploaded:,} records up, {stats.downloaded:,} down, in {stats.elapsed:.1f} s"
    )
    if result.conflicts:
        click.echo(f"conflicts: {len(result.conflicts)}; see: statesync conflicts {database}")
    if result.errors.upload:
        click.echo(f"rejected: {len(result.errors.upload)}; see: statesync pending {database}")
    if result.quarantined:
        click.echo(f"in quarantine: {result.quarantined:,}; see: statesync quarantine {database}")
    for error in result.errors.download:
        if error.code == "orphaned":
            say(f"orphaned: {error.object} {error.key}: {error.message}")
        elif error.code == "nothing_fits":
            say(error.message)
