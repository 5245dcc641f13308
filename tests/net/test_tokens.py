"""A token that a function gives: asked once more when the hub refuses it, and never in a message or a log."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from attrs import define
from rig.device import Device, device_on
from rig.gate import Gate, gate_before, refuse, wait_for

from statesync import AutoSync, BadOptions, HttpRemote, KeeperPhase, Unauthorized
from statesync.hub import Hub, Right, create_token, prepare, revoke_token, serving
from statesync.net.identity.tokens import Token, TokenSource

RIGHTS = {"*": frozenset(Right)}


@define(eq=False)
class Guarded:
    """A hub that knows its devices by tokens, and how to get a device that has one."""

    gate: Gate
    hub: Hub
    folder: Path
    stack: ExitStack

    def token(self) -> str:
        return create_token(self.hub.database, "acme", RIGHTS)

    def revoke(self, token: str) -> None:
        assert revoke_token(self.hub.database, "acme", token.split("~")[1])

    def remote(self, token: str | TokenSource | None) -> HttpRemote:
        return self.stack.enter_context(closing(HttpRemote(self.gate.url, "acme", token)))

    def device(self, token: str | TokenSource | None) -> Device:
        return self.stack.enter_context(device_on(self.folder / "device.db", self.remote(token)))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    database = f"sqlite:///{tmp_path}/hub.db"
    prepare(database)
    hub = Hub(database)
    with closing(hub), serving(hub) as url, gate_before(url) as gate, ExitStack() as stack:
        yield Guarded(gate, hub, tmp_path, stack)


def in_turn(*tokens: str | None) -> tuple[list[str | None], Callable[[], str | None]]:
    """Return a function that gives one token after the other, and the list of those that it gave."""
    left, given = list(tokens), list[str | None]()

    def give() -> str | None:
        given.append(left.pop(0) if len(left) > 1 else left[0])
        return given[-1]

    return given, give


def secret(token: str) -> str:
    return token.rpartition("~")[2] or token


def test_a_function_is_asked_once_for_as_long_as_the_hub_takes_what_it_gave(guarded: Guarded) -> None:
    given, give = in_turn(guarded.token())
    device = guarded.device(give)
    assert given == []
    device.add(1)
    device.sync()
    device.sync()
    assert len(given) == 1


def test_a_refused_token_is_asked_for_once_more_and_the_session_goes_on(guarded: Guarded) -> None:
    old, new = guarded.token(), guarded.token()
    given, give = in_turn(old, new)
    device = guarded.device(give)
    device.sync()
    guarded.revoke(old)
    device.add(1)
    assert device.sync().stats.uploaded == 1
    assert given == [old, new]


@pytest.mark.parametrize(("second", "requests"), [("the same", 1), ("another", 2)])
def test_a_token_that_is_refused_twice_ends_the_session_and_is_asked_for_twice(
    guarded: Guarded, second: str, requests: int
) -> None:
    old, other = guarded.token(), guarded.token()
    for token in (old, other):
        guarded.revoke(token)
    given, give = in_turn(old, old if second == "the same" else other)
    device = guarded.device(give)
    with pytest.raises(Unauthorized) as raised:
        device.sync()
    assert raised.value.status == 401
    assert (len(given), len(guarded.gate.seen)) == (2, requests)


def test_a_function_that_failed_is_asked_before_the_next_request(guarded: Guarded) -> None:
    old, new = guarded.token(), guarded.token()
    given, give = in_turn(old, None, new)
    device = guarded.device(give)
    device.sync()
    guarded.revoke(old)
    with pytest.raises(Unauthorized, match="none at present"):
        device.sync()
    before = len(guarded.gate.seen)
    device.sync()
    assert given == [old, None, new]
    assert len(guarded.gate.seen) == before + 1


def _raising(token: str) -> TokenSource:
    def fetch() -> str:
        raise ConnectionError(f"the identity provider does not like {token}")

    return fetch


def _none() -> None:
    return None


def _number() -> object:
    return 7


def _ending(kind: type[BaseException]) -> TokenSource:
    def fetch() -> str:
        raise kind

    return fetch


def test_what_goes_wrong_in_a_function_is_told_in_words_that_quote_nothing(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    token = guarded.token()
    cases: list[tuple[object, str]] = [
        (_raising(token), r"raised ConnectionError in fetch \(test_tokens\.py, line \d+\); nothing was sent"),
        (_none, "has none at present; nothing was sent"),
        (_ending(SystemExit), r"raised SystemExit in fetch .*; nothing was sent"),
        (_ending(asyncio.CancelledError), r"raised CancelledError in fetch .*; nothing was sent"),
        (_number, "returned int, not a text; nothing was sent"),
        (lambda: f"{token} {token}", "has a space"),
    ]
    caplog.set_level(logging.DEBUG)
    device = guarded.device("no-token")
    for source, words in cases:
        device.remote.renew_token(source)  # type: ignore[attr-defined]
        with pytest.raises(Unauthorized, match=words) as raised:
            device.sync()
        assert secret(token) not in f"{raised.value}{raised.value.__cause__}"
        assert raised.value.maybe_applied is False
    assert secret(token) not in caplog.text
    assert not any(secret(token) in str(session.error) for session in device.store.sessions())


def test_no_token_of_a_session_is_in_its_logs_or_its_errors(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = guarded.token()
    guarded.revoke(token)
    device = guarded.device(lambda: token)
    with pytest.raises(Unauthorized) as raised:
        device.sync()
    assert secret(token) not in caplog.text + str(raised.value)


def test_a_token_that_is_neither_a_text_nor_a_function_is_refused() -> None:
    with pytest.raises(BadOptions, match="a text, or a function that returns one, not int"):
        HttpRemote("http://hub", "acme", 7)  # type: ignore[arg-type]


# -- keepers -------------------------------------------------------------------------------------------


def comes_to(keeper: AutoSync, phase: KeeperPhase) -> bool:
    return wait_for(lambda: keeper.status().phase is phase)


def test_a_keeper_that_waits_for_a_token_goes_on_as_soon_as_its_remote_has_another(guarded: Guarded) -> None:
    device = guarded.device(_none)
    device.add(1)
    with AutoSync(device.scope, every=3600, min_gap=0) as keeper:
        assert comes_to(keeper, KeeperPhase.NEEDS_TOKEN)
        assert "has none at present" in keeper.status().why
        device.remote.renew_token(guarded.token())  # type: ignore[attr-defined]
        assert comes_to(keeper, KeeperPhase.RESTING)
        assert keeper.status().is_up_to_date


def test_a_keeper_goes_on_when_the_program_says_that_its_function_has_a_token_now(guarded: Guarded) -> None:
    _, give = in_turn(None, None, guarded.token())
    device = guarded.device(give)
    with AutoSync(device.scope, every=3600, min_gap=0) as keeper:
        assert comes_to(keeper, KeeperPhase.NEEDS_TOKEN)
        give()
        keeper.token_renewed()
        assert comes_to(keeper, KeeperPhase.RESTING)


def test_a_keeper_that_has_stopped_is_told_of_no_token_any_more(guarded: Guarded) -> None:
    device = guarded.device(guarded.token())
    with AutoSync(device.scope, every=3600, min_gap=0) as keeper:
        assert comes_to(keeper, KeeperPhase.RESTING)
    assert device.remote._token_watchers == {}  # type: ignore[attr-defined]


def test_a_keeper_whose_question_for_news_is_refused_asks_its_function_and_goes_on_listening(
    guarded: Guarded,
) -> None:
    given, give = in_turn(guarded.token(), guarded.token())
    device = guarded.device(give)
    guarded.gate.plan_questions(refuse(401, "unauthorized"))
    with AutoSync(device.scope, every=3600, min_gap=0, live=True):
        assert wait_for(lambda: len(guarded.gate.asked) == 2)
        assert len(device.scope.sessions()) == 1
    assert len(given) == 2


def test_a_keeper_whose_function_has_no_other_token_than_a_refused_one_says_so_soon(guarded: Guarded) -> None:
    _, give = in_turn(guarded.token(), None)
    guarded.gate.plan_questions(refuse(401, "unauthorized"))
    with AutoSync(guarded.device(give).scope, every=3600, min_gap=0, live=True) as keeper:
        assert comes_to(keeper, KeeperPhase.NEEDS_TOKEN)


# -- threads -------------------------------------------------------------------------------------------


def test_threads_that_meet_the_end_of_a_token_at_once_ask_the_function_once() -> None:
    """Of two calls at once an identity provider may take the second for a thief's."""
    given, give = in_turn("old", "new")

    def slowly() -> str | None:
        threading.Event().wait(0.05)
        return give()

    token = Token(slowly)
    with ThreadPoolExecutor(3) as pool:
        before = [one.result(10) for one in [pool.submit(token.headers) for _ in range(3)]]
        after = [one.result(10) for one in [pool.submit(token.renewed, before[0]) for _ in range(3)]]
    assert (before, after) == ([{"Authorization": "Bearer old"}] * 3, [{"Authorization": "Bearer new"}] * 3)
    assert given == ["old", "new"]


def test_a_process_that_was_forked_while_the_function_is_asked_can_ask_it() -> None:
    token = Token(lambda: "mine")
    token._asking.acquire()  # as the thread has it that asks, and that is not there in a child
    child = os.fork()
    if child == 0:
        asked = threading.Thread(target=token.headers, daemon=True)
        asked.start()
        asked.join(5)
        os._exit(int(asked.is_alive()))
    assert os.waitpid(child, 0)[1] == 0
