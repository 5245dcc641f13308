"""A keeper that listens: what others have sent is here soon, and a signal that is lost costs time only."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from typing import Any

import pytest
from attrs import Factory, define
from rig.device import Device
from rig.gate import PATIENCE, Gate, Hold, Reply, answer, lose_request, refuse, wait_for

from statesync import (
    AutoSync,
    BadOptions,
    ConnectionLost,
    HttpRemote,
    KeeperPhase,
    RemoteError,
    Signal,
    SyncOptions,
    SyncType,
    Unauthorized,
)
from statesync.autosync.listening import Heard, Listening
from statesync.autosync.target import Target
from statesync.hub import Hub, LocalRemote
from statesync.keeping import asking, ending
from statesync.keeping.messages import Signalled

from .conftest import Keep, is_done

LISTENING, NEEDS_TOKEN, STOPPED = KeeperPhase.LISTENING, KeeperPhase.NEEDS_TOKEN, KeeperPhase.STOPPED


def listens(keeper: AutoSync, gate: Gate, questions: int = 1) -> bool:
    """Wait until it listens, and has asked so often."""
    return wait_for(lambda: keeper.status().phase is LISTENING and len(gate.asked) >= questions)


def sessions(device: Device) -> int:
    return len(device.scope.sessions())


def since(question: str) -> int:
    found = re.search(r"since=(\d+)", question)
    assert found is not None, question
    return int(found[1])


def waits(question: str) -> float:
    found = re.search(r"wait=([\d.]+)", question)
    assert found is not None, question
    return float(found[1])


def news(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
    """Say that there is news, whatever is so."""
    return 200, {}, json.dumps({"epoch": "x", "head": since(path) + 1}).encode()


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for long after a failure."""
    for name in ("SHORTEST_BACK_OFF", "LONGEST_BACK_OFF"):
        monkeypatch.setattr(ending, name, 0.02)


def test_what_another_device_sends_is_here_at_once(
    here: Device, there: Device, keep: Keep, gate: Gate
) -> None:
    keeper = keep(here, live=True)
    assert listens(keeper, gate)
    keys = there.add(1)
    began = time.monotonic()
    there.sync()
    assert wait_for(lambda: here.keys() == keys)
    assert time.monotonic() - began < 5
    assert wait_for(lambda: keeper.status().phase is LISTENING)
    assert (keeper.status().is_up_to_date, sessions(here)) == (True, 2)


def test_again_and_again_on_one_connection(here: Device, there: Device, keep: Keep, gate: Gate) -> None:
    keeper = keep(here, live=True)
    keys: list[str] = []
    for number in range(3):
        assert listens(keeper, gate, number + 1)
        connections = len(gate.connections)
        keys += there.add(1, first=number)
        there.sync()
        assert wait_for(lambda: here.keys() == keys)  # noqa: B023 - it is not called any later
    assert listens(keeper, gate, 4)
    assert (here.keys(), len(gate.connections)) == (keys, connections)


def test_what_it_sends_itself_is_no_news_to_it(here: Device, keep: Keep, gate: Gate) -> None:
    keeper = keep(here, live=True)
    assert listens(keeper, gate)
    here.add(1)
    assert wait_for(lambda: sessions(here) == 2)
    assert listens(keeper, gate, 2)
    assert not keeper.wait(0.3)
    assert sessions(here) == 2
    assert since(gate.asked[-1]) == 1


def test_what_was_sent_while_it_did_not_listen_is_found_when_it_does(
    here: Device, there: Device, keep: Keep, gate: Gate
) -> None:
    held = gate.hold()
    keep(here, live=True)
    held.wait()  # the hub has answered the session, which does not know it yet
    keys = there.add(1)
    sent = threading.Thread(target=there.sync)
    sent.start()
    sent.join(PATIENCE)
    held.release()
    assert wait_for(lambda: here.keys() == keys)


def test_it_asks_only_while_it_listens(here: Device, keep: Keep, gate: Gate) -> None:
    keeper = keep(here, live=True)
    assert listens(keeper, gate)
    held = gate.hold()
    here.add(1)
    held.wait()
    keeper.stop(wait=False)
    held.release()
    assert keeper.wait(PATIENCE)
    assert len(gate.asked) == 1
    here.store.close()
    assert gate.wait_for_no_connection()


def test_a_stop_does_not_wait_for_the_question(here: Device, keep: Keep, gate: Gate) -> None:
    keeper = keep(here, live=True)
    assert listens(keeper, gate)
    began = time.monotonic()
    keeper.stop()
    assert time.monotonic() - began < 5
    assert wait_for(lambda: not any(thread.name == "statesync-listening" for thread in threading.enumerate()))


