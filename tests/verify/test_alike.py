"""The modelled world and the real thing do the same and are then the same, step by step.

What the system model proves holds for the program only as far as the two are alike. Hypothesis makes up what
happens; ``real`` does it to two stores on files, with the real driver, and to a real hub. After every step
all that matters is compared: what the session remembers and hears next, records, log, outbox, cursor, doubt,
conflict log and journal of both devices, and records, tombstones and receipts of the hub.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from statesync.protocol.conversation import Conversation
from statesync.protocol.messages import Event, Prepared, RequestFailed
from statesync.verify.system import driver
from statesync.verify.system.device import Device, write
from statesync.verify.system.happening import Budget, Happening, Kind
from statesync.verify.system.hub import Hub
from statesync.verify.system.steps import steps
from statesync.verify.system.wire import Fields, fields
from statesync.verify.system.world import Options, Plan, World

from .real import RealDevice, RealWorld, without_time

MOST = 30
KEYS = ["x", "y", "z"]
TEXTS = ["one", "two", "a text that is too large for the hub"]
ALL = Budget.of(dict.fromkeys(set(Kind) - {Kind.EDIT, Kind.DELETE}, 2))
ORDINARY = {Kind.GO_ON, Kind.BACKOFF_OVER, Kind.ANSWER, Kind.ARRIVE}

OPTIONS = st.builds(
    Options,
    st.sampled_from([True, True, True, False]),
    st.sampled_from([True, True, True, False]),
    st.sampled_from(["merge_fields", "client_wins", "server_wins"]),
).filter(lambda options: options.uploads or options.downloads)


class Names(dict[object, str]):
    """What the model calls hubs, epochs, clients and batches, and what the real thing does: one to one."""

    def of(self, name: object, real: Any) -> Any:
        """Return what the real thing calls ``name``, which is ``real`` if it is met for the first time."""
        if name is None or (name not in self and (real is None or real in self.values())):
            return name
        return self.setdefault(name, real)


class AlikeMachine(RuleBasedStateMachine):
    """Does the same to the model and to the real thing, and compares them after every step."""

    folder: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.names = Names({("batch", "copy"): "copy"})
        self.real = RealWorld(self.folder / uuid.uuid4().hex, MOST)
        hub = Hub(most=MOST)
        devices = Device("a", "a"), Device("b", "b")
        self.world = World(hub, devices, (), ALL, backup=None, most_later=MOST, is_odd=True)

    def teardown(self) -> None:
        self.real.close()

    # -- what happens --------------------------------------------------------------------------------

    @rule(index=st.integers(0, 1), key=st.sampled_from(KEYS), text=st.sampled_from([*TEXTS, None]))
    def write(self, index: int, key: str, text: str | None) -> None:
        devices = list(self.world.devices)
        if text is not None or devices[index].row(key) is not None:
            data = None if text is None else fields({"text": text})
            devices[index] = write(devices[index], key, data)
            self.world = evolve(self.world, devices=tuple(devices))
            self.real.devices[index].write(key, text)
            self.compare()

    @precondition(lambda self: self.world.talk is None)
    @rule(index=st.integers(0, 1), options=OPTIONS, steps=st.integers(0, 60))
    def begin(self, index: int, options: Options, steps: int) -> None:
        self.world = driver.begin(evolve(self.world, plans=(Plan(index, options),), budget=ALL))
        self.real.begin(index, options)
        self.compare()
        self.go_on(steps)

    @precondition(lambda self: self.world.talk is not None)
    @rule(count=st.integers(1, 20))
    def go_on(self, count: int) -> None:
        """Let the session go on for some steps as it ought to."""
        for _ in range(count):
            self.step(0, ORDINARY)

    @precondition(lambda self: self.world.talk is not None)
    @rule(at=st.integers(0, 30), ordinary=st.integers(0, 10))
    def have_an_accident(self, at: int, ordinary: int) -> None:
        self.step(at, set(Kind) - ORDINARY)
        self.go_on(ordinary)

    @rule()
    def back_up(self) -> None:
        self.real.back_up()
        self.world = evolve(self.world, backup=self.world.hub)

    def step(self, at: int, kinds: set[Kind]) -> None:
        """Let one of the things happen that are of these kinds."""
        self.world = evolve(self.world, budget=ALL)
        possible = [step for step in steps(self.world) if _kind(step.happening) in kinds]
        if possible:
            step = possible[at % len(possible)]
            self.world = step.target
            self.real.happen(step.happening)
            self.compare(step.words)

    # -- comparison ----------------------------------------------------------------------------------

    def compare(self, words: str = "") -> None:
        pairs = self.of_hub()
        for device, real in zip(self.world.devices, self.real.devices, strict=True):
            pairs += self.of_device(device, real)
        pairs += self.of_session()
        for what, model, real_value in pairs:
            assert model == real_value, f"{what} differ after: {words}"

    def of_session(self) -> list[tuple[str, Any, Any]]:
        session, talk = self.real.device.running, self.world.talk
        if talk is None or session is None:
            return [("whether a session runs", talk is None, session is None)]
        requests = session.requests
        return [
            ("what the session remembers", self.placed(talk.conversation), session.conversation()),
            ("what it hears next", self.heard(talk.next), self.heard(without_time(session.next))),
            (
                "whether it waits for the hub",
                talk.request is not None and talk.reply is None,
                _is_awaited(requests),
            ),
            ("whether it asked ahead", talk.ahead is not None, requests._ahead is not None),
        ]

    def position(self, at: int) -> int:
        """Return the real position of a modelled change: SQLite leaves gaps between them."""
        place = self.names.get(("position", self.world.device.name, at))
        return at if place is None else place[1]

    def placed(self, now: Conversation) -> Conversation:
        """Return what the modelled session remembers, with the positions of the real outbox."""
        batch = now.batch and evolve(now.batch, last_position=self.position(now.batch.last_position))
        limit, looked_through = map(self.position, (now.upload_limit, now.looked_through))
        return evolve(now, batch=batch, upload_limit=limit, looked_through=looked_through)

    def heard(self, event: Event | None) -> Any:
        """Return an event so that it can be compared: errors are made anew each time."""
        if isinstance(event, Prepared):
            return event.records, bool(event.last_position)
        if isinstance(event, RequestFailed):
            error = event.error
            return (
                type(error),
                error.status,
                error.retryable,
                error.maybe_applied,
                error.problem and error.problem.code,
            )
        return event

    def of_device(self, device: Device, real: RealDevice) -> list[tuple[str, Any, Any]]:
        with closing(sqlite3.connect(real.path)) as plain:
            return list(self.of_tables(device, plain))

    def of_tables(self, device: Device, plain: sqlite3.Connection) -> Any:
        def rows(sql: str) -> list[Any]:
            return plain.execute(sql).fetchall()

        yield (
            "records",
            [(k, dict(d)["text"]) for k, d in device.rows],
            rows("SELECT id, text FROM note ORDER BY id"),
        )
        logged = [(each.key, each.before is not None, _text(each.before)) for each in device.log]
        yield "logs", logged, rows('SELECT key, known, was_text FROM "statesync_log_Note" ORDER BY rowid')
        space = rows("SELECT client, number, hub, epoch, head FROM statesync_space")
        if space:
            client, number, hub, epoch, head = space[0]
            stands = self.names.of(("client", device.client), client), device.number
            hub_epoch = (
                self.names.of(_named("hub", device.hub), hub),
                self.names.of(_named("epoch", device.epoch), epoch),
            )
            yield "where it stands", (*stands, *hub_epoch, device.head), (client, number, hub, epoch, head)
        cursor = rows("SELECT cursor, rereading, reread_from FROM statesync_cursor")
        if cursor:
            yield "cursors", [(device.cursor, device.rereading, device.reread_from)], cursor
        yield (
            "seen keys",
            [(key,) for key in device.seen],
            rows("SELECT key FROM statesync_seen ORDER BY key"),
        )
        yield "outboxes", *self.of_outbox(device, plain)
        yield "batches in doubt", *self.of_doubt(device, plain)
        found = rows("SELECT key, base, local, remote, kept FROM statesync_conflict ORDER BY id")
        lost = [
            (each.key, *map(_text, (each.base, each.local, each.remote, each.kept)))
            for each in device.conflicts
        ]
        yield "conflict logs", lost, [(key, *map(_text_of_image, sides)) for key, *sides in found]
        running = self.world.talk is not None and device is self.world.device
        if running:
            yield "committed batches", *self.of_journal(device, plain)

    def of_outbox(self, device: Device, plain: sqlite3.Connection) -> tuple[Any, Any]:
        found = plain.execute(
            "SELECT position, key, operation, image, base, revision, batch, sent, error IS NOT NULL "
            "FROM statesync_change ORDER BY position"
        ).fetchall()
        real = [((device.name, row[0]), *row[1:3], _text_of_image(row[3]), *row[4:]) for row in found]
        met = [(row[0], row[6]) for row in real]
        model = [
            (
                self.names.of(("position", device.name, each.position), place),
                each.key,
                each.operation,
                _text(each.image),
                each.base,
                each.revision,
                self.names.of(_named("batch", each.batch), name),
                each.sent,
                each.failed,
            )
            for each, (place, name) in itertools.zip_longest(
                device.outbox, met[: len(device.outbox)], fillvalue=(None, None)
            )
        ]
        return model, real

    def of_doubt(self, device: Device, plain: sqlite3.Connection) -> tuple[Any, Any]:
        found = plain.execute(
            "SELECT wire_id, wire_number, payload FROM statesync_batch JOIN statesync_payload "
            "USING (session, number) WHERE doubt = 1"
        ).fetchall()
        real = [
            (
                wire_id,
                number,
                [(c["key"], c["base"], c.get("data", {}).get("text")) for c in json.loads(payload)],
            )
            for wire_id, number, payload in found
        ]
        if not device.in_doubt or device.payload is None:
            return [], real
        kept = device.payload
        name = self.names.of(("batch", kept.batch), real[0][0] if real else None)
        return [(name, kept.number, [(c.key, c.base, _text(c.data)) for c in kept.changes])], real

    def of_journal(self, device: Device, plain: sqlite3.Connection) -> tuple[Any, Any]:
        assert self.real.device.running is not None
        session = self.real.device.running.session.id
        found = plain.execute(
            "SELECT detail FROM statesync_transition WHERE session = ? AND \"trigger\" = 'commit_batch' "
            "ORDER BY number",
            (session,),
        ).fetchall()
        details = [json.loads(detail) for (detail,) in found]
        phases = plain.execute("SELECT phase FROM statesync_session WHERE id = ?", (session,)).fetchone()
        batch = plain.execute(
            "SELECT phase FROM statesync_batch WHERE session = ? AND phase NOT IN ('committed', 'aborted')",
            (session,),
        ).fetchone()
        assert self.world.talk is not None
        now = self.world.talk.conversation
        model = (now.phase, now.batch and (now.batch.phase,), list(device.committed))
        return model, (phases[0], batch, [(each["direction"], each["records"]) for each in details])

    def of_hub(self) -> list[tuple[str, Any, Any]]:
        with closing(sqlite3.connect(self.real.folder / "hub.db")) as plain:
            space = plain.execute("SELECT hub, epoch, head, horizon FROM space").fetchone()
            if space is None:
                return [("heads", self.world.hub.head, 0)]
            records = plain.execute(
                "SELECT key, version, writer, data FROM record ORDER BY version"
            ).fetchall()
            receipts = plain.execute("SELECT client, number, batch FROM receipt ORDER BY client").fetchall()
            readers = plain.execute("SELECT client, horizon FROM reader ORDER BY client").fetchall()
        hub = self.world.hub
        model_space = (
            self.names.of(("hub", hub.id), space[0]),
            self.names.of(("epoch", hub.epoch), space[1]),
            hub.head,
            hub.purged_through,
        )
        name = self.names.of
        writers = {row[0]: row[2] for row in records}
        model_records = [
            (each.key, each.version, name(("client", each.writer), writers.get(each.key)), _text(each.data))
            for each in hub.records
        ]
        known = {each.client: name(("client", each.client), None) for each in hub.receipts}
        model_receipts = sorted(
            (known[each.client], each.number, name(("batch", each.batch), None)) for each in hub.receipts
        )
        model_readers = sorted((name(("client", each[0]), None), each[2]) for each in hub.first_reads)
        return [
            ("spaces", model_space, space),
            ("records of the hub", model_records, [(*row[:3], _text_of_image(row[3])) for row in records]),
            ("receipts", model_receipts, receipts),
            ("first reads", model_readers, readers),
        ]


def _kind(happening: Happening) -> Kind:
    return Kind.ROLL_BACK if happening.fails else happening.kind


def _is_awaited(requests: Any) -> bool:
    return requests._awaited is not None and requests._awaited in requests._thread.unanswered


def _named(kind: str, name: object) -> object:
    return None if name is None else (kind, name)


def _text(data: Fields | None) -> Any:
    return None if data is None else dict(data)["text"]


def _text_of_image(image: str | None) -> Any:
    return None if image is None else (json.loads(image) or {}).get("text")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alike")


def run_alike(folder: Path, examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    class Machine(AlikeMachine):
        pass

    Machine.folder = folder
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            phases=phases,
        ),
    )


def test_the_model_and_the_real_thing_are_alike(folder: Path) -> None:
    run_alike(folder, 60)
