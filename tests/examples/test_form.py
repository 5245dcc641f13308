"""The form of the examples, driven as a user would: offline, sync, cancel, conflicts and their resolution."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from peewee import TextField
from rig.gate import Gate, Hold, gate_before
from rig.search import some
from textual.pilot import Pilot
from textual.widgets import Button, DataTable, Input, ProgressBar, Static

from statesync import HttpRemote, Model, Store, SyncOptions
from statesync.hub import Hub, prepare, serving

ROOT = Path(__file__).parents[2]
Drive = Callable[[Pilot[None]], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("form", ROOT / "docs" / "examples" / "form.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["form"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    with closing(Hub(url, without_tokens=True)) as hub, serving(hub) as address, gate_before(address) as gate:
        yield gate


@pytest.fixture
def drive(program: ModuleType, gate: Gate, tmp_path: Path) -> Iterator[Callable[[Drive], None]]:
    """Run the form, and do something in it."""
    with closing(Store(tmp_path / "form.db")) as store:
        store.track(program.Inspection)
        store.setup()
        form = program.Form(store, HttpRemote(gate.url, space="north"))

        def driven(deed: Drive) -> None:
            async def run() -> None:
                async with form.run_test(size=(110, 34)) as pilot:
                    await pilot.pause()
                    await deed(pilot)

            asyncio.run(run())

        yield driven


def elsewhere(gate: Gate, folder: Path, deed: Callable[[Any], object]) -> None:
    """Let somebody else sync, change something, and sync again."""

    class Inspection(Model):
        bridge = TextField()
        finding = TextField()

    with closing(Store(folder / "elsewhere.db")) as store:
        store.track(Inspection)
        store.setup()
        scope = store.scope(HttpRemote(gate.url, space="north"))
        scope.sync()
        deed(Inspection)
        scope.sync(SyncOptions(conflict_policy="client_wins"))


async def write(pilot: Pilot[None], bridge: str, finding: str) -> None:
    pilot.app.query_one("#bridge", Input).value = bridge
    pilot.app.query_one("#finding", Input).value = finding
    await pilot.click("#save")
    await pilot.pause()


def said(pilot: Pilot[None]) -> str:
    return str(pilot.app.query_one("#said", Static).content)


def rows(pilot: Pilot[None]) -> list[tuple[str, ...]]:
    table = pilot.app.query_one(DataTable)
    return [tuple(str(cell) for cell in table.get_row_at(at)) for at in range(table.row_count)]


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    for _ in range(2000):
        if holds():
            return
        await pilot.pause(0.01)
    raise AssertionError(f"it never came so far: {said(pilot)!r}, {rows(pilot)}")


async def sync(pilot: Pilot[None], outcome: str) -> None:
    await pilot.press("f5")
    await until(pilot, lambda: said(pilot).startswith(outcome))


def test_what_is_written_offline_waits_and_goes_up_with_the_sync(drive: Callable[[Drive], None]) -> None:
    async def deed(pilot: Pilot[None]) -> None:
        await write(pilot, "Old bridge", "[red]rust[/red]")
        assert rows(pilot) == [("Old bridge", "[red]rust[/red]", "not sent")]
        await sync(pilot, "in sync: 1 sent, 0 received")
        assert rows(pilot) == [("Old bridge", "[red]rust[/red]", "")]
        assert pilot.app.query_one(ProgressBar).progress == 1
        await write(pilot, "", "no name")
        assert len(rows(pilot)) == 1

    drive(deed)


def test_a_sync_is_cancelled_and_can_be_begun_again(drive: Callable[[Drive], None], gate: Gate) -> None:
    async def deed(pilot: Pilot[None]) -> None:
        await write(pilot, "Old bridge", "rust")
        held: Hold = gate.hold()
        await pilot.press("f5")
        await until(pilot, held.arrived.is_set)
        await pilot.click("#cancel")
        await until(pilot, lambda: said(pilot) == "cancelling")
        assert pilot.app.query_one("#start", Button).disabled
        held.release()
        await until(pilot, lambda: said(pilot).startswith("cancelled: "))
        assert rows(pilot) == [("Old bridge", "rust", "")]  # its answer came: what was done is kept
        await sync(pilot, "in sync: 0 sent")

    drive(deed)


@pytest.mark.parametrize(("button", "wins"), some([("#keep-mine", "mine"), ("#take-theirs", "theirs")], 2))
def test_a_conflict_waits_until_somebody_decides(
    drive: Callable[[Drive], None], gate: Gate, tmp_path: Path, button: str, wins: str
) -> None:
    async def deed(pilot: Pilot[None]) -> None:
        await write(pilot, "Old bridge", "rust")
        await sync(pilot, "in sync")
        await asyncio.to_thread(
            elsewhere, gate, tmp_path, lambda model: model.update(finding="theirs").execute()
        )
        pilot.app.query_one(DataTable).focus()
        await pilot.press("enter")
        assert pilot.app.query_one("#bridge", Input).value == "Old bridge"
        await write(pilot, "Old bridge", "mine")
        assert rows(pilot) == [("Old bridge", "mine", "not sent")]
        await sync(pilot, "synced, and something waits here")
        assert pilot.app.query_one("#conflict").display
        assert "theirs" in str(pilot.app.query_one("#theirs", Static).content)
        await pilot.click(button)
        await until(pilot, lambda: not pilot.app.query_one("#conflict").display)
        assert rows(pilot)[0][:2] == ("Old bridge", wins)
        await sync(pilot, "in sync")
        assert rows(pilot) == [("Old bridge", wins, "")]

    drive(deed)


def test_a_hub_that_is_away_is_said_and_nothing_is_lost(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "OPTIONS", SyncOptions(max_attempts=1))

    async def run(store: Store) -> None:
        form = program.Form(store, HttpRemote("http://127.0.0.1:9", space="north"))
        async with form.run_test(size=(110, 34)) as pilot:
            await write(pilot, "Old bridge", "rust")
            await sync(pilot, "not synced: ")
            assert rows(pilot) == [("Old bridge", "rust", "not sent")]
            assert not pilot.app.query_one("#start", Button).disabled

    with closing(Store(tmp_path / "form.db")) as store:
        store.track(program.Inspection)
        store.setup()
        asyncio.run(run(store))
