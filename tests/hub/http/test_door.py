"""What a request gets before its token is known, what a space gets of the hub, and who is cut."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import islice
from threading import Event
from typing import Any

import pytest

from statesync.hub import (
    Hub,
    HubLimits,
    Right,
    Rights,
    create_token,
    list_tokens,
    prepare,
    revoke_token,
    serving,
    spaces,
)
from statesync.hub.http.bodies import misframed

from ..devices import Device, Service, upsert
from ..served import wait_for
from .wires import PATIENCE, Wire, wires

pytestmark = pytest.mark.any_database

LARGE = f"Content-Length: {1 << 20}"
NONSENSE = "Authorization: Bearer acme~AAAAAAAAAAAA~" + "A" * 43


@contextmanager
def served(url: str, *, is_open: bool = True, patience: float = 10.0, **limits: Any) -> Iterator[Service]:
    with (
        closing(Hub(url, without_tokens=is_open, limits=HubLimits(**limits), patience=patience)) as hub,
        serving(hub) as address,
        Service(address, hub, url) as service,
    ):
        yield service


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a database, for what no database has a part in."""
    url = f"sqlite:///{tmp_path_factory.mktemp('door')}/hub.db"
    prepare(url)
    return url


@pytest.fixture(scope="module")
def plain(file: str) -> Iterator[Service]:
    """A hub that lets everybody in."""
    with served(file) as service:
        yield service


@pytest.fixture(scope="module")
def brief(file: str) -> Iterator[Service]:
    """A hub that waits for nobody."""
    with served(file, head_seconds=0.2, stall_seconds=0.2, pace=1 << 30) as service:
        yield service


@pytest.fixture(scope="module")
def guarded(file: str) -> Iterator[Service]:
    """A hub that asks for tokens."""
    with served(file, is_open=False, body=1 << 20) as service:
        yield service


def known(service: Service, space: str) -> Device:
    """A device with a token."""
    device = service.device(space)
    device.token = create_token(service.hub.database, space, {"*": frozenset(Right)})
    return device


def reading(service: Service, space: str) -> Device:
    """A device with a token of its own that may only read."""
    device = service.device(space)
    device.token = create_token(service.hub.database, space, {"*": frozenset({Right.READ})})
    return device


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def is_cut_at_once(wire: Wire, data: bytes) -> bool:
    """Send ``data``, which the hub need not read to its end; tell whether it hangs up without waiting."""
    wire.link.settimeout(PATIENCE / 4)
    try:
        with suppress(ConnectionError):
            wire.send(data)
        wire.rest()
    except TimeoutError:
        return False
    return True


# -- a head that two servers read in two ways --------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/spaces/acme/push", "/healthz", "/nowhere"])
@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 10", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 10"],
        ["Content-Length: 0", "Authorization: Bearer a", "Authorization: Bearer b"],
        ["Content-Length: 0", "Content-Encoding: gzip", "Content-Encoding: zstd"],
    ],
)
def test_a_head_that_says_two_things_is_refused_and_the_connection_with_it(
    plain: Service, path: str, headers: list[str]
) -> None:
    with wires(plain.address) as [wire]:
        wire.ask(path, *headers)
        status, said, _ = wire.answer()
        assert (status, said["connection"]) == (400, "close")
        assert wire.is_cut()


def test_nothing_of_a_body_with_two_lengths_is_read(guarded: Service) -> None:
    with wires(guarded.address) as [wire]:
        wire.ask("/v1/spaces/acme/push", "Content-Length: 10", "Transfer-Encoding: chunked")
        assert wire.answer()[0] == 400
        assert wire.is_closed_under(chunk(b" " * (1 << 20)), times=64)


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00" + bytes(60),
        b"POST /v1/spaces/acme/pull HTTP/1.1\r\nAuthorization: Bearer secret\r\nno header\r\n\r\n",
        b"GET /secret\x00 HTTP/1.1\r\nHost: hub\r\n\r\n",
    ],
    ids=["another protocol", "TLS", "no header", "NUL"],
)
def test_what_is_no_http_is_told_so_in_words_that_quote_nothing(plain: Service, said: bytes) -> None:
    with wires(plain.address) as [wire]:
        wire.send(said)
        answer = b""
        with suppress(ConnectionError):
            while part := wire.link.recv(1 << 16):
                answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.partition(b"\r\n\r\n")[2] == b"Invalid HTTP request received."


