"""A second program beside a session in a ``SyncWorld``: it sets up, tracks, writes and clears at any point.

What no session may run beside is refused while one runs. The rest may end the session, which then stores
nothing that was asked for the store as it was; the next one agrees with the hub.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any
from unittest import mock

import peewee
from hypothesis import strategies as st
from hypothesis.stateful import rule

from statesync.classes import define
from statesync.errors import StoreChanged, SyncInProgress
from statesync.remote import Remote
from statesync.scope import Scope, Store
from statesync.session.telling.tracing import each_step
from statesync.store.evolution import steps
from statesync.testing.faults import Fault
from statesync.testing.moves.versions import VersionedDevice, Versions, set_up
from statesync.testing.sites import WorldDevice
from statesync.values import Progress, SyncOptions, SyncResult
from statesync.wire import Page, Pull, Push, PushAnswer

_sites = st.integers(0, 7)
_faults = st.lists(st.none() | st.sampled_from(Fault), max_size=4)
_deeds = st.sampled_from(
    ["set_up", "set_up_tool", "set_up_next", "migrate", "track", "write", "clear", "reset", "repair", "sync"]
)
_plans = st.dictionaries(st.integers(1, 20), _deeds, min_size=1, max_size=3)


class Beside(Versions):
    """A world in which a second program works on the file of a session."""

    def __init__(self) -> None:
        super().__init__()
        self._stack.enter_context(mock.patch.object(steps, "_PATIENCE", 0.0))
        self._wrong: list[BaseException] = []

    @rule(
        site=_sites, deeds=st.dictionaries(st.integers(1, 20), _deeds, min_size=1, max_size=3), faults=_faults
    )
    def sync_beside(self, site: int, deeds: dict[int, str], faults: list[Fault | None]) -> None:
        """A device syncs, and at some points another program does something to its file."""
        device = self._versioned(site)
        if not self.keys(self.models[0], device):
            self.sync_everybody()
        visitor = _Visitor(lambda number: self._come_by(device, deeds.get(number)))
        scope = _VisitedScope(device.store.scope(_VisitedRemote(device.remote, visitor)), visitor)
        with mock.patch.object(device, "scope", scope), suppress(StoreChanged):
            self.let_sync(device, faults, None)
        assert not self._wrong, f"{device.name} was disturbed: {self._wrong[0]!r}"

    def _come_by(self, device: VersionedDevice, deed: str | None) -> None:
        if deed is not None:
            try:
                getattr(self, f"_{deed}")(device)
            except BaseException as error:
                self._wrong.append(error)
                raise

    # -- what the second program does ----------------------------------------------------------------

    def _set_up(self, device: VersionedDevice) -> None:
        with closing(Store(device.path)) as other:
            set_up(other, self.models, device.version, device.way)

    def _set_up_tool(self, device: VersionedDevice) -> None:
        with closing(Store(device.path)) as other:
            set_up(other, self.models, -1, device.way)

    def _set_up_next(self, device: VersionedDevice) -> None:
        """Set up the second version, whose column was added by hand: that waits for no session."""
        if device.on_file == 0:
            self._prepare(device, "by hand")
            with closing(Store(device.path)) as other:
                set_up(other, self.models, 1, "by hand", takes_steps=False)
            self._came_to(device, 1)

    def _migrate(self, device: VersionedDevice) -> None:
        """Take a step, which is refused while the session runs."""
        if device.on_file == 0:
            self.make_way(device)
            with closing(Store(device.path)) as other, suppress(SyncInProgress):
                set_up(other, self.models, 1, "step")
                self._came_to(device, 1)

    def _track(self, device: VersionedDevice) -> None:
        with closing(Store(device.path)) as other:
            visit = other.track(_visit())
            other.setup()
            with other.database.bind_ctx([visit]):
                visit.insert(id=f"of {device.name}", text="another model's").on_conflict_ignore().execute()

    def _write(self, device: VersionedDevice) -> None:
        with closing(Store(device.path)) as other:
            set_up(other, self.models, -1, device.way)
            for model in self.models:
                for key in self.keys(model, device)[:1]:
                    self._write_own(device, model, key)

    def _write_own(self, device: WorldDevice, model: type[peewee.Model], key: Any) -> None:
        self._written += 1
        text = next(one for one in model._meta.sorted_fields if isinstance(one, peewee.TextField))
        key_field: Any = model._meta.primary_key
        made = model.update({text: f"beside, number {self._written}"}).where(key_field == key)
        self.write(device, lambda: made.execute(device.store.database))

    def _clear(self, device: VersionedDevice) -> None:
        self._refused(device, lambda store: store.clear(discard_pending=True))

    def _reset(self, device: VersionedDevice) -> None:
        self._refused(device, lambda store: store.reset(keep_records=True))

    def _repair(self, device: VersionedDevice) -> None:
        self._refused(device, lambda store: store.repair())

    def _sync(self, device: VersionedDevice) -> None:
        self._refused(device, lambda store: store.scope(device.remote).sync(self.options))

    def _refused(self, device: VersionedDevice, deed: Callable[[Store], object]) -> None:
        with closing(Store.open(device.path)) as other, suppress(SyncInProgress):
            deed(other)
            raise AssertionError("a session runs, and what may not be beside it was done")


def _visit() -> type[peewee.Model]:
    fields = {"id": peewee.CharField(primary_key=True), "text": peewee.TextField()}
    return type("Visit", (peewee.Model,), fields)


@define(eq=False)
class _Visitor:
    """Comes by at each point of a session, which it counts."""

    come: Callable[[int], None]
    points: int = 0

    def __call__(self) -> None:
        self.points += 1
        self.come(self.points)


@define(eq=False)
class _VisitedRemote:
    """A remote at which somebody comes by before and after each request."""

    remote: Remote
    visit: _Visitor

    @property
    def space(self) -> str:
        return self.remote.space

    def push(self, request: Push) -> PushAnswer:
        self.visit()
        answer = self.remote.push(request)
        self.visit()
        return answer

    def pull(self, request: Pull) -> Page:
        self.visit()
        page = self.remote.pull(request)
        self.visit()
        return page

    def interrupt(self) -> None:
        self.remote.interrupt()

    def close(self) -> None:
        self.remote.close()


@define(eq=False)
class _VisitedScope:
    """A scope in whose sessions somebody comes by after each event, until the session is over."""

    scope: Scope
    visit: _Visitor

    def sync(self, options: SyncOptions) -> SyncResult:
        def tell(progress: Progress) -> None:
            if progress.outcome is None:  # after the end the store is anybody's
                self.visit()

        with each_step(tell):
            return self.scope.sync(options)

    def cancel_sync(self, **how: Any) -> None:
        self.scope.cancel_sync(**how)
