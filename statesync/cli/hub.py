"""``statesync hub``: set up and run the server, and hand out its tokens."""

from __future__ import annotations

import ipaddress
import math
import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import fields
from click.core import ParameterSource

from statesync.hub import (
    Address,
    HubError,
    HubLimits,
    Refused,
    Right,
    Setup,
    create_token,
    epochs,
    list_tokens,
    prepare,
    retention,
    revoke_token,
    serve,
    spaces,
)
from statesync.hub.access.rights import EVERY_OBJECT
from statesync.hub.access.tokens import TokenRow
from statesync.hub.addresses import has_password, without_password
from statesync.hub.db.database import Database, failures_as_refusals
from statesync.hub.db.opening import open_ready
from statesync.hub.retention import Retention
from statesync.wire import MAX_VERSION

if TYPE_CHECKING:
    from statesync.hub.access.identity import Issuer

Command = TypeVar("Command", bound=Callable[..., object])

_FILE = "statesync.hub.database_file"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _address(ctx: click.Context, _option: click.Parameter, given: str) -> str:
    """Return the database's address, of which no password may stand in the list of processes."""
    is_typed = ctx.get_parameter_source("url") is ParameterSource.COMMANDLINE
    path: Path | None = ctx.meta.get(_FILE)
    if path is not None and is_typed:
        raise click.UsageError("--database and --database-file exclude each other.")
    if path is not None:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    if is_typed and has_password(given):
        raise click.UsageError(
            f"everybody on this machine can see the password of {without_password(given)} in the list of "
            "processes; put the address into the environment, as STATESYNC_HUB_DATABASE, or into a file, for "
            "--database-file, or leave the password out and put it into a file that PGPASSFILE names."
        )
    return given


def _keep_file(ctx: click.Context, _option: click.Parameter, path: Path | None) -> None:
    ctx.meta[_FILE] = path


def _database(command: Command) -> Command:
    """Give the command the address of the hub's database, as the parameter ``url``."""
    by_file = click.option(
        "--database-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=_keep_file,
        expose_value=False,
        is_eager=True,
        help="A file with the address in it, which keeps its password to itself.",
    )
    by_address = click.option(
        "--database",
        "url",
        default="sqlite:///hub.db",
        show_default=True,
        envvar="STATESYNC_HUB_DATABASE",
        show_envvar=True,
        callback=_address,
        help="sqlite:///FILE or postgresql://USER@HOST/NAME; not with a password, which goes elsewhere.",
    )
    return by_address(by_file(command))


_space = click.option("--space", required=True, help="The space that the token opens.")


@click.group(name="hub")
def hub() -> None:
    """The server that devices exchange records with."""


@hub.command()
@_database
@click.option("--distribute", is_flag=True, help="Spread the tables by their space (PostgreSQL with Citus).")
def init(url: str, distribute: bool) -> None:
    """Make the hub's tables, or bring those of an older version up to date."""
    with _plain_errors():
        done = prepare(url, distributed=distribute)
    click.echo(f"{done} migrations ran; the database is ready" if done else "the database is up to date")


def _limit_options(command: Command) -> Command:
    """Give the command an option for each limit of the hub."""
    for limit in reversed(fields(HubLimits)):
        option = click.option(
            f"--limit-{limit.name.replace('_', '-')}",
            type=type(limit.default),
            default=limit.default,
            show_default=True,
            help=limit.metadata["counts"],
        )
        command = option(command)
    return command


