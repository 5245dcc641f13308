"""A glance at a server that has hung up without a word: does it speak TLS?

It is given the first message of TLS, and an empty line for those who read lines. Who speaks TLS answers with
a record of it, who speaks HTTP complains; so nobody is waited for. Nothing else is said.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

from statesync.net.addresses import Address
from statesync.net.reach import Patience, reach

_RECORDS = (b"\x15", b"\x16")
"""How what a TLS server says first begins: with an alert, or with its part of the handshake."""


def speaks_tls(server: Address, patience: Patience) -> bool:
    """Tell whether a server is seen to speak TLS while there is patience."""
    try:
        with reach(server.host, server.port, patience) as link:
            link.settimeout(patience.bit())
            link.sendall(_hello() + b"\r\n\r\n")
            return _first_byte(link, patience) in _RECORDS
    except OSError:
        return False


def _hello() -> bytes:
    said = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nobody's certificate will be looked at
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said).do_handshake()
    return said.read()


def _first_byte(link: socket.socket, patience: Patience) -> bytes:
    while True:
        link.settimeout(patience.bit())
        with suppress(TimeoutError):
            return link.recv(1)
