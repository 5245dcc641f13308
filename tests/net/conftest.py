from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
from rig.certificates import make_certificate
from rig.forwarding import Forwarder, forwarding

from .server import Meeting, serving


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of localhost and its key, which nobody vouches for."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def server_tls(certificate: tuple[str, str]) -> ssl.SSLContext:
    """What a server of localhost begins TLS with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@contextmanager
def _met(
    hub_tls: ssl.SSLContext | None, proxy: AbstractContextManager[Forwarder] | None, ca_certs: str
) -> Iterator[Meeting]:
    way: dict[str, Any] = {"ca_certs": ca_certs} if hub_tls else {}
    with ExitStack() as stack:
        server, port = stack.enter_context(serving(hub_tls))
        if proxy is not None:
            way["proxy"] = stack.enter_context(proxy).address
        opened = stack.enter_context(ExitStack())
        yield Meeting(server, f"{'https' if hub_tls else 'http'}://localhost:{port}", way, opened)


@pytest.fixture(params=["http", "https"])
def meeting(
    request: pytest.FixtureRequest, certificate: tuple[str, str], server_tls: ssl.SSLContext
) -> Iterator[Meeting]:
    """A server, and a device that connects to it."""
    with _met(server_tls if request.param == "https" else None, None, certificate[0]) as met:
        yield met


@pytest.fixture(params=["http", "https", "by a proxy", "by a proxy that speaks TLS"])
def any_way(
    request: pytest.FixtureRequest, certificate: tuple[str, str], server_tls: ssl.SSLContext
) -> Iterator[Meeting]:
    """The same, also through a proxy that is a mere pipe."""
    hub_tls = None if request.param == "http" else server_tls
    proxy = forwarding(server_tls if "TLS" in request.param else None) if "proxy" in request.param else None
    with _met(hub_tls, proxy, certificate[0]) as met:
        yield met
