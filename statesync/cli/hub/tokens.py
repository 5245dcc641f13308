"""``statesync hub token``: who may do what."""

from __future__ import annotations

import time

import click

from statesync.cli.commands import visible
from statesync.cli.hub.database import database_option, opened, plain_errors
from statesync.cli.kinds import EXPIRY, NAME, TEXT
from statesync.hub import Right, create_token, list_tokens, revoke_token
from statesync.hub.access.rights import EVERY_OBJECT
from statesync.hub.access.tokens import LAST_EXPIRY, TokenRow

_space = click.option("--space", required=True, type=NAME, help="The space that the token opens.")


def _granted(_ctx: click.Context, _option: click.Parameter, given: str) -> frozenset[Right]:
    try:
        return frozenset(Right(word.strip()) for word in given.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{given[:40]!r} is not read, write, or read,write") from error


@click.group()
def token() -> None:
    """Who may do what."""


@token.command()
@database_option
@_space
@click.option(
    "--rights",
    default="read,write",
    show_default=True,
    type=TEXT,
    callback=_granted,
    help="read, write, or both.",
)
@click.option(
    "--object", "objects", multiple=True, type=NAME, help="Only this object; may be given more than once."
)
@click.option(
    "--expires", type=EXPIRY, help="How long it is good for, such as 12h or 90d; without it, for ever."
)
@click.option("--label", default="", type=TEXT, help="What you want to know it by.")
def create(
    url: str, space: str, rights: frozenset[Right], objects: tuple[str, ...], expires: int | None, label: str
) -> None:
    """Make a token and show it: this once, because only its hash is kept."""
    granted = dict.fromkeys(objects or (EVERY_OBJECT,), rights)
    until = None if expires is None else int(time.time()) + expires
    with plain_errors(), opened(url, writes=True) as database:
        click.echo(create_token(database, space, granted, label=label, expires=until))


@token.command(name="list")
@database_option
@_space
def list_command(url: str, space: str) -> None:
    """Show the tokens of a space, without their secrets."""
    with plain_errors(), opened(url) as database:
        for row in list_tokens(database, space):
            click.echo(_described(row))


@token.command()
@database_option
@_space
@click.argument("identifier", type=NAME)
def revoke(url: str, space: str, identifier: str) -> None:
    """End a token at once, by the id that ``list`` shows."""
    with plain_errors(), opened(url, writes=True) as database:
        if not revoke_token(database, space, identifier):
            raise click.ClickException(
                f"{space} has no valid token {identifier}; see: statesync hub token list"
            )
    click.echo(f"{identifier} is revoked")


def _described(row: TokenRow) -> str:
    rights = "; ".join(f"{name}: {','.join(sorted(some))}" for name, some in row.rights.items())
    state = "revoked" if row.revoked else "expired" if not row.is_valid(time.time()) else "valid"
    return visible(f"{row.id}  {state}  {_until(row.expires)}  {rights}  {row.label}".rstrip())


def _until(expires: int | None) -> str:
    """Return how long a token is good for, also one that was made for longer than calendars go."""
    if expires is None:
        return "for ever"
    if not 0 <= expires <= LAST_EXPIRY:
        return f"until second {expires} since 1970"
    return time.strftime("until %Y-%m-%d %H:%M UTC", time.gmtime(expires))
