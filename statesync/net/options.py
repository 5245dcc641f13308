"""What a program may say about the way to its hub."""

from __future__ import annotations

from typing import Literal

from attrs import field

from statesync.classes import frozen

Trust = Literal["openssl", "system"]
"""Whose certificates vouch for a hub: those of OpenSSL's files, or those of the operating system's store."""


@frozen
class ClientCertificate:
    """A certificate by which a hub, or the server before it, knows the device.

    ``certificate`` is a PEM file: the device's own certificate, then those that vouch for it. ``key`` is the
    PEM file of the private key; without it the key is in ``certificate`` too. ``passphrase`` opens a key that
    is encrypted; it stands in no message, no log and no ``repr``.
    """

    certificate: str
    key: str | None = None
    passphrase: str | None = field(default=None, repr=False)


@frozen
class Timeouts:
    """Seconds: to connect, of silence while an answer is awaited, and for a whole request."""

    connect: float
    read: float
    request: float