def test_a_hub_that_is_away_is_asked_again_and_nothing_is_missed(
    here: Device, there: Device, keep: Keep, gate: Gate, quickly: None
) -> None:
    gate.plan_questions(lose_request, refuse(503, "busy"), answer(502, b"<html>"), answer(200, b"[]"))
    keeper = keep(here, live=True)
    assert listens(keeper, gate, 5)
    keys = there.add(1)
    there.sync()
    assert wait_for(lambda: here.keys() == keys)


def test_where_all_signals_are_lost_the_interval_brings_it(
    here: Device, there: Device, keep: Keep, gate: Gate, quickly: None
) -> None:
    gate.plan_questions(*[lose_request] * 10_000)
    keep(here, live=True, every=0.3)
    keys = there.add(1)
    there.sync()
    assert wait_for(lambda: here.keys() == keys)


def test_an_older_hub_is_asked_once_and_the_interval_goes_on(
    here: Device, there: Device, keep: Keep, gate: Gate
) -> None:
    gate.plan_questions(*[refuse(404, "not_found")] * 100)
    keeper = keep(here, live=True, every=0.2)
    keys = there.add(1)
    there.sync()
    assert wait_for(lambda: here.keys() == keys and sessions(here) >= 4)
    assert (len(gate.asked), keeper.status().phase is STOPPED) == (1, False)


def test_a_signal_without_news_costs_a_session_or_two_and_no_more(
    here: Device, keep: Keep, gate: Gate
) -> None:
    gate.plan_questions(news)
    keeper = keep(here, live=True)
    assert wait_for(lambda: sessions(here) >= 2)
    assert not keeper.wait(0.5)
    assert (sessions(here) <= 3, keeper.status().phase) == (True, LISTENING)


def test_a_head_that_no_session_reaches_costs_one_session_and_no_more(
    here: Device, keep: Keep, gate: Gate
) -> None:
    gate.plan_questions(*[answer(200, b'{"epoch": "x", "head": 7}')] * 20)
    keeper = keep(here, live=True)
    assert wait_for(lambda: sessions(here) >= 2)
    assert not keeper.wait(0.5)
    assert (sessions(here), len(gate.asked)) == (2, 2)


@pytest.mark.parametrize("head", [0, 1])
def test_a_head_that_has_gone_back_costs_one_session_and_no_more(
    here: Device, there: Device, keep: Keep, gate: Gate, head: int
) -> None:
    """A hub that lags behind tells the old one again and again."""
    there.add(5)
    there.sync()
    gate.plan_questions(*[answer(200, json.dumps({"epoch": "x", "head": head}).encode())] * 1000)
    keeper = keep(here, live=True)
    assert listens(keeper, gate, 2)
    assert not keeper.wait(0.3)
    assert (sessions(here), len(gate.asked)) == (2, 2)
    assert [since(question) for question in gate.asked] == [5, head]


def test_what_is_sent_after_a_head_has_gone_back_is_here_at_once(
    here: Device, there: Device, keep: Keep, gate: Gate
) -> None:
    there.add(5)
    there.sync()
    gate.plan_questions(answer(200, b'{"epoch": "x", "head": 1}'))
    keeper = keep(here, live=True)
    assert listens(keeper, gate, 3), "the hub is not at 1, and says so"
    keys = [*here.keys(), *there.add(1, first=9)]
    there.sync()
    assert wait_for(lambda: here.keys() == keys)


def test_a_question_that_was_cut_before_it_was_asked_is_not_waited_for(here: Device, gate: Gate) -> None:
    assert isinstance(here.remote, HttpRemote)
    signals = here.remote.signals()
    signals.interrupt()
    began = time.monotonic()
    with pytest.raises(RemoteError):
        signals.ask(0, 25.0)
    assert time.monotonic() - began < 5
    signals.close()


