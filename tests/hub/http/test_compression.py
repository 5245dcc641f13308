from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest
import zstandard

from statesync.hub import HubLimits, Refused
from statesync.hub.http.compression import best_coding, pack, unpack

from ..devices import Device, Service, upsert

pytestmark = pytest.mark.any_database

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
UNPACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}


def code_of(body: bytes, coding: str, limits: HubLimits) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        unpack(body, coding, limits)
    return caught.value.status, caught.value.problem.code


@pytest.mark.parametrize("coding", PACKERS)
def test_bodies_are_packed_both_ways(service: Service, device: Device, other: Device, coding: str) -> None:
    document = device.push_document(*(upsert(f"{n}", {"name": f"record {n}"}) for n in range(200)))
    push = PACKERS[coding](json.dumps(document).encode())
    path = f"/v1/spaces/{device.space}"
    assert service.ask("POST", f"{path}/push", push, **{"Content-Encoding": coding}).status == 200
    pull = json.dumps(other.pull_document({"Airport": {"cursor": 0}})).encode()
    answer = service.http.request(
        "POST",
        f"{service.address}{path}/pull",
        body=pull,
        headers={"Accept-Encoding": coding},
        decode_content=False,
    )
    assert answer.headers["Content-Encoding"] == coding
    assert len(json.loads(UNPACKERS[coding](answer.data))["changes"]) == 200


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", ""), ("identity", ""), ("br", ""), ("gzip;q=0", ""), ("gzip;q=0.0, *;q=0", ""),
        ("gzip", "gzip"), ("GZIP , deflate", "gzip"), ("gzip, zstd;q=0.5", "zstd"),
        ("gzip; q=0.001", "gzip"),
        ("gzip;q=1.2.3", ""), ("gzip;q=.", ""), ("gzip;q=1.2.3, zstd", "zstd"),
        ("gzip;q=2", ""), (";,q=", ""),
    ],
)  # fmt: skip
def test_the_coding_of_an_answer_is_one_that_was_asked_for(accepted: str, coding: str) -> None:
    assert best_coding(accepted) == coding


def test_what_is_short_is_not_packed() -> None:
    assert pack(b"{}", "gzip") == (b"{}", "")
    assert pack(b"1" * 2000, "gzip")[1] == "gzip"


@pytest.mark.parametrize("accepted", ["gzip;q=1.2.3", "gzip;q=", "\xff", "gzip;q=1e999"])
def test_a_push_whose_accept_encoding_cannot_be_read_is_answered_as_it_is(
    service: Service, device: Device, accepted: str
) -> None:
    document = device.push_document(*(upsert(f"{n}", {}) for n in range(50)))
    path, body = f"/v1/spaces/{device.space}/push", json.dumps(document).encode()
    answer = service.ask("POST", path, body, **{"Accept-Encoding": accepted})
    assert (answer.status, len(answer.json()["results"])) == (200, 50)
    assert "Content-Encoding" not in answer.headers


def test_a_coding_that_the_hub_does_not_know_is_415(service: Service, space: str) -> None:
    answer = service.ask("POST", f"/v1/spaces/{space}/push", b"{}", **{"Content-Encoding": "br"})
    assert (answer.status, answer.json()["error"]["code"]) == (415, "unsupported_encoding")


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("mangle", [lambda body: b"x" + body, lambda body: b"not packed at all"])
def test_what_does_not_unpack_is_malformed(coding: str, mangle: Callable[[bytes], bytes]) -> None:
    packed = PACKERS[coding](b'{"a":1}')
    assert code_of(mangle(packed), coding, HubLimits()) == (400, "malformed")


BODY = b'{"a":1}' * 1000


def streamed(body: bytes) -> bytes:
    """A zstd frame that does not say how long it is when unpacked."""
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return packer.compress(body) + packer.flush()


WHOLE = {
    "gzip": ("gzip", gzip.compress(BODY)),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress(BODY)),
    "zstd with a checksum": ("zstd", zstandard.ZstdCompressor(write_checksum=True).compress(BODY)),
    "zstd without its size": ("zstd", streamed(BODY)),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_body_that_is_cut_short_or_followed_by_anything_is_malformed(kind: str) -> None:
    coding, packed = WHOLE[kind]
    assert unpack(packed, coding, HubLimits()) == BODY
    for end in range(len(packed)):
        assert code_of(packed[:end], coding, HubLimits()) == (400, "malformed"), end
    for more in (b"\0", b"x", packed, WHOLE["gzip"][1], b"\x50\x2a\x4d\x18\0\0\0\0"):
        assert code_of(packed + more, coding, HubLimits()) == (400, "malformed"), more[:9]


def test_a_zstd_body_that_lies_about_its_size_is_refused() -> None:
    sizes = {64 << 20: (413, "ratio_too_high"), 300: (400, "malformed"), 60_000: (400, "malformed")}
    honest = zstandard.ZstdCompressor().compress(b"a" * 1000)
    assert honest[4:7] == bytes([0x60, 1000 - 256 & 0xFF, (1000 - 256) >> 8]), "its size is in two bytes"
    for size, expected in sizes.items():
        is_long = size - 256 >= 1 << 16
        said = size.to_bytes(8, "little") if is_long else (size - 256 & 0xFFFF).to_bytes(2, "little")
        lying = honest[:4] + (b"\xe0" if is_long else b"\x60") + said + honest[7:]
        assert code_of(lying, "zstd", HubLimits()) == expected, size


def test_a_zstd_bomb_that_does_not_say_its_size_is_refused() -> None:
    assert code_of(streamed(b" " * (64 << 20)), "zstd", HubLimits())[0] == 413


@pytest.mark.parametrize("coding", PACKERS)
def test_a_bomb_is_refused_before_it_goes_off(coding: str) -> None:
    bomb = PACKERS[coding](b" " * (64 << 20))
    assert code_of(bomb, coding, HubLimits()) == (
        413,
        "ratio_too_high" if len(bomb) * 100 < 32 << 20 else "body_too_large",
    )
    assert code_of(bomb, coding, HubLimits(ratio=1_000_000)) == (413, "body_too_large")


@pytest.mark.parametrize("coding", PACKERS)
def test_each_limit_of_unpacking_is_exact_and_in_the_message(coding: str) -> None:
    plain = bytes(range(256)) * 1000
    packed = PACKERS[coding](plain)
    assert unpack(packed, coding, HubLimits(body=len(plain), ratio=1_000_000)) == plain
    with pytest.raises(Refused, match=str(len(plain) - 1)):
        unpack(packed, coding, HubLimits(body=len(plain) - 1, ratio=1_000_000))
    enough = -(-len(plain) // len(packed))
    assert unpack(packed, coding, HubLimits(ratio=enough)) == plain
    with pytest.raises(Refused, match=f"limit is {enough - 1}"):
        unpack(packed, coding, HubLimits(ratio=enough - 1))
