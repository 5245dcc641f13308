"""What a body costs to read: memory in proportion to its size, counted before anything is made of it."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rig.search import examples, some

from statesync.hub import Hub, HubLimits, Refused, serving
from statesync.hub.http.places import Visit
from statesync.hub.requests import GROWS, read_pull, read_push, read_survey, rejections
from statesync.hub.texts import outline

from ..devices import Service, upsert
from ..served import wait_for

pytestmark = pytest.mark.any_database

SIZE = 3 << 19
PULL = b'{"client":"c","number":0,"hub":null,"epoch":null,"limit":0,"objects":%s}'
PUSH = b'{"client":"c","number":1,"batch":"b","hub":null,"epoch":null,"changes":%s}'
SURVEY = b'{"client":"c","hub":null,"epoch":null,"object":"A","columns":%s,"bounds":%s}'
FILTER = b'{"A":{"cursor":0,"filter":%s}}'
CHANGE = b'{"object":"A","key":"%d","op":"upsert","base":0,"data":{"text":"%s"}}'


def many(part: bytes) -> bytes:
    return b",".join([part] * (SIZE // (len(part) + 1)))


def named(value: bytes) -> bytes:
    return b",".join(b'"%06x":%s' % (n, value) for n in range(SIZE // (len(value) + 10)))


def batch(count: int, text: bytes) -> bytes:
    return PUSH % b"[%s]" % b",".join(CHANGE % (n, text) for n in range(count))


ASTRAL = b"x" * (SIZE // 2) + "😀".encode()

BODIES: dict[str, tuple[Callable[[bytes, HubLimits], object], Callable[[], bytes], int]] = {
    "quotes": (read_push, lambda: b"x" + b'"' * SIZE, 400),
    "short strings": (read_pull, lambda: b"x" + b'ab"' * (SIZE // 3), 400),
    "brackets": (read_pull, lambda: b"[]" * (SIZE // 2), 400),
    "values of a filter": (read_pull, lambda: PULL % FILTER % b'{"a":[%s]}' % many(b'""'), 422),
    "numbers of a filter": (read_pull, lambda: PULL % FILTER % b'{"a":[%s]}' % many(b"0.5"), 422),
    "fields of a filter": (read_pull, lambda: PULL % FILTER % b"{%s}" % named(b"[]"), 422),
    "objects of a pull": (read_pull, lambda: PULL % b"{%s}" % named(b'{"cursor":0}'), 422),
    "lists as changes": (read_push, lambda: PUSH % b"[%s]" % many(b"[" * 60 + b"]" * 60), 400),
    "numbers as changes": (read_push, lambda: PUSH % b"[%s]" % many(b"1"), 400),
    "changes": (
        read_push,
        lambda: PUSH % b"[%s]" % many(b'{"object":"","key":"","op":"delete","base":0}'),
        422,
    ),
    "columns": (read_survey, lambda: SURVEY % (b"[%s]" % many(b'"a"'), b'[""]'), 422),
    "bounds": (read_survey, lambda: SURVEY % (b"[]", b"[%s]" % many(b'"a"')), 422),
    "one key": (
        read_push,
        lambda: PUSH % b'[{"object":"A","key":"%s","op":"delete","base":0}]' % (ASTRAL * 2),
        413,
    ),
    "a client's name": (read_push, lambda: PUSH.replace(b'"c"', b'"%s"' % (ASTRAL * 2)) % b"[]", 413),
    "what nobody knows": (
        read_push,
        lambda: PUSH.replace(b'"c"', b'"c","x":"%s"' % (ASTRAL * 2)) % b"[]",
        413,
    ),
    "a batch as it should be": (read_push, lambda: batch(10_000, b"x" * 250), 200),
    "large records": (read_push, lambda: batch(6, b"x" * (SIZE // 6)), 200),
}


@pytest.mark.parametrize("name", some([*BODIES], 3))
def test_a_body_takes_no_more_memory_than_is_counted_for_it(name: str) -> None:
    read, made, expected = BODIES[name]
    body = made()
    status = 200
    tracemalloc.start()
    try:
        read(body, HubLimits(page_bytes=1 << 20))
    except Refused as error:
        status = error.status
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert status == expected
    assert peak <= (GROWS - 1) * len(body)


scalars = st.one_of(
    st.text(alphabet='e1.5\\"[{,\x00é').map(json.dumps),
    st.sampled_from(["1e400", "-1e400", "1e-400", "1E5", "0.0", "-0", "true", "null", "1" * 310 + ".5"]),
    st.sampled_from(
        ["1" * 309, "9" * 4300, "9" * 4301, "-" + "9" * 5000, "0." + "9" * 5000, "1e308", "1e309"]
    ),
    st.sampled_from(["1.5E+307", "1.5E+309", "01", "1e", "tru", '"\\q"', '"\\ud800"', "NaN", "1e400e"]),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(st.tuples(st.sampled_from("abe1"), inner), max_size=4).map(
            lambda parts: "{" + " , ".join(f'"{name}": {value}' for name, value in parts) + "}"
        )
    ),
    max_leaves=6,
)


def verdict(value: str, filling: str) -> bool | None:
    """Tell whether a record with ``value`` in it is taken; None if its whole batch is not."""
    data = b'{"value":%s,"filling":"%s"}' % (value.encode(), filling.encode())
    change = b'{"object":"A","key":"a","op":"upsert","base":0,"data":%s}' % data
    try:
        changes = read_push(PUSH % b"[%s]" % change, HubLimits()).changes
    except Refused:
        return None
    return not rejections(changes, None, [], HubLimits())


@settings(max_examples=examples(25))
@given(values)
@example('["",1e400]')
@example('"1e400"')
def test_a_long_record_is_taken_if_and_only_if_it_would_be_as_a_short_one(value: str) -> None:
    assert verdict(value, "x" * 70_000) == verdict(value, "x")


def test_a_long_record_of_very_many_lists_is_looked_at_in_time() -> None:
    """As objects they take a second, which is spent in looking for what could be freed."""
    value = f"[{','.join(['[]'] * 330_000)}]"
    begun = time.thread_time()
    assert verdict(value, "") is True
    assert time.thread_time() - begun < 0.3


def test_a_question_has_a_limit_of_its_own() -> None:
    body = PULL % b'{"A":{"cursor":0,"own":%s}}' % b" ".join([b""] * 2000)
    for read in (read_pull, read_survey):
        with pytest.raises(Refused) as caught:
            read(body, HubLimits(question=1000))
        assert (caught.value.status, caught.value.problem.code) == (413, "body_too_large")
        assert "1000" in caught.value.problem.message


# -- the outline -------------------------------------------------------------------------------------------

texts = st.text() | st.text(alphabet='[]{},"\\a')
documents = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def commas(value: object, level: int = 1) -> Counter[int]:
    """Count a document's commas by what there is in its lists and objects."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    found = Counter({level: len(inner) - 1}) if len(inner) > 1 else Counter[int]()
    for each in inner:
        found.update(commas(each, level + 1))
    return found


