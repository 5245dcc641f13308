"""Requests through a proxy: by option, by environment, past it; with a password that nobody gets to read."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing, suppress

import pytest
from rig.forwarding import forwarding

from statesync import BadOptions, HttpRemote, Unreachable
from statesync.net.addresses import hub_at
from statesync.net.proxies import proxy_for

from .server import PAGE, PULL, answered, at_once, serving

PASSWORD = "s3cret/@:%"
IN_AN_ADDRESS = "till:s3cret%2F%40%3A%25@"

# -- on the way ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy_speaks_tls", [False, True])
def test_a_hub_without_tls_gets_its_requests_from_the_proxy(
    proxy_speaks_tls: bool, server_tls: ssl.SSLContext, certificate: tuple[str, str]
) -> None:
    with (
        serving(None) as (server, port),
        forwarding(server_tls if proxy_speaks_tls else None, hosts={"hub.example": port}) as proxy,
        closing(
            HttpRemote("http://hub.example", "acme", "t", proxy=proxy.address, ca_certs=certificate[0])
        ) as remote,
    ):
        for _ in range(2):
            server.answers.put(answered(PAGE))
            assert remote.pull(PULL).hub == "hub"
        assert proxy.asked == ["POST http://hub.example/v1/spaces/acme/pull HTTP/1.1"] * 2
        assert len(proxy.threads) == 2, "a connection to the proxy is kept, too"


def test_a_hub_with_tls_is_reached_through_a_tunnel_and_the_proxy_reads_nothing(
    server_tls: ssl.SSLContext, certificate: tuple[str, str]
) -> None:
    with (
        serving(server_tls) as (server, port),
        forwarding() as proxy,
        closing(
            HttpRemote(f"https://localhost:{port}", "acme", proxy=proxy.address, ca_certs=certificate[0])
        ) as remote,
    ):
        for _ in range(2):
            server.answers.put(answered(PAGE))
            assert remote.pull(PULL).hub == "hub"
        assert [line.split(" ")[:2] for line in proxy.asked] == [["CONNECT", f"localhost:{port}"]]


def test_the_hubs_own_certificate_counts_also_behind_a_proxy(server_tls: ssl.SSLContext) -> None:
    with (
        serving(server_tls) as (_, port),
        forwarding() as proxy,
        closing(HttpRemote(f"https://localhost:{port}", "acme", proxy=proxy.address)) as remote,
        pytest.raises(Unreachable, match=rf"https://localhost:{port} .*certificate.*nothing was sent"),
    ):
        remote.pull(PULL)


# -- its password ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_asks_for_a_password_is_given_it_and_nobody_else_is(
    scheme: str, server_tls: ssl.SSLContext, certificate: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        serving(server_tls if scheme == "https" else None) as (server, port),
        forwarding(credentials=f"till:{PASSWORD}") as proxy,
        closing(
            HttpRemote(
                f"{scheme}://localhost:{port}",
                "acme",
                proxy=f"http://{IN_AN_ADDRESS}localhost:{proxy.port}",
                ca_certs=certificate[0],
            )
        ) as remote,
    ):
        server.answers.put(answered(PAGE))
        assert remote.pull(PULL).hub == "hub"
        assert "proxy-authorization" not in proxy.passed
        shown = f"{caplog.text}{remote!r}{vars(remote)}{vars(remote._transport)}"
        assert "s3cret" not in shown
        assert b64encode(f"till:{PASSWORD}".encode()).decode() not in shown


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("given", "words"), [("", "wants a user and"), ("till:s3cret@", "wants another user")]
)
def test_a_proxy_that_gets_no_password_or_a_wrong_one_says_so_and_is_not_tried_again(
    scheme: str, given: str, words: str
) -> None:
    with (
        forwarding(credentials="till:another") as proxy,
        closing(
            HttpRemote(f"{scheme}://hub.example", "acme", proxy=f"http://{given}localhost:{proxy.port}")
        ) as remote,
        pytest.raises(Unreachable, match=rf"proxy http://localhost:{proxy.port} {words}") as raised,
    ):
        remote.pull(PULL)
    assert raised.value.status == 407
    assert not raised.value.retryable
    assert not raised.value.maybe_applied
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "said",
    [
        "http://till:s3cret@",
        "http://till:s3cret@my proxy:3128",
        "http://till:s3cret@proxy:port",
        "http://till:s3/cret@proxy:3128",
        "http://till:s3cret@a..b",
        "socks5://till:s3cret@proxy:1080",
        "till:s3cret@",
    ],
)
@pytest.mark.parametrize("by_environment", [False, True])
def test_an_address_that_is_none_of_a_proxy_is_refused_without_its_password(
    said: str, by_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_environment:
        monkeypatch.setenv("HTTP_PROXY", said)
    with pytest.raises(BadOptions, match=r"no address of an HTTP proxy.*http://proxy:3128") as raised:
        HttpRemote("http://hub.example", "acme", proxy="environment" if by_environment else said)
    assert "s3" not in "".join(traceback.format_exception(raised.value))


# -- proxies that do not connect -------------------------------------------------------------------------


def test_a_proxy_that_is_not_there_is_told_from_a_hub_that_is_not() -> None:
    with (
        closing(HttpRemote("http://hub.example", "acme", proxy="http://localhost:9")) as remote,
        pytest.raises(Unreachable, match=r"the proxy http://localhost:9 cannot be reached.*nothing was sent"),
    ):
        remote.pull(PULL)


def test_a_proxy_that_does_not_reach_the_hub_is_tried_again() -> None:
    with (
        forwarding(hosts={"hub.example": 9}) as proxy,
        closing(HttpRemote("https://hub.example", "acme", proxy=proxy.address)) as remote,
        pytest.raises(
            Unreachable, match=r"does not connect to https://hub\.example \(502 Bad Gateway\)"
        ) as raised,
    ):
        remote.pull(PULL)
    assert raised.value.retryable


def test_a_proxy_that_speaks_no_tls_is_said_to_be_one() -> None:
    with (
        forwarding() as proxy,
        closing(HttpRemote("https://hub.example", "acme", proxy=f"https://localhost:{proxy.port}")) as remote,
        pytest.raises(Unreachable, match=r"the proxy https://.* does not speak TLS") as raised,
    ):
        remote.pull(PULL)
    assert not raised.value.retryable


def test_a_proxy_that_says_nothing_is_given_up_after_the_connect_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        proxy = f"http://localhost:{deaf.getsockname()[1]}"
        with (
            closing(HttpRemote("https://hub.example", "acme", proxy=proxy, connect_timeout=0.2)) as remote,
            at_once(),
            pytest.raises(Unreachable, match=r"timed out after 0\.2 seconds.*nothing was sent"),
        ):
            remote.pull(PULL)


def test_a_proxy_that_drips_its_word_is_given_up_after_the_connect_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            link, _ = listener.accept()
            with link, suppress(OSError):  # given up
                for _ in range(100):
                    link.sendall(b"H")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        proxy = f"http://localhost:{listener.getsockname()[1]}"
        began = time.monotonic()
        with (
            closing(HttpRemote("https://hub.example", "acme", proxy=proxy, connect_timeout=0.3)) as remote,
            pytest.raises(Unreachable, match=r"timed out after 0\.3 seconds.*nothing was sent"),
        ):
            remote.pull(PULL)
        assert time.monotonic() - began < 2
        thread.join()


# -- which one -------------------------------------------------------------------------------------------


def chosen(url: str, said: str | None = "environment") -> str | None:
    proxy = proxy_for(hub_at(url), said)
    return None if proxy is None else str(proxy.address)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def say(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return say


def test_the_environment_names_a_proxy_by_what_the_hub_speaks(environment: Callable[..., None]) -> None:
    assert chosen("http://hub.example") is None
    environment(HTTP_PROXY="http://one:3128", HTTPS_PROXY="two:3128")
    assert chosen("http://hub.example") == "http://one:3128"
    assert chosen("https://hub.example") == "http://two:3128"


def test_all_proxy_is_for_what_has_none_of_its_own(environment: Callable[..., None]) -> None:
    environment(ALL_PROXY="http://all:3128", https_proxy="https://two")
    assert chosen("http://hub.example") == "http://all:3128"
    assert chosen("https://hub.example") == "https://two"


def test_small_letters_win_and_may_say_that_there_is_none(environment: Callable[..., None]) -> None:
    environment(HTTP_PROXY="http://one:3128", http_proxy="http://two:3128")
    assert chosen("http://hub.example") == "http://two:3128"
    environment(http_proxy="")
    assert chosen("http://hub.example") is None


def test_what_a_web_servers_client_says_is_no_proxy(environment: Callable[..., None]) -> None:
    environment(HTTP_PROXY="http://evil:3128", REQUEST_METHOD="GET")
    assert chosen("http://hub.example") is None


@pytest.mark.parametrize(
    "exceptions",
    ["*", "hub.example", "example", ".example", "*.example", "a, HUB.EXAMPLE ,b", "hub.example:8710"],
)
def test_no_proxy_means_a_host_its_domain_or_everybody(
    exceptions: str, environment: Callable[..., None]
) -> None:
    environment(HTTP_PROXY="http://one:3128", NO_PROXY=exceptions)
    assert chosen("http://hub.example:8710") is None


@pytest.mark.parametrize(
    "exceptions", ["", "other.example", "b.example", "hub.example:80", "10.0.0.0/8", ",,"]
)
def test_no_proxy_means_nobody_else(exceptions: str, environment: Callable[..., None]) -> None:
    environment(HTTP_PROXY="http://one:3128", NO_PROXY=exceptions)
    assert chosen("http://hub.example:8710") == "http://one:3128"


def test_no_proxy_may_be_a_network(environment: Callable[..., None]) -> None:
    environment(HTTP_PROXY="http://one:3128", NO_PROXY="10.0.0.0/8, fd00::/8")
    assert chosen("http://10.1.2.3:8710") is None
    assert chosen("http://[fd00::1]") is None
    assert chosen("http://11.1.2.3") == "http://one:3128"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "hub.localhost"])
def test_what_is_on_the_same_machine_is_not_asked_for_elsewhere(
    host: str, environment: Callable[..., None]
) -> None:
    environment(HTTP_PROXY="http://one:3128")
    assert chosen(f"http://{host}:8710") is None
    assert chosen(f"http://{host}:8710", "http://two:3128") == "http://two:3128"


def test_a_program_may_pass_by_all_of_them(environment: Callable[..., None]) -> None:
    environment(HTTP_PROXY="http://one:3128", ALL_PROXY="http://one:3128")
    assert chosen("http://hub.example", None) is None


def test_a_sync_goes_where_the_environment_says(environment: Callable[..., None]) -> None:
    with serving(None) as (server, port), forwarding(hosts={"hub.example": port}) as proxy:
        environment(HTTP_PROXY=proxy.address)
        server.answers.put(answered(PAGE))
        with closing(HttpRemote("http://hub.example:8710", "acme")) as remote:
            assert remote.pull(PULL).hub == "hub"
        assert len(proxy.asked) == 1
