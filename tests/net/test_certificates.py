"""Whom a device trusts, and what it shows of itself: to a real hub behind uvicorn's TLS."""

from __future__ import annotations

import builtins
import os
import ssl
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from rig.certificates import make_certificate
from rig.device import device_at
from rig.forwarding import forwarding

from statesync import BadOptions, ClientCertificate, ConnectionLost, HttpRemote, Unreachable
from statesync.hub import Hub
from statesync.hub.http.serving import listen
from statesync.hub.http.web import application

PASSPHRASE = "correct horse battery"


@pytest.fixture(scope="module")
def device_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The certificate and the key by which a hub knows the device."""
    return make_certificate(tmp_path_factory.mktemp("device"), "device")


@pytest.fixture(scope="module")
def strict_hub(
    live_hub: tuple[Hub, str], certificate: tuple[str, str], device_files: tuple[str, str]
) -> Iterator[str]:
    """The address of a hub that speaks to nobody whose certificate it does not know."""
    config = uvicorn.Config(
        application(live_hub[0]),
        lifespan="off",
        log_config=None,
        ssl_certfile=certificate[0],
        ssl_keyfile=certificate[1],
        ssl_ca_certs=device_files[0],
        ssl_cert_reqs=ssl.CERT_REQUIRED,
    )
    listener, server = listen("127.0.0.1", 0), uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield f"https://localhost:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


# -- what the device shows -------------------------------------------------------------------------------


@pytest.mark.parametrize("by_proxy", [False, True])
def test_a_hub_that_asks_who_the_device_is_gets_its_certificate(
    strict_hub: str,
    certificate: tuple[str, str],
    device_files: tuple[str, str],
    tmp_path: Path,
    space: str,
    by_proxy: bool,
) -> None:
    own = ClientCertificate(*device_files)
    with (
        forwarding() as proxy,
        device_at(
            tmp_path / "device.db",
            strict_hub,
            space,
            ca_certs=certificate[0],
            client_certificate=own,
            proxy=proxy.address if by_proxy else None,
        ) as device,
    ):
        device.add(3)
        assert device.sync().stats.uploaded == 3
        assert bool(proxy.asked) == by_proxy


def test_a_device_without_a_certificate_or_with_a_foreign_one_is_told_what_may_be_wrong(
    strict_hub: str, certificate: tuple[str, str], tmp_path: Path, space: str
) -> None:
    foreign = ClientCertificate(*make_certificate(tmp_path, "foreign"))
    for own in (None, foreign):
        options: dict[str, Any] = {"ca_certs": certificate[0], "client_certificate": own}
        with (
            device_at(tmp_path / "device.db", strict_hub, space, **options) as device,
            pytest.raises((ConnectionLost, Unreachable), match=r"certificate"),
        ):
            device.sync(max_attempts=1)


def test_key_and_certificate_may_be_in_one_file_and_the_key_may_be_locked(
    strict_hub: str, certificate: tuple[str, str], tmp_path: Path
) -> None:
    for passphrase in (None, PASSPHRASE):
        files = make_certificate(tmp_path, "own", passphrase)
        both = tmp_path / "both.pem"
        both.write_bytes(b"".join(Path(file).read_bytes() for file in files))
        own = ClientCertificate(str(both), passphrase=passphrase)
        HttpRemote(strict_hub, "acme", ca_certs=certificate[0], client_certificate=own).close()


@pytest.mark.parametrize(
    "passphrase", [None, "", "s3cret but wrong", "s" * 5000], ids=["none", "", "wrong", "long"]
)
def test_a_key_that_its_passphrase_does_not_open_is_refused_and_nobody_is_asked(
    passphrase: str | None, tmp_path: Path
) -> None:
    files = make_certificate(tmp_path, "own", PASSPHRASE)
    own = ClientCertificate(*files, passphrase)
    with pytest.raises(BadOptions, match=r"own\.pem.*own-key\.pem.*passphrase") as raised:
        HttpRemote("https://localhost", "acme", client_certificate=own)
    shown = "".join(traceback.format_exception(raised.value)) + repr(own)
    assert not passphrase or passphrase not in shown


def test_files_that_hold_no_certificate_or_another_key_are_refused_by_name(
    tmp_path: Path, certificate: tuple[str, str], device_files: tuple[str, str]
) -> None:
    noise = tmp_path / "noise.pem"
    noise.write_bytes(b"noise")
    gone = str(tmp_path / "gone.pem")
    for own, words in (
        (ClientCertificate(certificate[0], device_files[1]), "do not belong together"),
        (ClientCertificate(str(noise)), r"noise\.pem.*no PEM file"),
        (ClientCertificate(gone), r"gone\.pem.*No such file"),
    ):
        with pytest.raises(BadOptions, match=words):
            HttpRemote("https://localhost", "acme", client_certificate=own)


def test_a_certificate_is_shown_to_nobody_without_tls(device_files: tuple[str, str]) -> None:
    with pytest.raises(BadOptions, match="does not begin with https://"):
        HttpRemote("http://localhost", "acme", client_certificate=ClientCertificate(*device_files))


# -- whom it trusts --------------------------------------------------------------------------------------


def test_who_is_in_the_systems_store_is_trusted(
    strict_hub: str,
    certificate: tuple[str, str],
    device_files: tuple[str, str],
    tmp_path: Path,
    space: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Linux the store is OpenSSL's files, where they are: the environment may name others."""
    options: dict[str, Any] = {"trust": "system", "client_certificate": ClientCertificate(*device_files)}
    with device_at(tmp_path / "device.db", strict_hub, space, **options) as device:
        with pytest.raises(Unreachable, match=r"certificate.*nothing was sent") as raised:
            device.sync()
        assert not raised.value.retryable
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    with device_at(tmp_path / "device.db", strict_hub, space, **options) as device:
        device.add(1)
        assert device.sync().stats.uploaded == 1


def test_whose_certificates_are_trusted_is_said_once(certificate: tuple[str, str]) -> None:
    with pytest.raises(BadOptions, match="exclude each other"):
        HttpRemote("https://localhost", "acme", trust="system", ca_certs=certificate[0])
    with pytest.raises(BadOptions, match="'openssl' or 'system'"):
        HttpRemote("https://localhost", "acme", trust="everybody")  # type: ignore[arg-type]


def test_without_its_extra_the_systems_store_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imported = builtins.__import__

    def without(name: str, *more: Any, **options: Any) -> Any:
        if name == "truststore":
            raise ImportError(name)
        return imported(name, *more, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadOptions, match=r"pip install 'statesync\[truststore\]'"):
        HttpRemote("https://localhost", "acme", trust="system")


@pytest.mark.parametrize("option", ["ca_certs", "certificate", "key"])
def test_a_folder_or_a_pipe_in_the_place_of_a_file_is_refused_at_once_in_words(
    certificate: tuple[str, str], tmp_path: Path, option: str
) -> None:
    """Nobody writes to the pipe, so who opens it waits for ever."""
    pipe, folder = tmp_path / "pipe.pem", tmp_path / "folder.pem"
    os.mkfifo(pipe)
    folder.mkdir()
    for path, words in ((pipe, r"pipe\.pem is no ordinary file"), (folder, r"folder\.pem is a folder")):
        files = dict(zip(("certificate", "key"), certificate, strict=True)) | {option: str(path)}
        shown = ClientCertificate(files["certificate"], files["key"])
        how: dict[str, Any] = {"client_certificate": shown}
        if option == "ca_certs":
            how = {"ca_certs": str(path)}
        with pytest.raises(BadOptions, match=words):
            HttpRemote("https://localhost", "acme", **how)
