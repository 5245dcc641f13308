"""``statesync hub serve``: how the hub is served, and to whom."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import fields

from statesync.cli.commands import missing_extra
from statesync.cli.hub.database import Command, database_option, plain_errors
from statesync.cli.kinds import CONNECTIONS, NAME, PORT, PROCESSES, RETENTION, TEXT
from statesync.hub import Address, HubError, HubLimits, Setup, serve
from statesync.hub.retention import Retention

if TYPE_CHECKING:
    from statesync.hub.access.identity import Issuer


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


@click.command(name="serve")
@database_option
@click.option("--host", default="127.0.0.1", show_default=True, type=NAME)
@click.option("--port", default=8710, show_default=True, type=PORT)
@click.option("--open", "is_open", is_flag=True, help="Serve without tokens: on loopback only.")
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=PROCESSES,
    help="Processes; SIGHUP replaces one by one.",
)
@click.option(
    "--connections",
    default=None,
    show_default="2 for SQLite, 8 for PostgreSQL",
    type=CONNECTIONS,
    help="Of each process to the database; of SQLite those that read.",
)
@click.option("--tls-certificate", type=click.Path(exists=True), help="A PEM file; with it, serve HTTPS.")
@click.option("--tls-key", type=click.Path(exists=True), help="The certificate's key, in PEM.")
@click.option(
    "--jwt-key",
    type=click.Path(exists=True, dir_okay=False),
    help="Take tokens signed with this public key (PEM).",
)
@click.option("--jwt-audience", type=TEXT, help="The audience that such a token has to name.")
@click.option("--jwt-issuer", type=TEXT, help="The issuer that such a token has to name.")
@click.option(
    "--retention",
    default="90d",
    show_default=True,
    type=RETENTION,
    help="How long deletes are remembered, in whole days.",
)
@_limit_options
def serve_command(url: str, host: str, port: int, is_open: bool, workers: int, **more: Any) -> None:
    """Serve the hub until it is told to end (SIGTERM, Ctrl-C).

    The exit code is 0 if it was told to end while it served, however many processes there are; 1 if it could
    not serve, 2 for wrong usage.
    """
    if is_open and not is_loopback(host):
        raise click.UsageError(
            f"--open lets everybody read and write everything, so it is for loopback only, and {host} "
            "is not; make tokens with: statesync hub token create"
        )
    limits = {name.removeprefix("limit_"): more[name] for name in more if name.startswith("limit_")}
    with plain_errors(), _heard():
        setup = Setup(
            url=url,
            without_tokens=is_open,
            limits=_that_can_be(HubLimits(**limits)),
            issuer=_issuer(more["jwt_key"], more["jwt_audience"], more["jwt_issuer"]),
            connections=more["connections"],
            retention=Retention(more["retention"]),
        )
        address = Address(host=host, port=port, certificate=more["tls_certificate"], key=more["tls_key"])
        serve(setup, address, workers=workers, say=click.echo)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _that_can_be(limits: HubLimits) -> HubLimits:
    """Return limits that leave room for each other, or refuse them."""
    for option, most in (("--limit-body", limits.body), ("--limit-page-bytes", limits.page_bytes)):
        if limits.held < most:
            raise click.UsageError(
                f"--limit-held {limits.held} is less than what {option} allows at once: give it {most} or "
                "more."
            )
    return limits


@contextmanager
def _heard() -> Generator[None]:
    """Let what the hub logs be seen: it is not one answer that is waited for, but goes on for months."""
    log, handler = logging.getLogger("statesync"), logging.StreamHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _issuer(key: str | None, audience: str | None, issuer: str | None) -> Issuer | None:
    if key is None:
        if audience is not None or issuer is not None:
            raise click.UsageError(
                "--jwt-audience and --jwt-issuer are about signed tokens: give --jwt-key, which takes them."
            )
        return None
    try:
        # PyJWT is an extra that only a hub with an identity provider needs.
        from statesync.hub.access.identity import Issuer

        return Issuer(_public_key(Path(key)), audience, issuer)
    except ModuleNotFoundError as error:
        raise missing_extra(error, "hub serve --jwt-key", "jwt") from None


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
