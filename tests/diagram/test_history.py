"""What a recorded session did can be read off its pictures; the sessions here are real ones."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from rig.device import Device
from rig.gate import Gate, lose_answer, pass_on, refuse

from statesync import RemoteError, SyncOptions, diagram
from statesync.cli.charts import diagram as diagram_command
from statesync.diagram import Weight, taken
from statesync.diagram.sequence import Say, conversation
from statesync.lifecycle import BATCH, SESSION, Edge
from statesync.values import JournalEntry, SessionInfo

Recorded = tuple[list[JournalEntry], SessionInfo]
SVG = "{http://www.w3.org/2000/svg}"


def record_of(device: Device) -> Recorded:
    session = device.store.sessions()[-1]
    return device.store.journal(session.id), session


FOURTH_STARTED = ("download", "started", 4)


@pytest.fixture
def cancelled(here: Device, there: Device, gate: Gate, no_backoff: None) -> Recorded:
    """70 records went up in two batches, the second one twice; the second page of ten was cancelled."""
    there.add(100)
    there.sync()
    here.add(70, first=1000)
    gate.plan(pass_on, lose_answer, pass_on, pass_on)
    held = gate.hold()
    session = here.scope.start_sync(SyncOptions(download_batch_size=10, upload_batch_size=50))
    held.wait()
    # The page may have been asked for ahead: its batch has begun once the session says so.
    next(event for event in session.events() if (event.part, event.state, event.batch) == FOURTH_STARTED)
    session.cancel()
    held.release()
    session.wait()
    return record_of(here)


@pytest.fixture
def failed(here: Device, gate: Gate) -> Recorded:
    """The first page was refused."""
    gate.plan(refuse(422, "no_such_thing"))
    with pytest.raises(RemoteError):
        here.sync()
    return record_of(here)


@pytest.fixture
def long(here: Device, there: Device) -> Recorded:
    """40 pages came down without an event."""
    there.add(80)
    there.sync()
    here.sync(download_batch_size=2)
    return record_of(here)


def texts(recorded: Recorded) -> dict[str, str]:
    """The marks of the edges taken, by trigger and source."""
    marks = taken(*recorded).edges
    return {f"{edge.trigger} {edge.source}": mark.text for edge, mark in marks.items()}


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"(\d+)\. ", text + " ")]


def test_the_way_is_numbered_in_its_order(cancelled: Recorded) -> None:
    marks = {where: numbers(text) for where, text in texts(cancelled).items()}
    assert marks == {
        "start idle": [1],
        "open_batch uploading": [2, 4],
        "commit_batch uploading": [3, 5],
        "finish_upload uploading": [6],
        "open_batch downloading": [7, 9],
        "commit_batch downloading": [8],
        "cancel downloading": [10],
        "commit_batch cancelling": [11],
        "settle cancelling": [12],
    }


def test_the_way_shows_counts_and_times(cancelled: Recorded) -> None:
    marks = texts(cancelled)
    assert re.fullmatch(r"2\. 4\. \(2 times, \d+\.\d\d to \d+\.\d\d s\)", marks["open_batch uploading"])
    assert re.fullmatch(r"12\. at \d+\.\d\d s", marks["settle cancelling"])


def test_what_was_not_taken_is_faint(cancelled: Recorded) -> None:
    marks = taken(*cancelled)

    def weight(edge: Edge) -> Weight:
        return marks.edges.get(edge, marks.otherwise).weight

    faint = {f"{edge.trigger} {edge.source}" for edge in SESSION.edges if weight(edge) is Weight.FAINT}
    assert faint == {f"{edge.trigger} {edge.source}" for edge in SESSION.edges} - set(texts(cancelled))
    assert "cancel uploading" in faint


def test_a_cancelled_session_says_where_and_why(cancelled: Recorded) -> None:
    text = diagram.mermaid(SESSION, taken(*cancelled))
    assert re.search(r"cancelled.*why: user, where: downloading, at \d+\.\d\d s, in batch 4", text)
    assert "settle" in next(line for line in text.splitlines() if "12. at" in line)


def test_a_failed_session_says_where_and_why(failed: Recorded) -> None:
    text = diagram.dot(SESSION, taken(*failed)).replace("<BR/>", " ")
    assert re.search(r"why: remote_error; the hub refused the request \(422 no_such_thing\)", text)
    assert re.search(r"where: downloading, at \d+\.\d\d s, in batch 1", text)


def test_the_batch_chart_shows_the_way_of_all_batches(cancelled: Recorded) -> None:
    marks = taken(*cancelled, BATCH)
    counts = {f"{edge.trigger} {edge.source}": len(numbers(mark.text)) for edge, mark in marks.edges.items()}
    assert counts["retry in_flight"] == 1
    assert counts["send waiting"] == 1
    assert counts["commit received"] == 4


def test_the_conversation_tells_everything_in_order(cancelled: Recorded) -> None:
    assert [line.text for line in conversation(*cancelled)] == [
        "start",
        "batch 1: 50 records",
        "batch 1: answer",
        "batch 1 committed: 50 records",
        "batch 2: 20 records",
        "batch 2: failed, will be sent again",
        "batch 2: 20 records",
        "batch 2: answer",
        "batch 2 committed: 20 records",
        "upload finished",
        "batch 3: next page",
        "batch 3: answer",
        "batch 3 committed: 10 records",
        "batch 4: next page",
        "cancel (user)",
        "batch 4: answer",
        "batch 4 committed: 10 records",
        "cancelled",
    ]


def test_the_cancel_stands_where_it_fell(cancelled: Recorded) -> None:
    text = diagram.sequence_mermaid(*cancelled)
    sent, asked, answered = (
        text.index(part) for part in ("batch 4: next", "cancel (user)", "batch 4: answer")
    )
    assert sent < asked < answered
    assert text.startswith("sequenceDiagram\n    participant device\n    participant hub\n")
    assert "device->>hub: batch 4: next page" in text
    assert "hub--xdevice: batch 2: failed" in text


def test_the_sequence_is_drawn_without_any_extra(cancelled: Recorded) -> None:
    root = ElementTree.fromstring(diagram.sequence_svg(*cancelled))
    shown = [text.text for text in root.iter(f"{SVG}text")]
    for line in conversation(*cancelled):
        assert line.text in shown
    assert {"uploading", "downloading", "cancelling", "device", "hub"} <= set(shown)


def test_batches_without_an_event_are_told_at_once(long: Recorded) -> None:
    lines = [line.text for line in conversation(*long)]
    assert len(lines) < 10
    assert "batches 1 to 40 committed: 80 records" in lines
    assert max(len(numbers(text)) for text in texts(long).values()) == 4
    assert "(40 times" in texts(long)["commit_batch downloading"]


def test_a_failed_session_ends_with_its_reason(failed: Recorded) -> None:
    last = conversation(*failed)[-1]
    assert (last.say, last.text) == (Say.ALARM, "failed: remote_error")


def test_a_name_cannot_break_a_picture(failed: Recorded) -> None:
    journal, session = failed
    odd = SessionInfo(
        **{name: getattr(session, name) for name in ("id", "phase", "started", "stats", "batches")},
        space='a"b<c>&;#',
        objects=('x"y',),
        reason="remote_error",
        error='<b>"{;}|#&',
    )
    ElementTree.fromstring(diagram.sequence_svg(journal, odd))
    assert diagram.png(SESSION, taken(journal, odd)).startswith(b"\x89PNG")
    label = re.search(r'failed\(\["(.*)"\]\)', diagram.mermaid(SESSION, taken(journal, odd)))
    assert label is not None
    assert not set('";#{}|') & set(label[1])


def test_the_command_draws_the_way_of_a_session(cancelled: Recorded, here: Device) -> None:
    command = ["--session", str(here.store.database.database), cancelled[1].id[:-3]]
    result = CliRunner().invoke(diagram_command, command)
    assert result.exit_code == 0
    assert result.output == diagram.mermaid(SESSION, taken(*cancelled))


@pytest.mark.parametrize(
    ("form", "draw"), [("mermaid", diagram.sequence_mermaid), ("svg", diagram.sequence_svg)]
)
def test_the_command_draws_the_conversation(
    cancelled: Recorded, here: Device, form: str, draw: Callable[..., str]
) -> None:
    database, session_id = str(here.store.database.database), cancelled[1].id
    command = ["--session", database, session_id, "--sequence", "--format", form]
    result = CliRunner().invoke(diagram_command, command)
    assert (result.exit_code, result.output) == (0, draw(*cancelled))


def test_a_conversation_needs_a_session() -> None:
    result = CliRunner().invoke(diagram_command, ["--sequence"])
    assert result.exit_code == 2
    assert "--sequence needs --session DB ID" in result.output
