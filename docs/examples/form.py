"""A form in the terminal: inspections of bridges, on a device that is often without a network.

    python form.py inspections.db http://hub.example:8000 north

Everything works offline. F5 syncs, Escape cancels that, and what others have changed meanwhile in the same
inspection is shown side by side until somebody decides.
"""

from __future__ import annotations

import sys
from typing import ClassVar

from peewee import TextField
from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Button, DataTable, Footer, Header, Input, Label, ProgressBar, Static

from statesync import (
    ConflictEntry,
    HttpRemote,
    Model,
    Progress,
    Store,
    SyncCancelled,
    SyncError,
    SyncOptions,
)

OPTIONS = SyncOptions(conflict_policy="later", cancel_grace=2.0)


class Inspection(Model):
    """What somebody saw at a bridge."""

    bridge = TextField()
    finding = TextField()


class Moved(Message):
    """A session is further than it was. Sent by the session's thread."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress


class Form(App[None]):
    """The inspections, the form for one of them, the sync, and what waits for a decision."""

    TITLE = "Inspections"
    CSS = """
    #work { height: 1fr; }
    #table { width: 2fr; }
    #form { width: 1fr; min-width: 38; padding: 0 1; border-left: solid $primary; }
    #buttons, #sides { height: auto; }
    #buttons Button, #choice Button { margin-right: 1; min-width: 10; }
    #sync { height: auto; padding: 0 1; border-top: solid $primary; }
    #sync ProgressBar { width: 42; margin: 1 1 0 1; }
    #said { width: 1fr; margin: 1; }
    #conflict { height: auto; padding: 0 1; border-top: solid $warning; display: none; }
    #sides Static { width: 1fr; }
    #choice { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "sync", "Sync", priority=True),
        Binding("escape", "cancel_sync", "Cancel the sync"),
        Binding("ctrl+n", "new", "New inspection", priority=True),
    ]

    def __init__(self, store: Store, remote: HttpRemote) -> None:
        super().__init__()
        self.store = store
        self.sync_scope = store.scope(remote, Inspection)
        self.edited: str | None = None
        self.contested: ConflictEntry | None = None

    def compose(self) -> ComposeResult:
        """Lay the form out."""
        yield Header()
        with Horizontal(id="work"):
            yield DataTable(id="table", cursor_type="row", zebra_stripes=True)
            with Vertical(id="form"):
                yield Label("Bridge")
                yield Input(id="bridge")
                yield Label("Finding")
                yield Input(id="finding")
                with Horizontal(id="buttons"):
                    yield Button("Save", id="save", variant="primary")
                    yield Button("New", id="new")
                    yield Button("Delete", id="delete", variant="error")
        with Vertical(id="conflict"):
            yield Label("Somebody else has changed this inspection too:")
            with Horizontal(id="sides"):
                yield Static(id="mine", markup=False)
                yield Static(id="theirs", markup=False)
            with Horizontal(id="choice"):
                yield Button("Keep mine", id="keep-mine", variant="warning")
                yield Button("Take theirs", id="take-theirs")
        with Horizontal(id="sync"):
            yield Button("Sync", id="start", variant="success")
            yield Button("Cancel", id="cancel", disabled=True)
            yield ProgressBar(id="bar", total=1, show_eta=False)
            yield Static(id="said", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Show what is there."""
        self.query_one(DataTable).add_columns("Bridge", "Finding", "")
        self.show_records()
        self.say("never synced since the start")

    # -- records ---------------------------------------------------------------------------------------

    def show_records(self) -> None:
        """Show all records, which of them have not been sent, and the first conflict that waits."""
        waiting = {change.key for change in self.store.pending()}
        table = self.query_one(DataTable)
        row = table.cursor_row
        table.clear()
        for record in Inspection.select().order_by(Inspection.bridge, Inspection.id):
            mark = "not sent" if record.id in waiting else ""
            # What others have written is text, and never markup.
            table.add_row(Text(record.bridge), Text(record.finding), mark, key=record.id)
        table.move_cursor(row=row)
        self.show_conflict()

    def show_conflict(self) -> None:
        """Show both sides of the first conflict that waits, if any does."""
        waiting = self.store.conflicts(waiting=True)
        self.contested = waiting[0] if waiting else None
        self.query_one("#conflict").display = bool(waiting)
        if waiting:
            for side, whose, record in (
                ("#mine", "mine", waiting[0].local),
                ("#theirs", "theirs", waiting[0].remote),
            ):
                told = "deleted" if record is None else f"{record['bridge']}\n{record['finding']}"
                self.query_one(side, Static).update(f"{whose}\n{told}")

    @on(DataTable.RowSelected)
    def edit(self, chosen: DataTable.RowSelected) -> None:
        """Put a record into the form."""
        record = Inspection.get_or_none(Inspection.id == chosen.row_key.value)
        if record is None:  # it was deleted meanwhile
            self.show_records()
            return
        self.edited = record.id
        self.query_one("#bridge", Input).value = record.bridge
        self.query_one("#finding", Input).value = record.finding

    @on(Button.Pressed, "#new")
    def action_new(self) -> None:
        """Empty the form."""
        self.edited = None
        for field in ("#bridge", "#finding"):
            self.query_one(field, Input).value = ""
        self.query_one("#bridge").focus()

    @on(Button.Pressed, "#save")
    @on(Input.Submitted)
    def save(self) -> None:
        """Save the form as a record; it goes up with the next sync."""
        bridge, finding = (self.query_one(field, Input).value.strip() for field in ("#bridge", "#finding"))
        if not bridge:
            self.notify("Which bridge?", severity="warning")
            return
        changed = Inspection.update(bridge=bridge, finding=finding).where(Inspection.id == self.edited)
        if self.edited is None or not changed.execute():
            Inspection.create(bridge=bridge, finding=finding)
        self.action_new()
        self.show_records()

    @on(Button.Pressed, "#delete")
    def delete(self) -> None:
        """Delete the record that is in the form."""
        if self.edited is not None:
            Inspection.delete().where(Inspection.id == self.edited).execute()
        self.action_new()
        self.show_records()

    # -- sync ------------------------------------------------------------------------------------------

    @on(Button.Pressed, "#start")
    def action_sync(self) -> None:
        """Sync, unless that is under way."""
        if not self.query_one("#start").disabled:
            self.sync()

    @work
    async def sync(self) -> None:
        """Run one session beside the form, and say what came of it."""
        self.set_syncing(True)
        self.say("syncing")
        try:
            result = await self.sync_scope.sync_async(
                OPTIONS, on_progress=lambda step: self.post_message(Moved(step))
            )
            self.query_one(ProgressBar).update(total=1, progress=1)
            how = "in sync" if not self.store.has_pending() else "synced, and something waits here"
            self.say(f"{how}: {result.stats.uploaded} sent, {result.stats.downloaded} received")
        except SyncCancelled:
            self.say("cancelled: what was done is kept, the rest waits")
        except SyncError as error:
            self.say(f"not synced: {error}")
        finally:
            self.set_syncing(False)
            self.show_records()

    def on_moved(self, moved: Moved) -> None:
        """Move the bar."""
        progress = moved.progress
        if progress.batch is not None:
            total = max(progress.total or progress.records, 1)
            self.query_one(ProgressBar).update(total=total, progress=progress.records)
            if not self.query_one("#cancel").disabled:  # else it says that it is cancelling
                self.say(f"{progress.part}: {progress.records} records")

    @on(Button.Pressed, "#cancel")
    def action_cancel_sync(self) -> None:
        """Cancel the sync, if there is one: the batch in flight is brought to its end."""
        if not self.query_one("#cancel").disabled:
            self.query_one("#cancel").disabled = True
            self.say("cancelling")
            self.sync_scope.cancel_sync(on_failure=lambda _: None)

    def set_syncing(self, is_syncing: bool) -> None:
        """Offer what can be done now: to begin a sync, or to cancel it."""
        self.query_one("#start", Button).disabled = is_syncing
        self.query_one("#cancel", Button).disabled = not is_syncing

    def say(self, words: str) -> None:
        """Say how far the sync is."""
        self.query_one("#said", Static).update(words)

    # -- conflicts -------------------------------------------------------------------------------------

    @on(Button.Pressed, "#keep-mine")
    def keep_mine(self) -> None:
        """Decide for this device's side: it goes up with the next sync."""
        self.decide("local")

    @on(Button.Pressed, "#take-theirs")
    def take_theirs(self) -> None:
        """Decide for the hub's side."""
        self.decide("remote")

    def decide(self, choice: str) -> None:
        """Settle the conflict that is shown."""
        if self.contested is not None:
            self.store.resolve(self.contested, choice)
        self.show_records()


def main() -> None:
    """Run the form with the arguments of the command line."""
    database, address, space = sys.argv[1:]
    with Store(database) as store:
        store.track(Inspection)
        store.setup()
        Form(store, HttpRemote(address, space=space)).run()


if __name__ == "__main__":
    main()
