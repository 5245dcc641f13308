from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest
import zstandard

from statesync.hub import Hub, HubLimits, Refused
from statesync.hub.http.compression import pack, unpack

from ..devices import Device, Service, upsert

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


def test_the_coding_of_an_answer_is_one_that_was_asked_for() -> None:
    long = b"[" + b"1," * 1000 + b"1]"
    assert [
        pack(long, accepted)[1] for accepted in ("", "identity", "br", "gzip;q=0", "gzip;q=0.0, *;q=0")
    ] == [""] * 5
    assert pack(long, "gzip")[1] == "gzip"
    assert pack(long, "GZIP , deflate")[1] == "gzip"
    assert pack(long, "gzip, zstd;q=0.5")[1] == "zstd"
    assert pack(b"{}", "gzip") == (b"{}", ""), "what is short is not worth it"


def test_a_coding_that_the_hub_does_not_know_is_415(service: Service, space: str) -> None:
    answer = service.ask("POST", f"/v1/spaces/{space}/push", b"{}", **{"Content-Encoding": "br"})
    assert (answer.status, answer.json()["error"]["code"]) == (415, "unsupported_encoding")


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("mangle", [lambda body: b"x" + body, lambda body: b"not packed at all"])
def test_what_does_not_unpack_is_malformed(coding: str, mangle: Callable[[bytes], bytes]) -> None:
    packed = PACKERS[coding](b'{"a":1}')
    assert code_of(mangle(packed), coding, HubLimits()) == (400, "malformed")


def test_a_body_that_is_cut_short_is_malformed(hub: Hub) -> None:
    packed = gzip.compress(b'{"a":1}' * 1000)
    assert code_of(packed[:-9], "gzip", HubLimits()) == (400, "malformed")


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
