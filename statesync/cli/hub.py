"""``statesync hub``: set up and run the server, and hand out its tokens."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Generator
from contextlib import contextmanager

import click

from statesync.hub import (
    Hub,
    HubError,
    HubLimits,
    Right,
    create_token,
    list_tokens,
    prepare,
    revoke_token,
    serve,
)
from statesync.hub.database import Database, open_database
from statesync.hub.rights import EVERY_OBJECT
from statesync.hub.tokens import TokenRow

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_database = click.option(
    "--database",
    "url",
    default="sqlite:///hub.db",
    show_default=True,
    envvar="STATESYNC_HUB_DATABASE",
    help="sqlite:///FILE or postgresql://USER@HOST/NAME",
)
_space = click.option("--space", required=True, help="The space that the token opens.")


@click.group(name="hub")
def hub() -> None:
    """The server that devices exchange records with."""


@hub.command()
@_database
def init(url: str) -> None:
    """Make the hub's tables, or bring those of an older version up to date."""
    with _plain_errors():
        done = prepare(url)
    click.echo(f"{done} migrations ran; the database is ready" if done else "the database is up to date")


@hub.command(name="serve")
@_database
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8710, show_default=True)
@click.option("--open", "is_open", is_flag=True, help="Serve without tokens: on loopback only.")
def serve_command(url: str, host: str, port: int, is_open: bool) -> None:
    """Serve the hub until it is told to end (SIGTERM, Ctrl-C)."""
    if is_open and not is_loopback(host):
        raise click.UsageError(
            f"--open lets everybody read and write everything, so it is for loopback only, and {host} "
            "is not; make tokens with: statesync hub token create"
        )
    with _plain_errors():
        opened = Hub(url, without_tokens=is_open, limits=HubLimits())
        click.echo(f"serving {url} at http://{host}:{port}")
        try:
            serve(opened, host, port)
        finally:
            opened.close()


@hub.group()
def token() -> None:
    """Who may do what."""


@token.command()
@_database
@_space
@click.option("--rights", default="read,write", show_default=True, help="read, write, or both.")
@click.option("--object", "objects", multiple=True, help="Only this object; may be given more than once.")
@click.option("--expires", help="How long it is good for, such as 12h or 90d; without it, for ever.")
@click.option("--label", default="", help="What you want to know it by.")
def create(
    url: str, space: str, rights: str, objects: tuple[str, ...], expires: str | None, label: str
) -> None:
    """Make a token and show it: this once, because only its hash is kept."""
    granted = dict.fromkeys(objects or (EVERY_OBJECT,), _rights(rights))
    until = None if expires is None else int(time.time()) + _seconds(expires)
    with _plain_errors(), _opened(url) as database:
        click.echo(create_token(database, space, granted, label=label, expires=until))


@token.command(name="list")
@_database
@_space
def list_command(url: str, space: str) -> None:
    """Show the tokens of a space, without their secrets."""
    with _plain_errors(), _opened(url) as database:
        for row in list_tokens(database, space):
            click.echo(_line(row))


@token.command()
@_database
@_space
@click.argument("identifier")
def revoke(url: str, space: str, identifier: str) -> None:
    """End a token at once, by the id that ``list`` shows."""
    with _plain_errors(), _opened(url) as database:
        if not revoke_token(database, space, identifier):
            raise click.ClickException(
                f"{space} has no valid token {identifier}; see: statesync hub token list"
            )
    click.echo(f"{identifier} is revoked")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _plain_errors() -> Generator[None]:
    try:
        yield
    except (HubError, OSError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _opened(url: str) -> Generator[Database]:
    opened = open_database(url)
    try:
        yield opened
    finally:
        opened.close()


def _rights(text: str) -> frozenset[Right]:
    try:
        return frozenset(Right(word.strip()) for word in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not read, write, or read,write") from error


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no time such as 30m, 12h or 90d")
    return int(match[1]) * _UNITS[match[2]]


def _line(row: TokenRow) -> str:
    rights = "; ".join(f"{name}: {','.join(sorted(some))}" for name, some in row.rights.items())
    state = "revoked" if row.revoked else "expired" if not row.is_valid(time.time()) else "valid"
    until = time.strftime("until %Y-%m-%d %H:%M UTC", time.gmtime(row.expires)) if row.expires else "for ever"
    return f"{row.id}  {state}  {until}  {rights}  {row.label}".rstrip()