def test_a_question_whose_connection_has_died_is_given_up_soon_after_its_wait_is_over(
    here: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub says something then, and a dead connection never does: nobody waits for the read time-out."""
    monkeypatch.setattr(asking, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr("statesync.net.remote.NEWS_TIMEOUT", 0.2)
    dead = Hold(before_hub=True)
    gate.plan_questions(dead)
    assert isinstance(here.remote, HttpRemote)
    with closing(here.remote.signals()) as signals:
        began = time.monotonic()
        with pytest.raises(ConnectionLost):
            signals.ask(0, 0.1)
        assert 0.3 <= time.monotonic() - began < 20.0
    dead.release()


def test_the_status_says_whether_the_hub_answers_and_who_watches_is_told_when_that_changes(
    here: Device, keep: Keep, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_new = answer(200, b'{"epoch": null, "head": 0}')
    busy = refuse(503, "busy", Retry_After="1")
    lost, found = Hold(busy, before_hub=True), Hold(nothing_new, before_hub=True)
    gate.plan_questions(nothing_new, lost, found)
    monkeypatch.setattr(asking, "_LIVED", 0.0)
    monkeypatch.setattr(ending, "LONGEST_BACK_OFF", 1.0)
    said: list[bool | None] = []

    async def watch(keeper: AutoSync) -> None:
        async for status in keeper:
            if not said or status.hears is not said[-1]:
                said.append(status.hears)
            if said[-2:] == [None, True]:
                lost.release()
            elif said[-1] is False:
                found.release()
            elif said[-2:] == [False, True]:
                keeper.stop(wait=False)

    asyncio.run(asyncio.wait_for(watch(keep(here, live=True)), PATIENCE))
    assert said == [None, True, False, True, None]
    assert sessions(here) == 1, "nobody is asked for more, only because nobody answers"


def test_nobody_is_told_that_the_hub_does_not_answer_before_it_was_asked(
    here: Device, keep: Keep, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins, goes_on, signals = threading.Event(), threading.Event(), Target.signals

    def late(self: Target) -> Any:
        begins.set()
        assert goes_on.wait(PATIENCE)
        return signals(self)

    monkeypatch.setattr(Target, "signals", late)
    keeper = keep(here, live=True)
    try:
        assert begins.wait(PATIENCE)
        assert keeper.status().hears is None
    finally:
        goes_on.set()
    assert listens(keeper, gate)


def test_after_a_session_that_has_reached_the_hub_it_listens_at_once(
    here: Device, there: Device, keep: Keep, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "SHORTEST_BACK_OFF", 600.0)
    monkeypatch.setattr(ending, "LONGEST_BACK_OFF", 600.0)
    gate.plan_questions(lose_request)
    keeper = keep(here, live=True, min_gap=0.0)
    assert wait_for(lambda: keeper.status().hears is False)
    keeper.nudge()
    assert listens(keeper, gate, 2)
    keys = there.add(1)
    there.sync()
    assert wait_for(lambda: here.keys() == keys)


def test_who_never_answers_the_question_is_told_to_be_silent_and_the_rest_stays_true(
    here: Device, keep: Keep, gate: Gate
) -> None:
    gate.plan_questions(*[refuse(404, "not_found")] * 9)
    keeper = keep(here, live=True)
    assert wait_for(lambda: keeper.status().hears is False)
    assert keeper.status().is_up_to_date
    assert keep(here, live=False).status().hears is None


def test_a_hub_that_always_tells_of_news_gets_a_session_in_each_gap_and_no_more(
    here: Device, keep: Keep, gate: Gate
) -> None:
    gate.plan_questions(*[news] * 1000)
    keeper = keep(here, live=True, min_gap=0.2)
    assert not keeper.wait(1.0)
    assert 2 <= sessions(here) <= 6


def test_something_on_the_way_that_cuts_who_waits_is_asked_for_less(
    here: Device, there: Device, keep: Keep, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that cuts after so long costs a moment; the next question has its answer before that."""
    monkeypatch.setattr(asking, "_LIVED", 0.1)
    monkeypatch.setattr(asking, "SHORTEST_WAIT", 0.1)

    def cut(gate: Gate, path: str, body: bytes, headers: dict[str, str]) -> Reply | None:
        threading.Event().wait(0.3)
        return None

    gate.plan_questions(cut)
    keeper = keep(here, live=True)
    assert listens(keeper, gate, 3)
    assert waits(gate.asked[0]) == 25
    assert 0.1 <= waits(gate.asked[1]) < 0.3, "three quarters of the time after which it was cut"
    keys = there.add(1)
    there.sync()
    assert wait_for(lambda: here.keys() == keys)


def test_a_token_that_is_refused_while_it_listens_is_found_out_by_a_session(
    here: Device, keep: Keep, gate: Gate
) -> None:
    gate.plan_questions(refuse(401, "unauthorized"))
    held = gate.hold()
    keeper = keep(here, live=True)
    held.wait()
    gate.plan(refuse(401, "unauthorized"))
    held.release()
    assert wait_for(lambda: keeper.status().phase is NEEDS_TOKEN)
    last = keeper.status().last
    assert last is not None
    assert isinstance(last.error, Unauthorized)
    keeper.nudge()
    assert listens(keeper, gate, 2)


def test_a_token_that_expires_while_it_listens_is_asked_for_again_and_it_goes_on_listening(
    new_device: Callable[..., Device], there: Device, keep: Keep, gate: Gate
) -> None:
    tokens = iter(["old", "new", "newest"])
    here = new_device("expiring", gate.url, token=lambda: next(tokens))
    gate.plan_questions(refuse(401, "unauthorized"))
    keeper = keep(here, live=True)
    assert listens(keeper, gate, 2)
    assert sessions(here) == 1, "nobody has to find out"
    keys = there.add(1)
    there.sync()
    assert wait_for(lambda: here.keys() == keys)
    assert next(tokens) == "newest"


def test_a_function_for_the_token_that_reads_the_store_leaves_nothing_open_for_the_session_after_it(
    new_device: Callable[..., Device], keep: Keep, gate: Gate
) -> None:
    """The program keeps its token in a table. The thread that asks for news is the next one's."""

    def token() -> str:
        return f"token-{next(tokens)}-{here.airport.select().count()}"

    tokens = count()
    here = new_device("kept", gate.url, token=token)
    gate.plan_questions(refuse(401, "unauthorized"))
    keeper = keep(here, live=True)
    assert listens(keeper, gate, 2)
    assert is_done(keeper)
    keeper.stop()
    database: Any = here.store.database
    ours = {"statesync-keeper", "statesync-session", "statesync-listening"}
    assert wait_for(lambda: not ours & {thread.name for thread in threading.enumerate()})
    assert len(database.held_connections()) <= 2, "by this thread, and by the session for the next one"


def test_a_function_that_has_no_token_while_it_listens_is_said_and_the_next_one_is_taken(
    new_device: Callable[..., Device], there: Device, keep: Keep, gate: Gate
) -> None:
    """Nobody is signed in any more: that is no reason to say that all is up to date."""
    signed_in, refused = ["token"], refuse(401, "unauthorized")
    here = new_device("signing-out", gate.url, token=lambda: signed_in[-1] if signed_in else None)
    keeper = keep(here, live=True)
    assert listens(keeper, gate)
    signed_in.clear()
    gate.plan_questions(refused)
    there.add(1)
    there.sync()  # answers the question that is open; the next one is refused
    assert wait_for(lambda: keeper.status().phase is NEEDS_TOKEN)
    signed_in.append("another")
    keeper.token_renewed()
    assert wait_for(lambda: keeper.status().is_up_to_date)
    keys = [*here.keys(), *there.add(1, first=5)]
    there.sync()
    assert wait_for(lambda: here.keys() == keys)


def test_a_token_that_is_renewed_while_its_question_is_refused_lets_it_listen_again(
    here: Device, there: Device, keep: Keep, gate: Gate
) -> None:
    """The session that was to find out has gone well with the new token already."""
    assert isinstance(here.remote, HttpRemote)
    gate.plan_questions(refuse(401, "unauthorized"))
    keeper = keep(here, live=True)
    assert wait_for(lambda: sessions(here) == 2 and keeper.status().phase is LISTENING)
    here.remote.renew_token("new")
    assert listens(keeper, gate, 2)
    keys = there.add(1)
    there.sync()
    assert wait_for(lambda: here.keys() == keys)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_hub_that_has_answered_before_is_no_older_one(
    here: Device, there: Device, keep: Keep, gate: Gate, quickly: None, status: int
) -> None:
    """Something on the way answers for a moment, as a captive portal does, or a proxy without its hub."""
    keeper = keep(here, live=True)
    assert listens(keeper, gate)
    gate.plan_questions(refuse(status, "unknown"))
    keys = there.add(1)
    there.sync()
    assert wait_for(lambda: here.keys() == keys)
    assert listens(keeper, gate, 3)
    keys += there.add(1, first=5)
    there.sync()
    assert wait_for(lambda: here.keys() == keys)


def test_a_question_that_alone_is_refused_costs_one_session_and_no_more(
    here: Device, keep: Keep, gate: Gate
) -> None:
    gate.plan_questions(*[refuse(403, "forbidden")] * 100)
    keeper = keep(here, live=True)
    assert wait_for(lambda: sessions(here) == 2 and keeper.status().phase is LISTENING)
    assert not keeper.wait(0.3)
    assert (sessions(here), len(gate.asked)) == (2, 1)


def test_a_question_that_was_refused_is_asked_again_once_there_is_another_token(
    here: Device, keep: Keep, gate: Gate
) -> None:
    gate.plan_questions(refuse(403, "forbidden"))
    keeper = keep(here, live=True)
    assert wait_for(lambda: sessions(here) == 2 and keeper.status().phase is LISTENING)
    keeper.token_renewed()
    assert listens(keeper, gate, 2)
    assert sessions(here) == 2


def test_a_session_that_was_cancelled_is_not_begun_again_for_what_it_has_left(
    here: Device, there: Device, keep: Keep, gate: Gate
) -> None:
    there.add(4)
    there.sync()
    held = gate.hold()
    keeper = keep(here, live=True, options=SyncOptions(download_batch_size=1))
    held.wait()
    here.scope.cancel_sync()
    held.release()
    assert listens(keeper, gate)
    assert not keeper.wait(0.3)
    assert sessions(here) == 1


def test_a_hub_in_the_same_process_tells_too(
    live_hub: tuple[Hub, str], here: Device, there: Device, space: str, keep: Keep
) -> None:
    hub, _ = live_hub
    here.remote = LocalRemote(hub, space)
    keeper = keep(here, live=True)
    assert wait_for(lambda: keeper.status().phase is LISTENING)
    keys = there.add(1)
    there.sync()
    assert wait_for(lambda: here.keys() == keys)
    assert wait_for(lambda: keeper.status().phase is LISTENING)
    keeper.stop()
    assert wait_for(lambda: hub.watch.count(space) == 0)


@define(eq=False)
class Late:
    """Signals whose answer is there in the very moment in which the question is cut."""

    is_cut: bool = False
    is_closed: bool = False
    asked: threading.Event = Factory(threading.Event)
    answer: threading.Event = Factory(threading.Event)
    read: threading.Event = Factory(threading.Event)

    def ask(self, since: int, wait: float) -> Signal:
        assert not self.is_cut, "who was cut is asked again"
        self.asked.set()
        assert self.answer.wait(PATIENCE)
        return Signal("x", since + 1)

    def interrupt(self) -> None:
        self.answer.set()
        self.read.wait(0.1)  # time enough for the answer to be read
        self.is_cut = True

    def close(self) -> None:
        self.is_closed = True
        self.read.set()


def test_news_that_come_as_it_stops_listening_do_not_keep_it_from_listening_again(here: Device) -> None:
    made: list[Late] = []

    def signals() -> Late:
        made.append(Late())
        return made[-1]

    target: Any = Target(here.scope)
    target.signals = signals
    told: list[Signalled | Heard] = []
    listening = Listening(target, told.append)
    for number in range(2):
        listening.follow(LISTENING, is_done=True)
        assert wait_for(lambda: len(made) == number + 1 and made[-1].asked.is_set())  # noqa: B023
        listening.follow(KeeperPhase.SYNCING, is_done=True)
    listening.close()
    assert wait_for(lambda: all(one.is_closed for one in made))
    assert told == []


class Mute:
    """A remote of a program's own that knows of no signals."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "signals":
            raise AttributeError(name)
        return getattr(self._inner, name)


@define(eq=False)
class Odd:
    """A remote of a program's own: it, or who asks for its news, raises what no remote raises."""

    real: HttpRemote
    raises_in: str
    error: Exception

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def signals(self) -> OddSignals:
        if self.raises_in == "signals":
            raise self.error
        return OddSignals(self.raises_in, self.error)


@define(eq=False)
class OddSignals:
    raises_in: str
    error: Exception

    def ask(self, since: int, wait: float) -> Signal:
        self._perhaps("ask")
        return Signal("x", since)

    def interrupt(self) -> None:
        self._perhaps("interrupt")

    def close(self) -> None:
        self._perhaps("close")

    def _perhaps(self, where: str) -> None:
        if where == self.raises_in:
            raise self.error


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("signals", BadOptions("the file with the certificates is gone")),
        ("signals", ZeroDivisionError()),
        ("ask", ZeroDivisionError()),
        ("interrupt", ZeroDivisionError()),
        ("close", ZeroDivisionError()),
    ],
)
def test_a_remote_that_raises_anything_leaves_it_to_the_interval(
    here: Device, where: str, error: Exception
) -> None:
    assert isinstance(here.remote, HttpRemote)
    odd = Odd(here.remote, where, error)
    keeper = AutoSync(here.store.scope(odd), live=True, min_gap=0, every=0.05)
    with keeper:
        assert wait_for(lambda: sessions(here) >= 3), "an interval and another one"
    assert keeper.status().why == "it was stopped"


def test_a_keeper_that_could_not_listen_is_not_made(here: Device) -> None:
    with pytest.raises(BadOptions, match="download"):
        AutoSync(here.scope, live=True, options=SyncOptions(sync_type=SyncType.UPLOAD_ONLY))
    mute: Any = Mute(here.remote)
    here.remote = mute
    with pytest.raises(BadOptions, match=r"Mute has no signals\(\)"):
        AutoSync(here.scope, live=True)
