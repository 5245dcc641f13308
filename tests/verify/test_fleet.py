"""Any number of devices after any restored backup: all come together in one epoch, and no change is lost.

The devices and the hub are the modelled ones, which other tests hold against the real ones. Between the
honest devices stand a stranger who may only read and one who may write; both claim whatever they like. Time
is that a pause between two epochs is over, or is not.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rig.search import examples

from statesync.protocol.messages import Prepare
from statesync.verify.evolving import evolve
from statesync.verify.modelled import downloads, hub, uploads
from statesync.verify.modelled.adapting import adapt
from statesync.verify.modelled.device import OBJECT, Device, fix_limit, write
from statesync.verify.modelled.hub import EPOCH_LEAP, LAST_VERSION, MOST_LOST, Hub
from statesync.verify.modelled.wire import Feed, Fields, Pull, Push, Refusal, fields
from statesync.wire import CLIENT_FORKED, EPOCH_AWAITED, EPOCH_CHANGED, HORIZON_PASSED

KEYS = ["x", "y", "z"]
WRITERS = ["a", "b", "c", "d"]
READER = "e"
ROUNDS = 4
"""How often everybody syncs in the end: an epoch is begun and heard of, what was lost is offered and read."""

_ABOVE = st.sampled_from(
    [1, 2, 5, EPOCH_LEAP, 3 * EPOCH_LEAP, MOST_LOST, MOST_LOST + 1, 1 << 62, LAST_VERSION]
)
"""How far above the head a stranger says that it has come."""


class Fleet(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub(paces=True)
        self.devices = {name: Device(name, name) for name in [*WRITERS, READER]}
        self.backups = [self.hub]
        self.written: set[tuple[str, Fields | None]] = set()
        self.edits = 0
        self.restores = 0
        self.begun_by_honest = 0
        self.most = 0
        """Epochs that honest devices may begin: after a restored backup one for each that there had been."""

    @initialize()
    def come_into_step(self) -> None:
        for key in KEYS:
            self.edit("a", key)
        self.sync_everybody([*self.devices])

    # -- what honest people do -----------------------------------------------------------------------

    @rule(name=st.sampled_from(WRITERS), key=st.sampled_from(KEYS))
    def edit(self, name: str, key: str) -> None:
        self.edits += 1
        text = fields({"text": f"{name} {self.edits}"})
        self.devices[name] = write(self.devices[name], key, text)

    @rule(name=st.sampled_from(WRITERS), key=st.sampled_from(KEYS))
    def delete(self, name: str, key: str) -> None:
        if self.devices[name].row(key) is not None:
            self.devices[name] = write(self.devices[name], key, None)

    @rule(name=st.sampled_from([*WRITERS, READER]))
    def sync(self, name: str) -> None:
        before = self.hub.epochs
        for _ in range(4):  # as often as a session follows the hub
            refusal = (name != READER and self._upload(name)) or self._download(name)
            if not isinstance(refusal, Refusal) or refusal.code == EPOCH_AWAITED:
                break
            assert refusal.code in (EPOCH_CHANGED, CLIENT_FORKED, HORIZON_PASSED), refusal
            device = uploads.drop(self.devices[name], in_doubt=False)
            self.devices[name] = adapt(device, refusal)
        else:
            raise AssertionError(f"{name} follows the hub for ever")
        begun = self.hub.epochs - before
        assert not begun or name != READER
        self.begun_by_honest += begun

    def _upload(self, name: str) -> Refusal | None:
        self.devices[name], limit = fix_limit(self.devices[name])
        for turn in (1, 2, 3):
            after = 0
            while True:
                device, batch = uploads.prepare(self.devices[name], Prepare(turn, after, limit), size=2)
                if batch is None:
                    break
                device, after = uploads.stage(device, batch), batch.last_position
                self.hub, answer = hub.push(self.hub, uploads.request(device, batch))
                self.devices[name] = device
                if isinstance(answer, Refusal):
                    return answer
                self.written |= {(each.key, each.data) for each in self.hub.records}
                taken, _ = uploads.take(device, batch, answer, "server_wins", None)
                self.devices[name] = uploads.store(device, batch, taken)[0]
        return None

    def _download(self, name: str) -> Refusal | None:
        while True:
            device = self.devices[name]
            self.hub, page = hub.pull(self.hub, downloads.request(device), may_write=name != READER)
            if isinstance(page, Refusal):
                return page
            self.devices[name] = downloads.store(device, page)[0]
            if not page.more:
                return None

    def sync_everybody(self, order: list[str]) -> None:
        for name in order:
            self.sync(name)

    # -- what whoever runs the hub does ----------------------------------------------------------------

    @rule()
    def back_up(self) -> None:
        self.backups.append(self.hub)

    @precondition(lambda self: self.restores < 3)
    @rule(at=st.integers(0, 9))
    def restore(self, at: int) -> None:
        self.hub = hub.restored(self.hub, self.backups[at % len(self.backups)])
        self.restores += 1
        self.most += self.hub.epochs

    @rule()
    def begin_epoch(self) -> None:
        self.hub = hub.with_epoch(self.hub)

    @rule()
    def let_time_pass(self) -> None:
        self.hub = evolve(self.hub, pauses=False)

    # -- what strangers do -----------------------------------------------------------------------------

    @rule(above=_ABOVE, number=st.sampled_from([0, 1, 1 << 40]), knows=st.booleans())
    def claim_as_a_reader(self, above: int, number: int, knows: bool) -> None:
        before = self.hub
        epoch = self.hub.epoch if knows else None
        seen = min(self.hub.head + above, LAST_VERSION)
        request = Pull("r", number, None, epoch, (Feed(OBJECT, seen),), 1, seen)
        self.hub, answer = hub.pull(self.hub, request, may_write=False)
        assert isinstance(answer, Refusal)
        assert self.hub == before, "who only reads has changed the hub"

    @rule(above=_ABOVE, number=st.sampled_from([0, 1, 1 << 40]), pushes=st.booleans())
    def claim_as_a_writer(self, above: int, number: int, pushes: bool) -> None:
        before = self.hub
        seen = min(self.hub.head + above, LAST_VERSION)
        if pushes:
            push = Push("w", number + 1, "w", None, self.hub.epoch, (), seen)
            self.hub, _ = hub.push(self.hub, push)
        else:
            pull = Pull("w", number, None, self.hub.epoch, (Feed(OBJECT, 0),), 1, seen)
            self.hub, _ = hub.pull(self.hub, pull)
        assert self.hub.head - before.head <= MOST_LOST + EPOCH_LEAP
        assert not before.pauses or self.hub.epochs == before.epochs, "epochs begin one after the other"

    # -- in the end ----------------------------------------------------------------------------------

    def teardown(self) -> None:
        order = sorted(self.devices)
        for turn in range(ROUNDS):
            self.let_time_pass()
            self.sync_everybody(order[turn % len(order) :] + order[: turn % len(order)])
        assert self.begun_by_honest <= self.most, "devices begin more epochs than restored backups explain"
        living = {each.key: each.data for each in self.hub.records if each.data is not None}
        for name, device in self.devices.items():
            assert device.epoch == self.hub.epoch
            offers = {change.key for change in device.outbox}
            assert not offers or name == READER
            rows = {key: data for key, data in device.rows if key not in offers}
            assert rows == {key: data for key, data in living.items() if key not in offers}, name
            for key, data in device.typed:
                logged = any((each.key, each.local) == (key, data) for each in device.conflicts)
                assert (key, data) in self.written or logged, f"{name} has lost {key}: {data}"


ROUND = settings(
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)


def test_all_devices_come_together_in_one_epoch_after_any_restored_backup() -> None:
    run_state_machine_as_test(Fleet, settings=settings(ROUND, max_examples=examples(20)))
