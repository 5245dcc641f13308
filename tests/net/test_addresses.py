"""What is no address is refused at once, in words, and without a password that may be in it."""

from __future__ import annotations

import traceback

import pytest

from statesync import BadOptions, HttpRemote
from statesync.net.addresses import hub_at

LONG = "a" * 63


@pytest.mark.parametrize(
    "url",
    [
        "http://my hub",
        "http://hub\n",
        "http://hu\tb",
        "http://hub/a b",
        "http://hub:port",
        "http://hub:99999",
        "http://hub:0",
        "http://[::1",
        "http://[::z]",
        "https://",
        "http://",
        "http://:8710",
        "ftp://hub",
        "hub:8710",
        "127.0.0.1",
        "",
    ],
)
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(BadOptions, match=r"no address of a hub.*http://"):
        HttpRemote(url, "acme")


@pytest.mark.parametrize(
    "host",
    [
        "a..b",
        ".hub",
        "hub..",
        f"{LONG}a",
        f"{LONG}a.example",
        ".".join([LONG] * 4),
        "-hub",
        "hub-",
        "h*b",
        "h%20b",
        "hub,example",
        "a\u3002\u3002b",
        "1.2.3.4.5",
        "256.1.1.1",
        "10.0.0.1000",
    ],
)
def test_a_host_that_cannot_be_one_is_refused_at_once(host: str) -> None:
    with pytest.raises(BadOptions, match="no address of a hub"):
        HttpRemote(f"http://{host}:8710", "acme")


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        ("http://hub", "http://hub"),
        ("http://HUB.Example:80/base", "http://hub.example"),
        ("https://hub.example.:443", "https://hub.example."),
        ("http://my_hub:8710", "http://my_hub:8710"),
        ("http://xn--nxasmq6b", "http://xn--nxasmq6b"),
        ("http://m\u00fcnchen.example", "http://xn--mnchen-3ya.example"),
        (f"http://{LONG}.{LONG}", f"http://{LONG}.{LONG}"),
        ("http://127.1", "http://127.1"),
        ("http://[::1]:8710", "http://[::1]:8710"),
        ("https://[FD00::1]", "https://[fd00::1]"),
    ],
)
def test_a_host_that_can_be_one_is_taken_as_the_network_has_it(url: str, reached: str) -> None:
    assert str(hub_at(url)) == reached


@pytest.mark.parametrize(
    "url", ["http://me:s3cret@hub", "http://me@hub", "http://:s3cret@hub", "https://me:s3cret@hub:8710/base"]
)
def test_an_address_with_a_user_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadOptions, match="a hub knows a device by its token") as raised:
        HttpRemote(url, "acme")
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "url", ["http://me:s3cret@my hub", "http://me:s3/cret@hub:x", "ftp://me:s3cret@hub", "me:s3cret@hub"]
)
def test_an_address_that_is_none_is_shown_without_its_password(url: str) -> None:
    with pytest.raises(BadOptions) as raised:
        HttpRemote(url, "acme")
    shown = "".join(traceback.format_exception(raised.value))
    assert "s3" not in shown
    assert "cret" not in shown


@pytest.mark.parametrize("token", ["a b", "a\nb", "a\x00b", "caf\u00e9-s3cret", "s3cret\r\nX: y"])
def test_a_token_that_cannot_be_one_is_refused_and_not_quoted(token: str) -> None:
    with pytest.raises(BadOptions, match="the token") as raised:
        HttpRemote("http://hub", "acme", token)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_white_space_around_a_token_is_not_sent() -> None:
    headers = HttpRemote("http://hub", "acme", " acme~abc~def\n")._headers
    assert headers["Authorization"] == "Bearer acme~abc~def"