@pytest.mark.parametrize("length", ["-1", "1e3", "1_000", "0x10", "9" * 20, "9" * 5000, "5, 5", "", "\xb2"])
def test_a_length_that_is_none_is_a_400_on_every_server(plain: Service, length: str) -> None:
    refused = misframed([(b"host", b"hub"), (b"content-length", length.encode("latin-1"))])
    assert refused is not None
    assert refused.status == 400
    if length not in (
        "5, 5",
        "\xb2",
    ):  # the server makes one of the first, and the test cannot write the second
        with wires(plain.address) as [wire]:
            wire.ask("/v1/spaces/acme/push", f"Content-Length: {length}")
            assert wire.status() == 400


# -- before a token is known -------------------------------------------------------------------------------


def test_half_sent_requests_without_a_token_take_no_place(new_database: Callable[[], str]) -> None:
    with served(new_database(), is_open=False, under_way=4) as service:
        device = known(service, "acme")
        with wires(service.address, 12) as strangers:
            for number, wire in enumerate(strangers):
                length = "Content-Length: 100" if number % 2 else LARGE
                wire.ask("/v1/spaces/acme/push", length, NONSENSE, body=b"{")
            device.push(upsert("a", {}))
            assert device.read_all("Airport", own=True)[0] == {"Airport/a": {}}


def test_a_stranger_is_refused_before_more_than_a_short_body_has_come(guarded: Service) -> None:
    with wires(guarded.address, 3) as [long, endless, none]:
        long.ask("/v1/spaces/acme/push", LARGE, NONSENSE)
        endless.ask("/v1/spaces/acme/push", "Transfer-Encoding: chunked", NONSENSE)
        none.ask("/v1/spaces/acme/push", LARGE)
        assert [wire.outcome()[0] for wire in (long, endless, none)] == [401] * 3


def test_what_a_stranger_sends_after_his_refusal_ends_at_the_limit_of_a_body(guarded: Service) -> None:
    with wires(guarded.address) as [wire]:
        wire.ask("/v1/spaces/acme/push", "Transfer-Encoding: chunked", NONSENSE)
        assert wire.outcome()[0] == 401
        assert wire.is_closed_under(chunk(b" " * (1 << 18)), times=100)


@pytest.mark.parametrize("headers", [(), (NONSENSE,)])
@pytest.mark.parametrize("path", ["/v1/spaces/acme/push", "/elsewhere"])
def test_who_sends_a_body_in_tiny_chunks_is_cut(
    guarded: Service, headers: tuple[str, ...], path: str
) -> None:
    with wires(guarded.address) as [wire]:
        wire.ask(path, "Transfer-Encoding: chunked", *headers)
        assert is_cut_at_once(wire, chunk(b" ") * 100_000)


def test_a_body_in_tiny_chunks_is_cut_while_it_is_taken_and_one_in_small_ones_is_read(plain: Service) -> None:
    document = json.dumps(plain.device("tiny").push_document(upsert("a", {"n": "x" * 200_000}))).encode()
    with wires(plain.address, 2) as [tiny, small]:
        tiny.ask("/v1/spaces/tiny/push", "Transfer-Encoding: chunked")
        assert is_cut_at_once(tiny, chunk(b" ") * 100_000)
        small.ask("/v1/spaces/tiny/push", "Transfer-Encoding: chunked")
        for start in range(0, len(document), 64):
            small.send(chunk(document[start : start + 64]))
        small.send(chunk(b""))
        assert small.outcome() == (200, "")


