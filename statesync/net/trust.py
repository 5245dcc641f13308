"""TLS: which servers are trusted, and by which certificate they know the device."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from statesync.errors import BadOptions
from statesync.net.options import ClientCertificate, Trust


def secured(
    trust: Trust, ca_certs: str | None, certificate: ClientCertificate | None = None
) -> ssl.SSLContext:
    """Return what a TLS connection begins with. Raises ``BadOptions`` where a file is none, or one lacks."""
    context = _trusting(trust, ca_certs)
    if certificate is not None:
        _show(certificate, context)
    return context


def _trusting(trust: Trust, ca_certs: str | None) -> ssl.SSLContext:
    if trust not in ("openssl", "system"):
        raise BadOptions(f"trust is 'openssl' or 'system', not {trust!r}")
    if trust == "system":
        return _trusting_the_system(ca_certs)
    try:
        if ca_certs is not None:
            check_is_file(ca_certs)
        return ssl.create_default_context(cafile=ca_certs)
    except OSError as error:
        raise BadOptions(f"{ca_certs!r} holds no certificates to trust: {plainly(error)}") from error


def _trusting_the_system(ca_certs: str | None) -> ssl.SSLContext:
    if ca_certs is not None:
        raise BadOptions("ca_certs and trust='system' exclude each other: whose certificates are trusted?")
    try:
        import truststore
    except ImportError as error:
        raise BadOptions(
            "trust='system' needs a package that asks the system: pip install 'statesync[truststore]'"
        ) from error
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _show(certificate: ClientCertificate, context: ssl.SSLContext) -> None:
    """Let the context answer a server that asks who the device is."""
    try:
        for path in filter(None, (certificate.certificate, certificate.key)):
            check_is_file(path)
        # With an empty passphrase OpenSSL fails; with none it would ask on the terminal, and wait.
        context.load_cert_chain(certificate.certificate, certificate.key, certificate.passphrase or "")
    except (OSError, ValueError) as error:
        key = certificate.key or certificate.certificate
        raise BadOptions(
            f"the client certificate {certificate.certificate!r} cannot be used with the key in {key!r}: "
            f"{_why(error)}"
        ) from None


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return plainly(error)
    return "one of them is no PEM file, they do not belong together, or the passphrase is missing or wrong"


def check_is_file(path: str) -> None:
    """Raise ``OSError`` for what is no ordinary file: who opens a pipe waits for ever, or reads it once."""
    kind = Path(path).stat().st_mode
    if stat.S_ISDIR(kind):
        raise OSError(f"{path} is a folder; name the file in it, in PEM")
    if not stat.S_ISREG(kind):
        raise OSError(f"{path} is no ordinary file; write what it gives into one, in PEM")


def plainly(error: BaseException) -> str:
    """Return what a foreign error says, in its own words alone."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said or type(error).__name__
