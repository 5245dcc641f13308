"""A recorded session as a conversation: what device and hub said, and where a cancel fell.

``conversation`` reads the journal; ``sequence_mermaid`` here and ``sequence_svg`` write the same lines down.
Batches that went by without an event are told in one line, so that a long download stays readable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import groupby

from statesync.classes import frozen
from statesync.lifecycle import AnyTrigger, BatchTrigger, Phase, Trigger
from statesync.values import BatchInfo, Direction, JournalEntry, SessionInfo


class Say(StrEnum):
    """What a line of the conversation is."""

    REQUEST = "request"
    ANSWER = "answer"
    LOST = "lost"
    NOTE = "note"
    ALARM = "alarm"


@frozen
class Line:
    """One line, ``elapsed`` seconds after the session was made. ``phase`` is the session's from then on."""

    say: Say
    text: str
    elapsed: float
    phase: Phase


_FEW = 4
"""So many batches without an event in a row are still told one by one."""


def conversation(journal: Sequence[JournalEntry], session: SessionInfo) -> tuple[Line, ...]:
    """Return what a session's device and hub said, in order."""
    batches = {batch.number: batch for batch in session.batches}
    quiet = _quiet_batches(journal)
    lines: list[Line] = []
    for run, entries in groupby(_with_phase(journal), key=lambda each: _run(each[0], quiet, batches)):
        part = list(entries)
        numbers = list(dict.fromkeys(entry.batch for entry, _ in part if entry.batch is not None))
        if run is not None and len(numbers) > _FEW:
            lines += _told_at_once(part, [batches[number] for number in numbers], run)
        else:
            lines += [line for entry, phase in part for line in _told(entry, phase, batches, session)]
    return tuple(lines)


def _with_phase(journal: Iterable[JournalEntry]) -> Iterable[tuple[JournalEntry, Phase]]:
    phase = Phase.IDLE
    for entry in journal:
        phase = Phase(entry.target) if entry.chart == "session" else phase
        yield entry, phase


def _quiet_batches(journal: Sequence[JournalEntry]) -> frozenset[int]:
    """Return the batches that were opened, sent once, answered and committed, with nothing in between."""
    plain: list[AnyTrigger] = [
        Trigger.OPEN_BATCH,
        BatchTrigger.SEND,
        BatchTrigger.RECEIVE,
        Trigger.COMMIT_BATCH,
        BatchTrigger.COMMIT,
    ]
    runs = groupby(journal, key=lambda entry: entry.batch)
    return frozenset(
        number
        for number, entries in runs
        if number is not None and [entry.trigger for entry in entries] == plain
    )


def _run(entry: JournalEntry, quiet: frozenset[int], batches: dict[int, BatchInfo]) -> Direction | None:
    if entry.batch is None or entry.batch not in quiet or entry.batch not in batches:
        return None
    return batches[entry.batch].direction


def _told_at_once(
    part: list[tuple[JournalEntry, Phase]], batches: list[BatchInfo], direction: Direction
) -> list[Line]:
    (first, phase), (last, _) = part[0], part[-1]
    which = f"batches {batches[0].number} to {batches[-1].number}"
    records = sum(batch.records for batch in batches)
    return [
        Line(Say.REQUEST, f"{which}: {direction}, one after the other", first.elapsed, phase),
        Line(Say.ANSWER, f"{len(batches)} answers", last.elapsed, phase),
        Line(Say.NOTE, f"{which} committed: {records} records", last.elapsed, phase),
    ]


def _told(
    entry: JournalEntry, phase: Phase, batches: dict[int, BatchInfo], session: SessionInfo
) -> Iterable[Line]:
    batch = batches.get(entry.batch or 0)
    say = _spoken(entry, batch, session)
    if say is not None:
        yield Line(say[0], say[1], entry.elapsed, phase)


def _spoken(entry: JournalEntry, batch: BatchInfo | None, session: SessionInfo) -> tuple[Say, str] | None:
    name = f"batch {entry.batch}"
    what = f"{batch.records} records" if batch and batch.direction is Direction.UPLOAD else "next page"
    in_doubt = " (in doubt)" if batch and batch.in_doubt else ""
    spoken: dict[AnyTrigger, tuple[Say, str]] = {
        Trigger.START: (Say.NOTE, "start"),
        Trigger.FINISH_UPLOAD: (Say.NOTE, "upload finished"),
        Trigger.FINISH_DOWNLOAD: (Say.NOTE, "done"),
        Trigger.CANCEL: (Say.ALARM, f"cancel ({entry.detail.get('reason') or session.reason or 'asked'})"),
        Trigger.SETTLE: (Say.ALARM, "cancelled"),
        Trigger.FAIL: (Say.ALARM, f"failed: {session.reason or 'not recorded'}"),
        BatchTrigger.SEND: (Say.REQUEST, f"{name}: {what}"),
        BatchTrigger.RECEIVE: (Say.ANSWER, f"{name}: answer"),
        BatchTrigger.RETRY: (Say.LOST, f"{name}: failed, will be sent again"),
        BatchTrigger.COMMIT: (Say.NOTE, f"{name} committed: {batch.records if batch else 0} records"),
        BatchTrigger.ABORT: (Say.ALARM, f"{name} aborted{in_doubt}"),
    }
    return spoken.get(entry.trigger)


def sequence_mermaid(journal: Sequence[JournalEntry], session: SessionInfo) -> str:
    """Return a recorded session as a mermaid sequence diagram."""
    lines = [
        "sequenceDiagram",
        "    participant device",
        "    participant hub",
    ]
    arrows = {Say.REQUEST: "device->>hub", Say.ANSWER: "hub-->>device", Say.LOST: "hub--xdevice"}
    for line in conversation(journal, session):
        text = f"{line.text} [{line.elapsed:.2f} s]".replace(";", ",").replace("#", "")
        if line.say is Say.NOTE:
            lines.append(f"    Note over device: {text}")
        elif line.say is Say.ALARM:
            lines += ["    rect rgb(248, 215, 218)", f"    Note over device,hub: {text}", "    end"]
        else:
            lines.append(f"    {arrows[line.say]}: {text}")
    return "\n".join(lines) + "\n"