@hub.command(name="serve")
@_database
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8710, show_default=True, type=click.IntRange(0, 65535))
@click.option("--open", "is_open", is_flag=True, help="Serve without tokens: on loopback only.")
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Processes; SIGHUP replaces one by one.",
)
@click.option(
    "--connections",
    default=None,
    show_default="2 for SQLite, 8 for PostgreSQL",
    type=click.IntRange(1),
    help="Of each process to the database; of SQLite those that read.",
)
@click.option("--tls-certificate", type=click.Path(exists=True), help="A PEM file; with it, serve HTTPS.")
@click.option("--tls-key", type=click.Path(exists=True), help="The certificate's key, in PEM.")
@click.option(
    "--jwt-key", type=click.Path(exists=True), help="Take tokens signed with this public key (PEM)."
)
@click.option("--jwt-audience", help="The audience that such a token has to name.")
@click.option("--jwt-issuer", help="The issuer that such a token has to name.")
@click.option("--retention", default="90d", show_default=True, help="How long deletes are remembered.")
@_limit_options
def serve_command(url: str, host: str, port: int, is_open: bool, workers: int, **more: Any) -> None:
    """Serve the hub until it is told to end (SIGTERM, Ctrl-C)."""
    if is_open and not is_loopback(host):
        raise click.UsageError(
            f"--open lets everybody read and write everything, so it is for loopback only, and {host} "
            "is not; make tokens with: statesync hub token create"
        )
    limits = {name.removeprefix("limit_"): more[name] for name in more if name.startswith("limit_")}
    with _plain_errors():
        setup = Setup(
            url=url,
            without_tokens=is_open,
            limits=HubLimits(**limits),
            issuer=_issuer(more["jwt_key"], more["jwt_audience"], more["jwt_issuer"]),
            connections=more["connections"],
            retention=Retention(_seconds(more["retention"])),
        )
        address = Address(host=host, port=port, certificate=more["tls_certificate"], key=more["tls_key"])
        serve(setup, address, workers=workers, say=click.echo)


@hub.command()
@_database
@click.option("--space", required=True)
@click.option(
    "--through",
    required=True,
    type=click.IntRange(0, MAX_VERSION),
    help="The version of the last delete to forget.",
)
def purge(url: str, space: str, through: int) -> None:
    """Forget old deletes. Devices that have not synced since then read everything again."""
    with _plain_errors():
        with _opened(url) as database, failures_as_refusals(), database.writing():
            forgotten = retention.purge(database, space, through)
        click.echo(f"{forgotten} deletes are forgotten")


@hub.command()
@_database
@click.option("--space", "names", multiple=True, help="The space; may be given more than once.")
@click.option("--all", "all_of_them", is_flag=True, help="Every space of the hub.")
def epoch(url: str, names: tuple[str, ...], all_of_them: bool) -> None:
    """Begin a new epoch: after the database was restored from a backup, before devices come back.

    Devices read everything again, keep what they have not sent, and offer what the hub has lost.
    """
    if bool(names) == all_of_them:
        raise click.UsageError("say which space: --space NAME, or --all")
    with _plain_errors(), _opened(url) as database, failures_as_refusals():
        if all_of_them:
            with database.reading():
                names = tuple(spaces.names(database))
        for name in names:
            with database.writing():
                epochs.begin_by_hand(database, name)
            click.echo(f"{name} has begun a new epoch")


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
            click.echo(_described(row))


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
    except (HubError, Refused, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _opened(url: str) -> Generator[Database]:
    opened = open_ready(url, longest=math.inf)  # whoever waits at a terminal can end it by themselves
    try:
        yield opened
    finally:
        opened.close()


def _issuer(key: str | None, audience: str | None, issuer: str | None) -> Issuer | None:
    if key is None:
        return None
    # PyJWT is an extra that only a hub with an identity provider needs.
    from statesync.hub.access.identity import Issuer

    return Issuer(_public_key(Path(key)), audience, issuer)


def _public_key(path: Path) -> str:
    """Read a key in PEM; raise ``HubError`` for one that no signature can be checked with."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        load_pem_public_key(path.read_bytes())
        return path.read_text()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise HubError(
            f"{path} is no public key in PEM; ask the identity provider for the key that its signatures are "
            "checked with"
        ) from error


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


def _described(row: TokenRow) -> str:
    rights = "; ".join(f"{name}: {','.join(sorted(some))}" for name, some in row.rights.items())
    state = "revoked" if row.revoked else "expired" if not row.is_valid(time.time()) else "valid"
    until = time.strftime("until %Y-%m-%d %H:%M UTC", time.gmtime(row.expires)) if row.expires else "for ever"
    return f"{row.id}  {state}  {until}  {rights}  {row.label}".rstrip()
