"""The device database that a command is about, and the hub that it speaks to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce, wraps
from typing import Any

import click

from statesync.net.options import ClientCertificate, Trust
from statesync.net.remote import HttpRemote
from statesync.scope import Store

PASSPHRASE = "STATESYNC_CLIENT_PASSPHRASE"  # noqa: S105 - the name of the variable
"""The environment's variable: what stands on a command line, everybody on the machine may read."""

_OPTIONS = (
    click.option(
        "--remote", "url", required=True, metavar="URL", help="The hub's address, such as http://hub:8710."
    ),
    click.option("--space", required=True, help="The set of records on the hub."),
    click.option("--token", envvar="STATESYNC_TOKEN", show_envvar=True, help="What the hub knows you by."),
    click.option(
        "--proxy",
        default="environment",
        metavar="URL",
        help="A proxy, such as http://proxy:3128; or none. Without it, what HTTPS_PROXY and NO_PROXY say.",
    ),
    click.option("--ca-certs", metavar="FILE", help="Certificates to trust in place of the usual ones."),
    click.option(
        "--trust",
        type=click.Choice(["openssl", "system"]),
        default="openssl",
        show_default=True,
        help="Whose certificates are the usual ones: OpenSSL's, or those of the system's own store.",
    ),
    click.option("--client-certificate", metavar="FILE", help="What the hub's server knows the device by."),
    click.option(
        "--client-key",
        metavar="FILE",
        help=f"Its key, if that is a file of its own. {PASSPHRASE} in the environment opens it.",
    ),
)


@contextmanager
def opened(database: str) -> Iterator[Store]:
    """Open a device database, end the sessions that its program left interrupted, and close it again."""
    with Store.open(database) as store:
        store.setup()
        yield store


def remote_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options for a hub, and its ``remote`` as they say."""

    @wraps(command)
    def with_remote(
        *arguments: Any,
        url: str,
        space: str,
        token: str | None,
        proxy: str,
        ca_certs: str | None,
        trust: Trust,
        client_certificate: str | None,
        client_key: str | None,
        **options: Any,
    ) -> Any:
        remote = HttpRemote(
            url,
            space,
            token,
            proxy=None if proxy == "none" else proxy,
            ca_certs=ca_certs,
            trust=trust,
            client_certificate=_certificate(client_certificate, client_key),
        )
        return command(*arguments, remote=remote, **options)

    return reduce(lambda made, option: option(made), reversed(_OPTIONS), with_remote)


def _certificate(certificate: str | None, key: str | None) -> ClientCertificate | None:
    if certificate is not None:
        return ClientCertificate(certificate, key, os.environ.get(PASSPHRASE))
    if key is not None:
        raise click.UsageError("--client-key is the key of a --client-certificate: give both.")
    return None