@settings(max_examples=examples(25))
@given(documents, st.integers(0, 6), st.booleans(), st.integers(1, 9))
def test_an_outline_is_told_without_parsing_whatever_the_windows(
    document: object, levels: int, ascii_only: bool, size: int
) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outline, "_WINDOW", size)
        outline.check_text(body)
        assert outline.is_deeper_than(body, levels) == (depth(document) > levels)
        assert outline.commas_at(body) == commas(document)


@pytest.mark.parametrize("body", [b"]" * 99, b'"' + b"[" * 99, b'"\\', b"}{" * 99, b"", b"\\\\\\"])
def test_what_is_no_json_does_not_confuse_the_outline(body: bytes) -> None:
    assert not outline.is_deeper_than(body, 5)


@pytest.mark.parametrize("body", [b"\xff", b"a" * 5 + b"\xf0\x9f\x98", b"\xc3" + b"a" * 9, b"\xed\xa0\x80"])
def test_bytes_that_are_no_text_are_found_in_any_window(body: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outline, "_WINDOW", 3)
        outline.check_text("é😀".encode() * 9)
        with pytest.raises(UnicodeDecodeError):
            outline.check_text(body)


# -- over HTTP ---------------------------------------------------------------------------------------------


def push_of(service: Service, space: str, size: int) -> bytes:
    device = service.device(space)
    changes = [upsert(f"{n}", {"text": "x" * 100_000}) for n in range(size // 100_000)]
    return json.dumps(device.push_document(*changes)).encode()


@pytest.mark.parametrize("size", [200_000, 2_000_000])
def test_a_body_counts_for_what_it_may_become(
    service: Service, space: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    held: list[int] = []
    has_room, finish = Visit.has_room, Visit.finish

    def noted(visit: Visit, count: int) -> bool:
        held.append(count)
        return has_room(visit, count)

    def noted_at_the_end(visit: Visit, count: int) -> None:
        held.append(count)
        finish(visit, count)

    monkeypatch.setattr(Visit, "has_room", noted)
    monkeypatch.setattr(Visit, "finish", noted_at_the_end)
    body = push_of(service, space, size)
    assert service.ask("POST", f"/v1/spaces/{space}/push", body).status == 200
    assert max(held) == GROWS * len(body)
    assert held[-1] == 0


def test_large_bodies_are_read_one_at_a_time_and_nobody_else_waits_for_them(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two connections, four large pushes of four spaces: all of them stand while one is being read."""
    reading, most, go_on = list[int](), list[int](), threading.Event()

    def slow(body: bytes, limits: HubLimits) -> Any:
        if len(body) > 1 << 20:
            reading.append(1)
            most.append(len(reading))
            assert go_on.wait(30)
            reading.pop()
        return read_push(body, limits)

    monkeypatch.setattr("statesync.hub.requests.read_push", slow)
    url, roomy = new_database(), HubLimits(held=64 << 20)  # four of them and a page beside
    with (
        closing(Hub(url, without_tokens=True, connections=2, limits=roomy)) as hub,
        serving(hub) as address,
        Service(address, hub, url) as service,
        ThreadPoolExecutor(4) as pool,
    ):
        pushes = [
            pool.submit(service.ask, "POST", f"/v1/spaces/s{n}/push", push_of(service, f"s{n}", 2_000_000))
            for n in range(4)
        ]
        try:
            wait_for(lambda: bool(reading), "no push is being read")
            begun = time.monotonic()
            free = service.device("free")
            free.push(upsert("a", {}))
            assert free.read_all("Airport", own=True)[0] == {"Airport/a": {}}
            assert time.monotonic() - begun < 5
            assert not any(push.done() for push in pushes)
        finally:
            go_on.set()
        assert [push.result(30).status for push in pushes] == [200] * 4
    assert set(most) == {1}
