"""``statesync hub``: the server that devices exchange records with; its tables, and what it forgets."""

from __future__ import annotations

import click

from statesync.cli.hub.database import database_option, opened, plain_errors
from statesync.cli.hub.serving import serve_command
from statesync.cli.hub.tokens import token
from statesync.cli.kinds import NAME, VERSION
from statesync.hub import epochs, prepare, retention, spaces
from statesync.hub.db.refusals import failures_as_refusals


@click.group(name="hub")
def hub() -> None:
    """The server that devices exchange records with."""


@hub.command()
@database_option
@click.option("--distribute", is_flag=True, help="Spread the tables by their space (PostgreSQL with Citus).")
def init(url: str, distribute: bool) -> None:
    """Make the hub's tables, or bring those of an older version up to date."""
    with plain_errors():
        done = prepare(url, distributed=distribute, say=click.echo)
    click.echo(f"{done} migrations ran; the database is ready" if done else "the database is up to date")


hub.add_command(serve_command)


@hub.command()
@database_option
@click.option("--space", required=True, type=NAME)
@click.option(
    "--through",
    required=True,
    type=VERSION,
    help="The version of the last delete to forget.",
)
def purge(url: str, space: str, through: int) -> None:
    """Forget old deletes. Devices that have not synced since then read everything again."""
    with plain_errors():
        with opened(url, writes=True) as database, failures_as_refusals():
            forgotten = retention.forget(database, space, through)
        click.echo(f"{forgotten} deletes are forgotten")


@hub.command()
@database_option
@click.option("--space", "names", multiple=True, type=NAME, help="The space; may be given more than once.")
@click.option("--all", "all_of_them", is_flag=True, help="Every space of the hub.")
def epoch(url: str, names: tuple[str, ...], all_of_them: bool) -> None:
    """Begin a new epoch: after the database was restored from a backup, before devices come back.

    Devices read everything again, keep what they have not sent, and offer what the hub has lost.
    """
    if bool(names) == all_of_them:
        raise click.UsageError("say which space: --space NAME, or --all")
    with plain_errors(), opened(url, writes=True) as database, failures_as_refusals():
        if all_of_them:
            with database.reading():
                names = tuple(spaces.names(database))
        for name in names:
            with database.writing():
                epochs.begin_by_hand(database, name)
            click.echo(f"{name} has begun a new epoch")


hub.add_command(token)
