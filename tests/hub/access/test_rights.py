"""Who may do what, at every route."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from statesync.hub import Hub, HubLimits, Refused, Right, create_token, list_tokens, revoke_token, serving
from statesync.hub.access.identity import Issuer
from statesync.hub.access.rates import Rates, cost_of_body, cost_of_work
from statesync.hub.access.rights import Rights

from ..devices import Device, Service, upsert

pytestmark = pytest.mark.any_database

READ, WRITE = frozenset({Right.READ}), frozenset({Right.WRITE})
BOTH = READ | WRITE
ROUTES = ["push", "pull", "survey"]
SIGNER = Ed25519PrivateKey.generate()


def pem(key: Ed25519PrivateKey) -> str:
    encoding, shape = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, shape).decode()


@pytest.fixture(scope="module")
def guarded(lasting_database: Callable[[], str]) -> Iterator[Service]:
    """A hub that asks for tokens."""
    url = lasting_database()
    hub = Hub(url, issuer=Issuer(pem(SIGNER), audience="hub", issuer="https://id.example"))
    with serving(hub) as address, Service(address, hub, url) as running:
        yield running
    hub.close()


def ask(service: Service, verb: str, space: str, token: str | None) -> tuple[int, str]:
    """Ask for object Airport in ``space``; return the status, and the code of a refusal."""
    device = service.device(space)
    device.token = token
    survey: dict[str, Any] = {"client": "me", "hub": None, "epoch": None, "object": "Airport"}
    documents: dict[str, dict[str, Any]] = {
        "push": device.push_document(upsert("a", {})),
        "pull": device.pull_document({"Airport": {"cursor": 0}}),
        "survey": survey | {"columns": [], "bounds": [""]},
    }
    status, answer = device.send(verb, documents[verb])
    return status, answer["error"]["code"] if "error" in answer else ""


def signed(space: str = "acme", key: Any = SIGNER, algorithm: str = "EdDSA", **claims: Any) -> str:
    payload = {
        "sub": "me", "aud": "hub", "iss": "https://id.example", "exp": time.time() + 60,
        "statesync": {space: {"*": ["read", "write"]}},
    } | claims  # fmt: skip
    return jwt.encode({name: claim for name, claim in payload.items() if claim is not None}, key, algorithm)


def tampered(token: str) -> str:
    return token[:-1] + ("A" if token[-1] != "A" else "B")


@pytest.mark.parametrize("verb", ROUTES)
def test_a_good_token_opens_its_space(guarded: Service, verb: str) -> None:
    token = create_token(guarded.hub.database, "mine", {"*": BOTH})
    assert ask(guarded, "push", "mine", token)[0] == 200
    assert ask(guarded, verb, "mine", token)[0] == 200


@pytest.mark.parametrize("verb", ROUTES)
def test_no_good_token_is_401_in_the_same_words_whether_the_space_exists(guarded: Service, verb: str) -> None:
    database = guarded.hub.database
    good = create_token(database, "there", {"*": BOTH})
    ask(guarded, "push", "there", good)
    past = create_token(database, "there", {"*": BOTH}, expires=int(time.time()) - 1)
    revoked = create_token(database, "there", {"*": BOTH})
    assert revoke_token(database, "there", revoked.split("~")[1])
    unknown = "there~AAAAAAAAAAAA~" + good.split("~")[2]
    bad = [None, "", "nonsense", tampered(good), past, revoked, unknown, good.upper(), f"{good} x"]
    bodies = set()
    for token in bad:
        for space in ("there", "nowhere"):
            device = guarded.device(space)
            device.token = token
            status, answer = device.send(verb, b"{}")
            bodies.add((status, str(answer)))
    assert len(bodies) == 1
    status, answer_text = bodies.pop()
    assert status == 401
    assert "there" not in answer_text


@pytest.mark.parametrize("verb", ROUTES)
def test_a_token_of_another_space_is_403_in_the_same_words_whether_the_space_exists(
    guarded: Service, verb: str
) -> None:
    token = create_token(guarded.hub.database, "mine", {"*": BOTH})
    ask(guarded, "push", "theirs", create_token(guarded.hub.database, "theirs", {"*": BOTH}))
    answers = []
    for space in ("theirs", "nowhere", "no such name"):
        device = guarded.device(space.replace(" ", "%20"))
        device.token = token
        answers.append(device.send(verb, b"{}"))
    assert answers[0][0] == 403
    assert answers[0] == answers[1] == answers[2]


def test_a_right_that_is_not_granted_is_403(guarded: Service) -> None:
    database = guarded.hub.database
    reader, writer = (create_token(database, "mine", {"*": rights}) for rights in (READ, WRITE))
    assert ask(guarded, "push", "mine", reader) == (403, "forbidden")
    assert ask(guarded, "push", "mine", writer) == (200, "")
    for verb in ("pull", "survey"):
        assert ask(guarded, verb, "mine", reader) == (200, "")
        assert ask(guarded, verb, "mine", writer) == (403, "forbidden")


def test_rights_are_held_object_by_object(guarded: Service) -> None:
    database = guarded.hub.database
    for rights, push, pull in [
        ({"Airport": BOTH}, 200, 200),
        ({"Country": BOTH}, 200, 403),
        ({"*": BOTH, "Airport": READ}, 200, 200),
        ({"*": READ, "Airport": BOTH}, 200, 200),
        ({"*": READ, "Airport": READ}, 403, 200),
        ({"*": BOTH, "Airport": frozenset[Right]()}, 200, 403),
    ]:
        token = create_token(database, "mine", rights)
        assert ask(guarded, "push", "mine", token)[0] == push, rights
        assert ask(guarded, "pull", "mine", token)[0] == pull, rights


def test_a_change_that_a_token_may_not_make_is_rejected_and_the_others_of_its_batch_are_taken(
    guarded: Service,
) -> None:
    device = guarded.device("mixed")
    device.token = create_token(guarded.hub.database, "mixed", {"Airport": BOTH})
    accepted, rejected = device.push(upsert("a", {}), upsert("a", {}, name="Country"))
    assert accepted["status"] == "accepted"
    assert (rejected["status"], rejected["code"]) == ("rejected", "forbidden")
    assert "Country" in rejected["message"]
    assert list(device.read_all("Airport", own=True)[0]) == ["Airport/a"]
    device.token = create_token(guarded.hub.database, "mixed", {"*": BOTH})
    assert device.read_all("Country", own=True)[0] == {}


def test_a_receipt_is_not_for_a_token_without_the_rights_of_the_batch(guarded: Service) -> None:
    device = guarded.device("receipt")
    device.token = create_token(guarded.hub.database, "receipt", {"*": BOTH})
    document = device.push_document(upsert("a", {}), upsert("a", {}, name="Country"))
    assert device.send("push", document)[0] == 200
    device.token = create_token(guarded.hub.database, "receipt", {"Airport": BOTH})
    assert device.send("push", document)[0] == 403


def test_rights_are_asked_for_before_the_body_is_read(guarded: Service) -> None:
    answer = guarded.ask("POST", "/v1/spaces/mine/push", b"x" * (33 << 20))
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_open_routes_need_no_token_and_tell_nothing_of_spaces(guarded: Service) -> None:
    create_token(guarded.hub.database, "secret-space", {"*": BOTH})
    for path in ("/healthz", "/readyz", "/openapi.json"):
        answer = guarded.ask("GET", path)
        assert answer.status == 200
        assert b"secret-space" not in answer.data


def test_a_secret_has_256_bits_and_is_not_kept(hub: Hub) -> None:
    tokens = [create_token(hub.database, "mine", {"*": READ}, label="till 7") for _ in range(20)]
    secrets = {token.split("~")[2] for token in tokens}
    assert len(secrets) == 20
    assert all(len(secret) == 43 for secret in secrets), "43 characters of base64 are 256 bits"
    with hub.database.reading():
        kept = str(hub.database.run("SELECT * FROM token WHERE space = ?", "mine").fetchall())
    assert not any(secret in kept for secret in secrets)
    assert {row.label for row in list_tokens(hub.database, "mine")} == {"till 7"}


def test_a_token_cannot_be_made_for_a_space_that_cannot_be(hub: Hub) -> None:
    with pytest.raises(Refused, match="bad_space"):
        create_token(hub.database, "no such name", {"*": READ})


def test_a_jwt_of_the_identity_provider_opens_the_spaces_that_it_names(guarded: Service) -> None:
    assert ask(guarded, "push", "acme", signed())[0] == 200
    assert ask(guarded, "pull", "acme", signed(statesync={"acme": {"*": ["read"]}}))[0] == 200
    assert ask(guarded, "push", "acme", signed(statesync={"acme": {"*": ["read"]}}))[0] == 403
    assert ask(guarded, "push", "acme", signed("other"))[0] == 403
    assert ask(guarded, "push", "acme", signed(statesync=None))[0] == 403


@pytest.mark.parametrize(
    "token",
    [
        signed(exp=time.time() - 1), signed(exp=None), signed(aud="another"), signed(iss="https://evil.example"),
        signed(key=Ed25519PrivateKey.generate()), signed(key="x" * 40, algorithm="HS256"),
        signed(key="", algorithm="none"), signed(statesync={"acme": {"*": ["admin"]}}), signed(statesync=7),
        "a.b.c",
    ],
)  # fmt: skip
def test_a_jwt_that_is_not_good_is_401(guarded: Service, token: str) -> None:
    assert ask(guarded, "pull", "acme", token) == (401, "unauthorized")


def test_a_token_that_asks_too_often_is_held_back_and_others_are_not(new_database: Callable[[], str]) -> None:
    hub = Hub(new_database(), limits=HubLimits(rate=0.001, burst=2))
    fast, slow = (create_token(hub.database, "mine", {"*": READ}) for _ in range(2))
    for _ in range(2):
        hub.admit("mine", fast, Right.READ)
    with pytest.raises(Refused) as caught:
        hub.admit("mine", fast, Right.READ)
    assert (caught.value.status, caught.value.problem.code) == (429, "too_many_requests")
    assert caught.value.retry_after == pytest.approx(1000, rel=0.01)
    hub.admit("mine", slow, Right.READ)
    hub.close()


def test_a_bucket_fills_at_its_rate_and_no_further_than_its_burst() -> None:
    now = [0.0]
    rates = Rates(clock=lambda: now[0])
    limits = HubLimits(rate=2, burst=3)

    def spend_all() -> int:
        for count in range(100):
            try:
                rates.spend("token", limits)
            except Refused:
                return count
        raise AssertionError("the bucket has no bottom")

    assert spend_all() == 3
    now[0] += 1
    assert spend_all() == 2
    now[0] += 1000
    assert spend_all() == 3


def test_a_body_costs_by_its_bytes_and_a_full_bucket_pays_for_any() -> None:
    now = [0.0]
    rates = Rates(clock=lambda: now[0])
    limits = HubLimits(rate=2, burst=11)
    large = cost_of_body(128 << 10)
    for _ in range(2):
        rates.spend("token", limits)
        rates.spend("token", limits, large, paid=1)
    rates.spend("token", limits)  # what is not enough for its body has paid for the request
    with pytest.raises(Refused) as caught:
        rates.spend("token", limits, large, paid=1)
    assert caught.value.problem.code == "too_many_requests"
    assert "2 small requests a second" in caught.value.problem.message
    assert caught.value.retry_after == 2.5, "5 in a bucket that is empty and fills by 2 a second"
    now[0] += 2.5
    rates.spend("token", limits)
    rates.spend("token", limits, large, paid=1)
    now[0] += 5.5
    rates.spend("token", limits)
    rates.spend("token", limits, cost_of_body(32 << 20), paid=1)


def test_records_are_charged_when_they_are_known_and_the_next_request_waits() -> None:
    now = [0.0]
    rates = Rates(clock=lambda: now[0])
    limits = HubLimits(rate=1, burst=10)
    rates.spend("token", limits)
    rates.charge("token", limits, cost_of_work(1_000_000))
    with pytest.raises(Refused) as caught:
        rates.spend("token", limits)
    assert caught.value.retry_after == 2, "a bucket owes no more than it holds when it is full"
    now[0] += 2
    rates.spend("token", limits)


def test_records_cost_by_their_number_by_their_bytes_and_in_a_survey_by_its_columns() -> None:
    assert cost_of_work(100) == 1
    assert cost_of_work(100, columns=50) == 2
    assert cost_of_work(1, 64 << 10) == 2


def small_requests_left(hub: Hub, token: str, right: Right = Right.WRITE) -> int:
    """Return how many small requests a token may still make."""
    for count in range(100):
        try:
            hub.admit("mine", token, right)
        except Refused:
            return count
    return 100


def test_each_kind_of_request_pays_for_what_it_moves(new_database: Callable[[], str]) -> None:
    hub = Hub(new_database(), limits=HubLimits(rate=0.001, burst=100))
    device = Device(Service("", hub, ""), "mine")

    def left_after(
        right: Right, work: Callable[[str, bytes, Rights], bytes], document: dict[str, Any]
    ) -> int:
        """Return how many small requests a token may still make after this one."""
        token = create_token(hub.database, "mine", {"*": BOTH})
        work("mine", json.dumps(document).encode(), hub.admit("mine", token, right))
        return small_requests_left(hub, token, right)

    push = device.push_document(*(upsert(f"{n}", {"text": "x" * 200}) for n in range(1000)))
    pull = device.pull_document({"Airport": {"cursor": 0}}, 1000, client="reader")
    survey = {"client": "me", "hub": None, "epoch": None, "object": "Airport", "columns": [], "bounds": [""]}
    assert 70 < left_after(Right.WRITE, hub.push, push) < 85, "10 for the records, 8 for the bytes"
    assert left_after(Right.READ, hub.pull, pull | {"objects": {}}) == 98
    assert 80 < left_after(Right.READ, hub.pull, pull) < 90
    assert 80 < left_after(Right.READ, hub.survey, survey) < 90
    assert 70 < left_after(Right.READ, hub.survey, survey | {"columns": [f"c{n}" for n in range(50)]}) < 80
    hub.close()


@pytest.mark.parametrize(
    ("limits", "document", "expected"),
    [
        ({"page_bytes": 1000}, {"base": 0}, "answer_too_large"),
        ({"body": 700_000}, {"base": 1, "fields": {"more": 1}}, "batch_too_large"),
        ({}, {"base": 0, "number": -5, "client": "writer"}, "client_forked"),
    ],
)  # fmt: skip
def test_what_a_refused_push_made_the_hub_look_at_is_paid(
    new_database: Callable[[], str], limits: dict[str, Any], document: dict[str, Any], expected: str
) -> None:
    """1,000 changes cost 10; 1,000 stored records of 1,000 bytes cost 30, where they were looked at."""
    hub = Hub(new_database(), limits=HubLimits(rate=0.001, burst=100, **limits))
    device = Device(Service("", hub, ""), "mine", client="writer")
    token = create_token(hub.database, "mine", {"*": BOTH})
    for first in range(0, 1000, 500):
        stored = [upsert(f"{n}", {"text": "x" * 1000}) for n in range(first, first + 500)]
        hub.push("mine", json.dumps(device.push_document(*stored, number=1 + first // 500)).encode())
    more = document.copy()
    base, fields = more.pop("base"), more.pop("fields", {})
    changes = [upsert(f"{n}", fields, base=base * 1000) for n in range(1000)]
    push = device.push_document(*changes, **{"client": "other"} | more)
    with pytest.raises(Refused) as caught:
        hub.push("mine", json.dumps(push).encode(), hub.admit("mine", token, Right.WRITE))
    assert caught.value.problem.code == expected
    left = small_requests_left(hub, token)
    assert (80 <= left <= 90) if expected == "client_forked" else (50 <= left <= 80)
    hub.close()


def test_jwts_without_a_subject_share_no_rate(hub: Hub) -> None:
    issuer = Issuer(pem(SIGNER), audience="hub", issuer="https://id.example")
    alone = [signed(sub=sub, jti=f"{n}") for n, sub in enumerate([None, None, "", "me", "you"])]
    holders = [issuer.admit("acme", token).holder for token in alone]
    assert len(set(holders)) == 5
    assert not any(token in holder for token, holder in zip(alone, holders, strict=True))
    assert issuer.admit("acme", alone[0]).holder == holders[0]
    assert issuer.admit("acme", signed(jti="another")).holder == issuer.admit("acme", signed()).holder


def test_one_device_with_a_token_syncs_over_http(guarded: Service) -> None:
    device = Device(guarded, "mine", token=create_token(guarded.hub.database, "mine", {"*": BOTH}))
    device.push(upsert("http", {"n": 1}))
    assert device.read_all("Airport", own=True)[0]["Airport/http"] == {"n": 1}