def test_a_token_that_has_ended_while_a_long_body_came_writes_nothing(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    admitted, admit = Event(), Hub.admit

    def admit_and_tell(hub: Hub, *about: Any) -> Rights:
        rights = admit(hub, *about)
        admitted.set()
        return rights

    monkeypatch.setattr(Hub, "admit", admit_and_tell)
    with served(new_database(), is_open=False) as service:
        device, database = known(service, "acme"), service.hub.database
        body = json.dumps(device.push_document(upsert("a", {"n": "x" * 200_000}))).encode()
        with wires(service.address) as [wire]:
            head = (f"Content-Length: {len(body)}", f"Authorization: Bearer {device.token}")
            wire.ask("/v1/spaces/acme/push", *head, body=body[:-1])
            assert admitted.wait(PATIENCE)
            assert revoke_token(database, "acme", list_tokens(database, "acme")[0].id)
            wire.send(body[-1:])
            assert wire.outcome() == (401, "unauthorized")
        device.token = create_token(database, "acme", {"*": frozenset(Right)})
        assert device.read_all("Airport", own=True)[0] == {}


def test_a_space_whose_name_has_an_escaped_slash_is_no_route(plain: Service) -> None:
    """To a proxy whose rules go by the path it would be another one."""
    for path in ("/v1/spaces/acme%2Fpull", "/v1/spaces/a%2fb/pull", "/v1/spaces/acme/push%2F"):
        assert plain.ask("POST", path, b"{}").status == 404


def test_requests_with_a_nonsense_token_keep_nobody_out_and_do_not_wait_for_a_space(
    new_database: Callable[[], str],
) -> None:
    with served(new_database(), is_open=False, under_way=4, line=2) as service:
        device, other = known(service, "acme"), known(service, "other")
        device.push(upsert("a", {}))
        other.pull({})
        with ThreadPoolExecutor(1) as background, wires(service.address, 12) as strangers:
            with service.hub.database.writing():
                spaces.lock(service.hub.database, "acme", "test", 9)
                waiting = background.submit(device.push, upsert("b", {}))
                for wire in strangers:
                    wire.ask("/v1/spaces/acme/push", "Content-Length: 2", NONSENSE, body=b"{}")
                assert [wire.outcome() for wire in strangers] == [(401, "unauthorized")] * 12
                other.pull({})
                assert not waiting.done()
            assert waiting.result(PATIENCE)[0]["status"] == "accepted"


# -- what one space gets -----------------------------------------------------------------------------------


@contextmanager
def pushers(service: Service, space: str, count: int) -> Iterator[list[Future[tuple[int, str]]]]:
    """So many pushes to one space, each by a device of its own: their statuses and codes, as they come."""
    with wires(service.address, count) as some, ThreadPoolExecutor(count) as background:
        for wire in some:
            body = json.dumps(service.device(space).push_document()).encode()
            wire.ask(f"/v1/spaces/{space}/push", f"Content-Length: {len(body)}", body=body)
        yield [background.submit(wire.outcome) for wire in some]


@pytest.mark.parametrize(("under_way", "line", "let_in", "sharing"), [(256, 2, 3, 5), (8, 30, 4, 4)])
def test_a_space_whose_pushes_wait_leaves_room_for_the_others(
    new_database: Callable[[], str], under_way: int, line: int, let_in: int, sharing: int
) -> None:
    """One is worked on while others wait in line; on SQLite three, for a commit that they share."""
    url = new_database()
    let_in = sharing if url.startswith("sqlite") else let_in
    with served(url, under_way=under_way, line=line) as service, ExitStack() as stack:
        other, device = service.device("other"), service.device("acme")
        for one in (other, device):
            one.push(upsert("a", {}))
        with service.hub.database.writing():
            spaces.lock(service.hub.database, "acme", "test", 9)
            answers = stack.enter_context(pushers(service, "acme", 12))
            refused = islice(as_completed(answers, timeout=PATIENCE), 12 - let_in)
            assert [answer.result() for answer in refused] == [(503, "busy")] * (12 - let_in)
            for _ in range(3):
                other.pull({})
            assert sum(answer.done() for answer in answers) == 12 - let_in
        assert [answer.result(PATIENCE) for answer in answers].count((200, "")) == let_in


def test_a_push_waits_in_the_line_of_its_space_for_no_longer_than_the_hub_s_patience(
    postgres_hub: Hub,
) -> None:
    with served(postgres_hub.url, patience=0.3) as service, ExitStack() as stack:
        service.device("acme").push()
        with postgres_hub.database.writing():
            spaces.lock(postgres_hub.database, "acme", "test", 9)
            answers = stack.enter_context(pushers(service, "acme", 3))
            refused = islice(as_completed(answers, timeout=PATIENCE), 2)
            assert [answer.result() for answer in refused] == [(503, "busy")] * 2
        assert {answer.result(PATIENCE) for answer in answers} <= {(503, "busy"), (200, "")}
        service.device("acme").push()


@contextmanager
def half_sent(service: Service, device: Device, count: int, sent: int = 100) -> Iterator[None]:
    """So many pulls of a device, of each of which so many bytes of a large body have come."""
    with wires(service.address, count) as some:
        for wire in some:
            token = f"Authorization: Bearer {device.token}"
            wire.ask(f"/v1/spaces/{device.space}/pull", LARGE, token, body=b" " * sent)
        yield


def test_half_sent_bodies_of_who_may_only_read_stop_no_writer_of_their_space(
    new_database: Callable[[], str],
) -> None:
    with served(new_database(), is_open=False, under_way=8) as service:
        writer, readers = known(service, "acme"), [reading(service, "acme") for _ in range(2)]
        writer.push(upsert("a", {}))
        with ExitStack() as stack:
            for reader in readers:
                stack.enter_context(half_sent(service, reader, 6))
            for key in "bcde":
                assert writer.push(upsert(key, {}))[0]["status"] == "accepted"
            assert len(readers[0].pull({"Airport": {"cursor": 0}})["changes"]) == 5


def test_the_bytes_of_half_sent_bodies_are_those_of_their_token(new_database: Callable[[], str]) -> None:
    size = 1 << 20
    with served(new_database(), is_open=False, patience=0.5, held=24 * size) as service:
        writer, reader = known(service, "acme"), reading(service, "acme")
        writer.push(upsert("a", {}))
        with half_sent(service, reader, 8, sent=size - 1), ExitStack() as kept:
            # Those that wait give up, so that one more fits, perhaps: it stays, too.
            answers = (taken(service, reader, kept) for _ in range(8))
            assert (503, "busy") in answers, "more was held than a token may have"
            text = "x" * (size - 1000)
            assert writer.push(upsert("b", {"text": text}))[0]["status"] == "accepted"
            assert len(writer.pull({"Airport": {"cursor": 1, "own": True}})["changes"]) == 1


def taken(service: Service, device: Device, kept: ExitStack) -> tuple[int, str]:
    """Send the half of one more body; return what is said to that, (0, "") if nothing is, and keep it."""
    [wire] = kept.enter_context(wires(service.address))
    token, body = f"Authorization: Bearer {device.token}", b" " * ((1 << 20) - 1)
    wire.ask(f"/v1/spaces/{device.space}/pull", LARGE, token, body=body)
    wire.link.settimeout(1.0)
    try:
        return wire.outcome()
    except TimeoutError:
        return 0, ""


def test_a_token_has_half_of_the_places_of_its_space(new_database: Callable[[], str]) -> None:
    with served(new_database(), is_open=False, under_way=8, held=1 << 30) as service:
        writer, reader = known(service, "acme"), reading(service, "acme")
        changes = [upsert(f"{n}", {"text": "x" * (1 << 19)}) for n in range(8)]
        writer.push(*changes)
        pull = json.dumps(reader.pull_document({"Airport": {"cursor": 0}})).encode()
        token = f"Authorization: Bearer {reader.token}"
        with wires(service.address, 6, buffer=4096) as unread:
            for wire in unread:
                wire.ask("/v1/spaces/acme/pull", f"Content-Length: {len(pull)}", token, body=pull)
            assert [wire.status() for wire in unread].count(200) == 2
            assert writer.push(upsert("b", {}))[0]["status"] == "accepted"
            assert reader.send("pull", reader.pull_document({}))[0] == 503
            other = known(service, "other")
            other.pull({})


# -- answers that nobody reads -----------------------------------------------------------------------------


def fill(service: Service, space: str, size: int) -> bytes:
    """Make a space whose first page has ``size`` bytes and some; return the pull of that page."""
    device = service.device(space)
    device.push(*(upsert(f"{n}", {"text": "x" * (size // 8)}) for n in range(8)))
    return json.dumps(service.device(space).pull_document({"Airport": {"cursor": 0}})).encode()


def whole(service: Service, space: str, size: int) -> bytes:
    """Make a space of one record of ``size`` bytes and some, which no page is too small for; return its pull.

    Of what is much smaller the system takes all, and then it is not the hub's any more.
    """
    service.device(space).push(upsert("0", {"text": "x" * size}))
    return json.dumps(service.device(space).pull_document({"Airport": {"cursor": 0}})).encode()


def test_answers_that_are_not_read_count_and_a_space_has_no_more_than_its_half(
    new_database: Callable[[], str],
) -> None:
    size = 4 << 20
    with (
        served(new_database(), record=2 * size, held=6 * size, patience=1.0) as service,
        wires(service.address, 12, buffer=4096) as readers,
    ):
        path, pull = "/v1/spaces/acme/pull", whole(service, "acme", size)
        other = service.device("other")
        other.push(upsert("a", {}))
        for wire in readers:
            wire.ask(path, f"Content-Length: {len(pull)}", body=pull)
        heads = [wire.head() for wire in readers]
        statuses = [status for status, _ in heads]
        assert statuses.count(200) == 2, "three would be more than the half with what is around the records"
        assert statuses.count(503) == 10
        assert {said["retry-after"] for status, said in heads if status == 503} == {"1"}
        other.pull({"Airport": {"cursor": 0, "own": True}})
        for wire in readers:
            wire.link.close()
        reader = service.device("acme")
        document = reader.pull_document({"Airport": {"cursor": 0}})
        wait_for(lambda: reader.send("pull", document)[0] == 200, "the bytes are not given back")


def test_an_answer_that_is_larger_than_its_share_is_given_to_who_is_alone(
    new_database: Callable[[], str],
) -> None:
    with served(new_database(), held=1000) as service:
        fill(service, "acme", 1 << 20)
        assert len(service.device("acme").pull({"Airport": {"cursor": 0}})["changes"]) == 8


def test_a_place_is_held_until_the_answer_is_sent(new_database: Callable[[], str]) -> None:
    with served(new_database(), under_way=1) as service, wires(service.address, buffer=4096) as [reader]:
        path, pull = "/v1/spaces/acme/pull", fill(service, "acme", 4 << 20)
        reader.ask(path, f"Content-Length: {len(pull)}", body=pull)
        assert reader.status() == 200
        other = service.device("other")
        assert other.send("pull", other.pull_document({}))[0] == 503
        reader.link.close()
        wait_for(lambda: other.send("pull", other.pull_document({}))[0] == 200, "the place is not given back")


def test_the_pushes_of_a_space_do_not_wait_for_one_that_does_not_read_its_answer(
    new_database: Callable[[], str],
) -> None:
    with served(new_database(), patience=1.0) as service, wires(service.address, buffer=4096) as [reader]:
        fill(service, "acme", 4 << 20)
        changes = [upsert(f"{n}", {"text": "y"}) for n in range(8)]
        push = json.dumps(service.device("acme").push_document(*changes)).encode()
        reader.ask("/v1/spaces/acme/push", f"Content-Length: {len(push)}", body=push)
        assert reader.status() == 200
        service.device("acme").push(upsert("new", {}))


# -- who is slow -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun", [b"", b"POST", b"POST /v1/spaces/acme/push HTTP/1.1\r\nHost: hub\r\nX-Mine: 1"]
)
def test_a_connection_without_a_whole_head_is_cut(brief: Service, begun: bytes) -> None:
    with wires(brief.address) as [wire]:
        wire.send(begun)
        assert wire.is_cut()


def test_a_head_that_is_begun_after_an_answer_is_cut_too(brief: Service) -> None:
    with wires(brief.address) as [wire]:
        wire.ask("/healthz", method="GET")
        assert wire.answer()[0] == 200
        wire.send(b"POST /v1/sp")
        assert wire.is_cut()


def test_a_head_that_does_not_end_is_cut_at_once(plain: Service) -> None:
    with wires(plain.address) as [wire]:
        wire.send(b"GET /healthz HTTP/1.1\r\n")
        assert wire.is_closed_under(b"X-Mine: %s\r\n" % (b"x" * 10_000), times=10_000)


@pytest.mark.parametrize("length", ["Content-Length: 100", LARGE, "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_a_408_and_ends_the_connection(brief: Service, length: str) -> None:
    with wires(brief.address) as [wire]:
        wire.ask("/v1/spaces/acme/push", length)
        status, headers, body = wire.answer()
        assert (status, json.loads(body)["error"]["code"]) == (408, "too_slow")
        assert headers["connection"] == "close"
        assert wire.is_cut()


def test_a_body_that_drips_is_cut_and_one_that_keeps_the_pace_is_taken(file: str) -> None:
    with (
        served(file, head_seconds=9, stall_seconds=0.3, pace=100) as brief,
        wires(brief.address, 2) as [slow, steady],
    ):
        for wire in (slow, steady):
            wire.ask("/v1/spaces/acme/push", "Content-Length: 120")
        for _ in range(6):
            with suppress(ConnectionError):
                slow.send(b" ")
            steady.send(b" " * 20)
            time.sleep(0.08)
        assert slow.status() == 408
        assert steady.outcome() == (400, "malformed")


def test_who_does_not_read_his_answer_is_cut_and_his_place_is_free(file: str, plain: Service) -> None:
    pull = fill(plain, "unread", 4 << 20)
    with (
        served(file, stall_seconds=0.2, pace=1 << 30, under_way=1) as brief,
        wires(brief.address, buffer=4096) as [reader],
    ):
        reader.ask("/v1/spaces/unread/pull", f"Content-Length: {len(pull)}", body=pull)
        assert reader.status() == 200
        other = brief.device("unread")
        wait_for(lambda: other.send("pull", other.pull_document({}))[0] == 200, "the place is not given back")
        assert reader.rest() < 4 << 20


def test_who_asks_again_and_again_and_reads_nothing_is_cut(brief: Service) -> None:
    with wires(brief.address, buffer=4096) as [wire]:
        assert wire.is_closed_under(b"GET /openapi.json HTTP/1.1\r\nHost: hub\r\n\r\n", times=100_000)
