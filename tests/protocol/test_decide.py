"""The conversation decides what the design says: every event in every situation, and cases of their own."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, get_args

import pytest
from attrs import asdict, evolve

from statesync.errors import InternalError, SyncError
from statesync.lifecycle import BatchPhase, Phase
from statesync.protocol import decide as deciding
from statesync.protocol import ending, next_batch, outcome
from statesync.protocol.conversation import Committed, Conversation, Doubt, Spent
from statesync.protocol.decide import decide
from statesync.protocol.messages import (
    Answered,
    AskAhead,
    Continued,
    Decision,
    Event,
    Finish,
    Interrupt,
    RequestFailed,
    Send,
)
from statesync.values import Direction
from statesync.verify.firing import Phases, take

from .matrix import CASES, CASES_BEGIN, CASES_EVENTS, EVENTS, PAIRS, SITUATIONS, Row

FINAL = ("cancelled", "failed", "done")


# -- a decision in the matrix's words ------------------------------------------------------------------------


def _fields(value: Any) -> dict[str, Any]:
    return asdict(value, recurse=False)


def words_of(value: object) -> str:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(value).__name__).lower()
    told = [_told(field, each) for field, each in _fields(value).items()]
    return " ".join([name, *filter(None, told)])


def _told(field: str, value: Any) -> str:
    match field, value:
        case ("number", _) | (_, None):
            return ""
        case ("uploads", bool()):
            return "uploads" if value else ""
        case ("in_doubt", bool()):
            return "in doubt" if value else ""
        case ("spent", Spent()):
            return f"{value.request} {value.parsing}" if value != Spent() else ""
    match field:
        case "error":
            return type(value).__name__
        case "problem":
            return str(value.code)
        case "at_least":
            return f"at least {value}"
        case "page_size":
            return f"at most {value}"
    return str(value)


def effect_words(effect: object) -> str:
    name = type(effect).__name__
    if name == "StoreDoubt":
        return f"store_doubt {'yes' if _fields(effect)['in_doubt'] else 'no'}"
    told = words_of(effect)
    return re.sub(r"^(end_session \w+) \w+$", r"\1", told)


def action_words(action: object) -> str:
    told = words_of(action)
    told = re.sub(r"^(prepare|compose_ahead) (\d+) (\d+) (\d+)", r"\1 round \2 from \3 to \4", told)
    told = re.sub(r"( to \d+) (\d+)$", r"\1 at most \2", told)
    return re.sub(r"^wait (\d+)", r"wait for attempt \1", told)


def as_row(situation: str, event: str, decision: Decision) -> Row:
    return Row(
        situation,
        event,
        " ".join(decision.triggers),
        ", ".join(map(effect_words, decision.effects)),
        ", ".join(map(words_of, decision.meanwhile)),
        ", ".join(map(action_words, decision.actions)),
    )


def is_legal(now: Conversation, decision: Decision) -> bool:
    take(Phases(now.phase, now.batch.phase if now.batch else None), decision.triggers, decision.facts)
    return True


def check(row: Row, now: Conversation, event: Event) -> None:
    decision = decide(now, event)
    assert is_legal(now, decision), "the charts allow what is asked for"
    if row.triggers == "-":
        assert decision == Decision(now)
    elif row.triggers == "defect":
        interrupt, finish = decision.actions
        assert isinstance(interrupt, Interrupt)
        assert isinstance(finish, Finish)
        assert isinstance(finish.error, InternalError)
        assert decision.triggers[-1] == "fail"
    else:
        assert as_row(row.situation, row.event, decision) == row


@pytest.mark.parametrize("row", PAIRS, ids=str)
def test_this_event_in_this_situation_leads_to_what_the_design_says(row: Row) -> None:
    check(row, SITUATIONS[row.situation], EVENTS[row.event])


@pytest.mark.parametrize("row", CASES, ids=str)
def test_this_case_leads_to_what_the_design_says(row: Row) -> None:
    check(row, CASES_BEGIN[row.situation], CASES_EVENTS[row.event])


@pytest.mark.parametrize("situation", FINAL)
@pytest.mark.parametrize("event", EVENTS.values(), ids=list(EVENTS))
def test_after_the_end_nothing_happens(situation: str, event: Event) -> None:
    assert decide(SITUATIONS[situation], event) == Decision(SITUATIONS[situation])


def test_the_matrix_holds_every_event_in_every_situation_once() -> None:
    wanted = [(place, event) for place in SITUATIONS if place not in FINAL for event in EVENTS]
    assert Counter((row.situation, row.event) for row in PAIRS) == Counter(wanted)
    assert {row.situation for row in CASES} == set(CASES_BEGIN), "no case is made and not used"


def test_every_phase_and_every_kind_of_event_is_in_the_matrix() -> None:
    assert {now.phase for now in SITUATIONS.values()} == set(Phase)
    assert {type(event) for event in EVENTS.values()} == set(get_args(Event))


# -- what the conversation remembers -------------------------------------------------------------------------


def test_an_answer_settles_the_doubt_and_moves_on_in_the_outbox() -> None:
    sent = CASES_BEGIN["an attempt was lost, batch under way"]
    after = decide(sent, Answered(3, rejected=1, resend=2)).conversation
    assert (after.doubt, after.looked_through) == (Doubt.NONE, 4)
    assert (after.sent, after.rejected, after.resend) == (3, 1, 2)


def test_records_that_did_not_come_are_counted_but_for_those_of_a_replay() -> None:
    """What a replay leaves is offered in the first round, with all else that waits."""
    sent = evolve(CASES_BEGIN["an attempt was lost, batch under way"], unread=1)
    assert decide(sent, Answered(3, unread=2)).conversation.unread == 3
    replayed = CASES_BEGIN["a batch in doubt is under way"]
    assert decide(replayed, Answered(3, unread=2)).conversation.unread == 0


def test_a_round_for_records_that_did_not_come_has_to_leave_fewer() -> None:
    nothing = EVENTS["prepared nothing"]
    first = decide(CASES_BEGIN["a record did not come, round 1"], nothing).conversation
    assert (first.round, first.unread, first.fewest_unread, first.unread_rounds) == (2, 0, 2, 1)
    again = decide(evolve(first, resend=1), nothing).conversation
    assert (again.round, again.fewest_unread, again.unread_rounds) == (3, 2, 1), "another reason for a round"


def test_a_batch_that_is_too_much_is_cut_until_the_one_record_is_alone_and_grows_again() -> None:
    too_large = CASES_EVENTS["refused: too large"]
    cut = decide(SITUATIONS["uploading, batch under way"], too_large).conversation
    assert (cut.at_most, cut.looked_through) == (1, 0)
    alone = decide(CASES_BEGIN["the one record of a batch is under way"], too_large).conversation
    assert (alone.at_most, alone.looked_through) == (1, 5)
    assert (alone.sent, alone.rejected) == (1, 1)
    assert decide(CASES_BEGIN["half a batch is under way"], Answered(2)).conversation.at_most == 4


def test_records_on_which_the_hub_has_failed_are_counted_until_it_takes_one() -> None:
    failed = CASES_EVENTS["the hub has failed"]
    held = decide(CASES_BEGIN["the last attempt with one record is under way"], failed).conversation
    assert (held.defects, held.looked_through, held.sent, held.rejected) == (1, 5, 1, 1)
    assert (
        decide(evolve(CASES_BEGIN["half a batch is under way"], defects=2), Answered(2)).conversation.defects
        == 0
    )


def test_seconds_of_all_attempts_are_counted_with_the_batch() -> None:
    lost = CASES_EVENTS["request lost"]
    assert isinstance(lost, RequestFailed)
    waiting = decide(SITUATIONS["uploading, batch under way"], RequestFailed(lost.error, 2.0)).conversation
    assert waiting.batch is not None
    assert waiting.batch.spent == Spent(request=2.0)


def test_an_error_ends_the_session_as_it_is() -> None:
    error = SyncError("no")
    failed = CASES_EVENTS["request failed"]
    assert isinstance(failed, RequestFailed)
    (finish,) = decide(SITUATIONS["downloading, batch under way"], failed).actions
    assert isinstance(finish, Finish)
    assert finish.error is failed.error is not error


# -- how many records a page is asked for --------------------------------------------------------------------


def stored(now: Conversation, records: int, size: int, coming: float, storing: float) -> Conversation:
    """What is remembered once such a page has come and is stored, and the next one is sent for."""
    spent = Spent(request=coming, parsing=0.01)
    decision = decide(now, Answered(records, more=True, size=size, spent=spent))
    (ahead,) = decision.meanwhile
    assert isinstance(ahead, AskAhead)
    left = decision.conversation.after(Committed(records, seconds=storing), Phase.DOWNLOADING, None)
    opened = decide(left, Continued()).conversation.after(
        Committed(seconds=9.0), Phase.DOWNLOADING, BatchPhase.IN_FLIGHT
    )
    sent = decide(opened, Continued())
    assert sent.actions == (Send(Direction.DOWNLOAD, ahead.page_size),), "what was asked for ahead"
    return sent.conversation


FITTING = CASES_BEGIN["the session finds out what fits, page under way"]


@pytest.mark.parametrize(
    ("records", "size", "coming", "storing", "fits"),
    [
        (1000, 300_000, 0.01, 0.05, 2000),  # in a tenth of a second
        (1000, 300_000, 0.01, 0.2, 500),
        (4000, 300_000, 0.01, 0.2, 2000),
        (2000, 300_000, 2.0, 0.01, 1000),  # within a second of the request
        (1000, 300_000, 0.5, 0.01, 2000),
        (1000, 2 << 20, 0.01, 0.01, 1000),  # in two megabytes
        (1000, 4 << 20, 0.01, 0.01, 500),
        (1000, 300_000, 0.01, 0.001, 4000),  # four times as many at most
        (2000, 300_000, 0.01, 0.001, 5000),  # and no more than that
        (1000, 300_000, 0.01, 9.0, 500),  # nor fewer than that
        (3, 900, 0.01, 0.004, 500),
    ],
)
def test_the_page_after_the_next_one_has_what_fits_by_the_one_that_was_stored(
    records: int, size: int, coming: float, storing: float, fits: int
) -> None:
    then = stored(FITTING, records, size, coming, storing)
    assert (then.page_size, then.page_fits) == (2000, fits)
    assert stored(then, 500, 150_000, 0.01, 0.1).page_size == fits


def test_a_page_that_brought_nothing_says_nothing_of_what_fits() -> None:
    then = stored(FITTING, 0, 0, 0.01, 0.5)
    assert (then.page_size, then.page_fits) == (2000, 2000)


def test_the_size_that_the_user_gives_stays() -> None:
    then = stored(SITUATIONS["downloading, batch under way"], 7, 9 << 20, 5.0, 5.0)
    assert (then.page_size, then.page_fits) == (7, None)


def test_the_seconds_of_an_upload_say_nothing_of_pages() -> None:
    now = evolve(SITUATIONS["uploading, batch under way"], page_size=500, page_fits=2000)
    answered = decide(now, Answered(3)).conversation
    assert answered.after(Committed(3, seconds=5.0), Phase.UPLOADING, None).page_fits == 2000


# -- every statement -----------------------------------------------------------------------------------------


def statements(module: ModuleType) -> set[tuple[str, int]]:
    """The lines of every function of a module but those of their signatures."""
    found: set[tuple[str, int]] = set()
    functions = [each for each in vars(module).values() if isinstance(each, FunctionType)]
    codes = [each.__code__ for each in functions if each.__module__ == module.__name__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        lines = {line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno}
        found |= {(code.co_name, line) for line in lines}
    return found


@contextmanager
def lines_run(*modules: ModuleType) -> Iterator[set[tuple[str, int]]]:
    """Note the lines of the modules that run inside the block."""
    files, seen, before = {module.__file__ for module in modules}, set[tuple[str, int]](), sys.gettrace()

    def note(frame: FrameType, what: str, argument: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if what == "line":
            seen.add((frame.f_code.co_name, frame.f_lineno))
        return note

    sys.settrace(note)
    try:
        yield seen
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(
    "module", [deciding, next_batch, outcome, ending], ids=lambda module: module.__name__
)
def test_every_statement_runs_in_the_matrix(module: ModuleType) -> None:
    with lines_run(module) as seen:
        for row in PAIRS:
            decide(SITUATIONS[row.situation], EVENTS[row.event])
        for row in CASES:
            decide(CASES_BEGIN[row.situation], CASES_EVENTS[row.event])
        decide(SITUATIONS["done"], EVENTS["begin"])
    assert len(statements(module)) > 20
    assert statements(module) - seen == set()


def test_deletes_that_were_missed_settle_no_doubt_that_waits_beside_a_download() -> None:
    """Another identity does: then no batch of the old one is ever repeated."""
    begun = CASES_BEGIN["a batch in doubt waits for the right, page under way"]
    settled = {
        event: decide(begun, CASES_EVENTS[event]).conversation.doubt
        for event in ("refused: horizon_passed", "refused: client_forked", "refused: epoch_changed")
    }
    assert settled == {
        "refused: horizon_passed": Doubt.OPEN,
        "refused: client_forked": Doubt.NONE,
        "refused: epoch_changed": Doubt.NONE,
    }
