"""Real devices that come back to a real hub after a backup was restored, with strangers in between.

``tests/verify/test_fleet.py`` does the same in the modelled world, with more of everything.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from attrs import define
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig.places import memory
from rig.search import examples

from statesync import Remote
from statesync.hub import Hub, LocalRemote, Refused, Right, Rights

from .field import SPACE, Device, Rows, device, make_hub, open_hub

DEVICES = ["a", "b", "c", "d"]
STRANGERS = ["a reader", "a writer"]
READ_ONLY = Rights({"*": frozenset({Right.READ})})
ABOVE = [1, 1 << 32, 1 << 38, 1 << 62]


@define(eq=False)
class Fleet:
    """A hub, its file, and the devices."""

    folder: Path
    hub: Hub
    remote: Remote
    devices: dict[str, Device]

    def sync(self, name: str) -> None:
        self.devices[name].store.scope(self.remote).sync()

    def stands(self) -> tuple[str, int]:
        """Return the hub's epoch and head."""
        with closing(sqlite3.connect(self.folder / "hub.db")) as plain:
            epoch, head = plain.execute("SELECT epoch, head FROM space").fetchone()
        return str(epoch), int(head)

    def claim(self, who: str, above: int) -> None:
        """Let a stranger say that it has come further than the space has."""
        head = self.stands()[1] + above
        said = {"client": who, "number": 0, "hub": None, "epoch": None, "head": head}
        body = json.dumps(said | {"objects": {"Note": {"cursor": head}}, "limit": 1}).encode()
        with suppress(Refused):
            if who == "a reader":
                self.hub.pull(SPACE, body, READ_ONLY)
            else:
                self.hub.pull(SPACE, body)

    def copy(self, source: str, target: str) -> None:
        with (
            closing(sqlite3.connect(self.folder / source)) as old,
            closing(sqlite3.connect(self.folder / target)) as new,
        ):
            old.backup(new)


@contextmanager
def fleet() -> Iterator[Fleet]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory())))
        make_hub(folder / "hub.db")
        hub = open_hub(folder / "hub.db")
        stack.callback(hub.close)
        devices = {name: stack.enter_context(device(folder / f"{name}.db")) for name in DEVICES}
        yield Fleet(folder, hub, LocalRemote(hub, SPACE), devices)


@settings(
    max_examples=examples(2, 18), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True,
    database=None,
)  # fmt: skip
@given(
    before=st.permutations(DEVICES),
    after=st.permutations([*DEVICES, *STRANGERS, *STRANGERS]),
    above=st.sampled_from(ABOVE),
)
def test_a_fleet_comes_together_in_one_epoch_and_the_hub_gets_back_what_it_lost(
    before: list[str], after: list[str], above: int
) -> None:
    with fleet() as found:
        found.devices["a"].write("shared", "first")
        for name in [*DEVICES, *DEVICES]:
            found.devices[name].write(f"of {name}", "first", 1)
            found.sync(name)
        found.copy("hub.db", "backup.db")
        for name in before:
            found.devices[name].write(f"of {name}", "lost by the hub")
            found.devices[name].write(f"{name} anew", "lost by the hub, too")
            found.sync(name)
        found.copy("backup.db", "hub.db")
        restored, _ = found.stands()
        for name in after:
            if name in STRANGERS:
                found.claim(name, above)
            else:
                found.sync(name)
        begun, head = found.stands()
        for name in [*DEVICES, *DEVICES, *DEVICES]:
            found.claim("a reader", above)
            found.sync(name)
        assert begun != restored
        assert found.stands()[0] == begun, "one restored backup, one new epoch"
        assert head < 1 << 39
        expected: Rows = {"shared": ("first", None)}
        expected |= {f"of {name}": ("lost by the hub", 1) for name in DEVICES}
        expected |= {f"{name} anew": ("lost by the hub, too", None) for name in DEVICES}
        for each in found.devices.values():
            assert each.rows() == expected
            assert each.store.pending() == []
