"""Does the same to the modelled world and to the real thing, step by step, and compares them.

``real`` has two stores on files, with the real driver, and a real hub. After every step all that matters is
compared: what the session remembers and hears next, records, log, outbox, cursor, doubt, conflict log and
journal of both devices, and records, tombstones and receipts of the hub.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from statesync.verify.modelled import others
from statesync.verify.modelled.device import Device, write
from statesync.verify.modelled.hub import EPOCH_LEAP, Hub
from statesync.verify.modelled.table import Rules, fits
from statesync.verify.modelled.wire import Filter, fields
from statesync.verify.system import driver
from statesync.verify.system.happening import UNDER_THE_LOCK, Budget, Happening, Kind
from statesync.verify.system.steps import OTHERS, steps, written_there
from statesync.verify.system.world import Options, Plan, World

from . import compared
from .compared import Compared, Names
from .real import RealWorld

MOST = 30
KEYS = ["w", "x", "y", "z"]
UNFIT = "unfit"
TEXTS = ["one", "two", "a text that is too large for the hub"]
FEW_FIT = Rules(refuses=(fields({"text": UNFIT}),), is_unique=True)
"""What the table of a device may ask of its records, while that of the other takes all."""
OTHERWISE = {
    Kind.EDIT,
    Kind.DELETE,
    Kind.WRITE_THERE,
    Kind.DELETE_THERE,
    Kind.OTHER_VERSION,
} | UNDER_THE_LOCK
"""What has a rule of its own."""
ALL = Budget.of(dict.fromkeys(set(Kind) - OTHERWISE, 2))
DIRECTED = {Kind.SET_UP, Kind.TRACK, Kind.TRACK_ANEW, Kind.MIGRATE}
"""What happens only where it is said: a file that is set up again and again takes long."""
ROUND = settings(
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
ORDINARY = {Kind.GO_ON, Kind.BACKOFF_OVER, Kind.ANSWER, Kind.ARRIVE}

OPTIONS = st.builds(
    Options,
    st.sampled_from([True, True, True, False]),
    st.sampled_from([True, True, True, False]),
    st.sampled_from(["merge_fields", "client_wins", "server_wins"]),
    st.integers(1, 2),
).filter(lambda options: options.uploads or options.downloads)


class AlikeMachine(RuleBasedStateMachine):
    """See the module. Two devices begin with nothing, and so does the hub.

    ``table_rules`` are those of the table of device b.
    """

    folder: ClassVar[Path]
    table_rules: ClassVar[Rules | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.names = Names()
        refused = UNFIT if self.table_rules else None
        self.real = RealWorld(self.folder / uuid.uuid4().hex, MOST, refused)
        devices = Device("a", "a"), Device("b", "b", rules=self.table_rules)
        self.world = World(
            Hub(most=MOST, carries=1, scans=True), devices, (), ALL, most_later=MOST, is_odd=True
        )
        self.hub_file, *self.device_files = map(sqlite3.connect, self.real.paths)

    def teardown(self) -> None:
        for plain in (self.hub_file, *self.device_files):
            plain.close()
        self.real.close()

    # -- what happens --------------------------------------------------------------------------------

    @rule(index=st.integers(0, 1), key=st.sampled_from(KEYS), text=st.sampled_from([*TEXTS, UNFIT, None]))
    def write(self, index: int, key: str, text: str | None) -> None:
        """Let the user of a device write or delete a record, unless its table refuses that."""
        device = self.world.devices[index]
        if text is None and device.row(key) is None:
            return
        data = None if text is None else fields({"text": text})
        if not fits(device.rules, device.rows, key, data):
            with pytest.raises(sqlite3.IntegrityError):
                self.real.devices[index].write(key, text)
            return
        a, b = self.world.devices
        devices = (a, write(b, key, data)) if index else (write(a, key, data), b)
        self.world = evolve(self.world, devices=devices)
        self.real.devices[index].write(key, text)
        self.compare(f"the user writes {key}")

    @precondition(lambda self: self.world.talk is None)
    @rule(
        index=st.integers(0, 1),
        options=OPTIONS,
        count=st.integers(0, 60),
        wanted=st.sampled_from([None, None, None, ("one", "three")]),
    )
    def begin(self, index: int, options: Options, count: int, wanted: tuple[str, ...] | None = None) -> None:
        """Begin a session, and let it go on for some steps; ``wanted`` are the texts that it reads."""
        if options.downloads:
            self.read_with(index, None if wanted is None else (("text", wanted),))
        self.world = driver.begin(evolve(self.world, plans=(Plan(index, options),)))
        self.real.begin(index, options, None if wanted is None else {"text": wanted})
        self.compare("a session begins")
        self.go_on(count)

    def read_with(self, index: int, wanted: Filter | None) -> None:
        """Let the model read with a filter; what was read with another one is read again."""
        device = self.world.devices[index]
        if device.filter != wanted:
            is_read = device.cursor or device.scan is not None
            self.change(index, others.filtered(device, wanted) if is_read else evolve(device, filter=wanted))

    def change(self, index: int, changed: Device) -> None:
        """Put a device of the model in the place of what it was."""
        a, b = self.world.devices
        self.world = evolve(self.world, devices=(a, changed) if index else (changed, b))

    @precondition(lambda self: self.world.talk is not None)
    @rule(key=st.sampled_from(KEYS), text=st.sampled_from(["one", "two", None]))
    def write_there(self, key: str, text: str | None) -> None:
        """Let the device that runs no session write on the hub, past its store."""
        index = 0 if self.world.running else 1
        other, data = self.world.devices[index], None if text is None else fields({"text": text})
        if other.hub is None or other.in_doubt or other.log or other.pending(key) is not None:
            return
        if not fits(other.rules, other.rows, key, data):
            return
        left = written_there(self.world, other, key, data)
        if left is not None:
            batch = f"{other.name} there {other.number + 1}"
            self.names.of("batch", batch, batch)
            self.world = left
            self.real.write_there(index, batch, other.cursor, key, text)
            self.compare(f"the other device writes {key}")

    @rule()
    def take_the_place_of_the_hub(self) -> None:
        """Let a hub that knows scans be one that does not, or the other way round."""
        self.world = evolve(self.world, hub=evolve(self.world.hub, scans=not self.world.hub.scans))
        self.real.knows_scans = self.world.hub.scans

    @precondition(lambda self: self.world.talk is None)
    @rule(index=st.integers(0, 1), low=st.sampled_from(["", "x"]), high=st.sampled_from(["y", "z"]))
    def repair(self, index: int, low: str, high: str) -> None:
        """Let a device read one range of keys again."""
        device = self.world.devices[index]
        if device.cursor and device.scan is None and not device.begun and device.rereading is None:
            self.change(index, others.repaired(device, low, high))
            self.real.devices[index].read_again(low, high)
            self.compare("a range is to be read again")

    @precondition(lambda self: self.world.talk is not None)
    @rule(count=st.integers(1, 20))
    def go_on(self, count: int) -> None:
        """Let the session go on for some steps as it ought to."""
        for _ in range(count):
            if not self.step(0, ORDINARY):
                return

    @precondition(lambda self: self.world.talk is not None)
    @rule(at=st.integers(0, 30), count=st.integers(0, 10))
    def have_an_accident(self, at: int, count: int) -> None:
        """Let one of the accidents happen that may happen now."""
        self.step(at, set(Kind) - ORDINARY - DIRECTED)
        self.go_on(count)

    @precondition(lambda self: self.world.talk is None)
    @rule(
        index=st.integers(0, 1),
        kind=st.sampled_from([Kind.CLEAR, Kind.CLEAR_ALL, Kind.RESET, Kind.RESET_ALL]),
    )
    def start_over(self, index: int, kind: Kind) -> None:
        """Clear or reset the store of a device that a hub has answered."""
        a, b = self.world.devices
        device = b if index else a
        if device.hub is None or (kind is Kind.CLEAR and others.waits(device)):
            return
        changed = OTHERS[kind](device)
        self.world = evolve(self.world, devices=(a, changed) if index else (changed, b))
        store = self.real.devices[index].store
        if kind in (Kind.CLEAR, Kind.CLEAR_ALL):
            store.clear(discard_pending=kind is Kind.CLEAR_ALL)
        else:
            store.reset(keep_records=kind is Kind.RESET, discard_pending=kind is Kind.RESET_ALL)
        self.compare(kind)

    @precondition(lambda self: any(device.hub is not None for device in self.world.devices))
    @rule()
    def back_up(self) -> None:
        """Make the backup that the hub may be restored from; before anybody came there was another space."""
        self.real.back_up()
        self.world = evolve(self.world, backup=self.world.hub)

    def do(self, *kinds: Kind) -> None:
        """Let things of these kinds happen, one after the other."""
        for kind in kinds:
            self.step(0, {kind})

    def step(self, at: int, kinds: set[Kind]) -> bool:
        """Let one of the things happen that are of these kinds; tell whether there is one."""
        self.world = evolve(self.world, budget=ALL)
        possible = [step for step in steps(self.world) if _kind(step.happening) in kinds]
        if possible:
            step = possible[at % len(possible)]
            begun = step.target.hub.epochs - self.world.hub.epochs
            self.world = step.target
            self.real.happen(step.happening)
            if begun:
                self.learn_how_far_it_leapt()
            self.compare(step.words)
        return bool(possible)

    def learn_how_far_it_leapt(self) -> None:
        """Let the model begin its epoch where the hub has begun it, at random."""
        (head,) = self.hub_file.execute("SELECT head FROM space").fetchone()
        assert 0 <= head - self.world.hub.head < EPOCH_LEAP
        self.world = evolve(self.world, hub=evolve(self.world.hub, head=head))

    @precondition(lambda self: self.world.talk is None)
    @rule(index=st.integers(0, 1), far=st.sampled_from([1, 1 << 62]))
    def mislead(self, index: int, far: int) -> None:
        """Let a device believe what another hub has said: that it has read far more than there is."""
        device = self.world.devices[index]
        if device.hub is None or device.scan is not None:
            return
        told = self.world.hub.head + far
        self.change(index, evolve(device, head=told, cursor=told))
        with self.device_files[index] as plain:
            plain.execute("UPDATE statesync_space SET head = ?", (told,))
            plain.execute("UPDATE statesync_cursor SET cursor = ?", (told,))
        self.compare("a device is misled")

    # -- comparison ----------------------------------------------------------------------------------

    def compare(self, after: str) -> None:
        """Compare all that matters; raise ``AssertionError`` where the two are not the same."""
        for each in self.compared():
            assert each.model == each.real, f"{each.what} differ after: {after}"

    def compared(self) -> Iterator[Compared]:
        talk, session = self.world.talk, self.real.device.running
        yield from compared.hub(self.world.hub, self.hub_file, self.names)
        for device, plain in zip(self.world.devices, self.device_files, strict=True):
            yield from compared.tables(device, plain, self.names)
            if talk is not None and session is not None and device is self.world.device:
                yield compared.journal(talk, device, session, plain)
        yield from compared.session(talk, self.world.device, session, self.names)


def _kind(happening: Happening) -> Kind:
    return Kind.ROLL_BACK if happening.fails else happening.kind
