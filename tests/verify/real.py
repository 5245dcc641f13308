"""The real thing, made to do what happens in the modelled world, one step at a time.

The store is a file with the real session store on it, the driver and its requests are the real ones, the
hub is a real hub. Only time and threads are taken out: a request lies still until it is said what becomes
of it, and a timer is over when it is said so.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, evolve, field
from peewee import SQL, TextField

from statesync import Store, SyncOptions, SyncType
from statesync.errors import RemoteError, StoreFull, SyncFailed
from statesync.hub import Hub, HubLimits, LocalRemote, Refused, Right, prepare
from statesync.hub.access.rights import Rights
from statesync.protocol.conversation import NO_TIME, Conversation
from statesync.protocol.messages import (
    Answered,
    Begin,
    CancelRequested,
    Continued,
    Event,
    RequestFailed,
)
from statesync.session.handle import Session
from statesync.session.requests import Outcome, Reply, Request, Requests
from statesync.session.timers import Timer
from statesync.store.cursors import rereads
from statesync.store.ending.recovery import recover
from statesync.values import Reason
from statesync.verify.system.happening import Happening, Kind
from statesync.verify.system.network import FAILURES
from statesync.verify.system.world import Options
from statesync.wire import FORBIDDEN, Pull, Push, PushAnswer

SPACE = "space"
READ_ONLY, NO_RIGHTS = Rights({"*": frozenset({Right.READ})}), Rights({})


class StillThread:
    """Stands in for the thread of ``Requests``: what is sent lies in ``unanswered``."""

    def __init__(self) -> None:
        self.unanswered: list[Request] = []

    def send(self, request: Request) -> None:
        self.unanswered.append(request)

    def end(self) -> None:
        """Nothing runs that could end."""

    def stop(self, patience: float) -> bool:
        return True


class FullJournal:
    """Stands before the journal of a session: the disk is full for some transactions."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.refuses = 0

    def write(self, *arguments: Any) -> int:
        last: int = self._journal.write(*arguments)
        if self.refuses:
            self.refuses -= 1
            raise StoreFull("the disk is full (on purpose)")
        return last

    @property
    def last(self) -> int:
        return int(self._journal.last)

    @last.setter
    def last(self, value: int) -> None:
        self._journal.last = value


@define(eq=False)
class RealSession:
    """A session that runs step by step."""

    session: Session
    thread: StillThread
    journal: FullJournal
    connected: ExitStack

    @property
    def driver(self) -> Any:
        return self.session._driver

    @property
    def requests(self) -> Any:
        return self.driver._requests

    @property
    def next(self) -> Event | None:
        """What the driver hears next."""
        return self.driver._next[0] if self.driver._next else None

    @property
    def waits_for_the_hub(self) -> bool:
        """Whether the open batch's request has not been answered."""
        awaited = self.requests._awaited
        return any(each is awaited for each in self.thread.unanswered)

    def conversation(self) -> Conversation:
        """Return what the session remembers, without what seconds and bytes decide: how large a page is."""
        now: Conversation = evolve(self.driver._now, page_size=0, page_fits=None)
        return now if now.batch is None else evolve(now, batch=evolve(now.batch, spent=NO_TIME, size=0))

    def hear(self, event: Event, fails: int) -> None:
        """Do what ``Driver.run`` does with an event."""
        self.journal.refuses = fails
        try:
            self.driver._handle(event)
        except SyncFailed as error:
            self.driver._end_with(error)
        self.journal.refuses = 0

    def time_of(self, timer: Timer) -> Event:
        """Let a timer that runs be over."""
        del self.driver._timers._ends[timer]
        event: Event = timer.value
        return event

    def arrive(self) -> None:
        """Let the loop find the reply in its mailbox."""
        reply = self.session._mailbox.take(0.0)
        assert isinstance(reply, Reply)
        assert self.requests.accept(reply)
        self.driver._next.appendleft(self.driver._read(reply))


@define(eq=False)
class RealDevice:
    """A device: its store on a file, and the session that runs on it."""

    name: str
    path: Path
    store: Store
    check: str = ""
    running: RealSession | None = None
    programs: int = 0

    @property
    def parts(self) -> Any:
        return self.store._parts

    def begin(
        self, hub: Hub, options: Options, wanted: Mapping[str, Sequence[str]] | None = None
    ) -> RealSession:
        """Begin a session as ``start_sync`` does, but for its thread; ``wanted`` filters what is read."""
        if options.uploads and options.downloads:
            kind = SyncType.FULL
        else:
            kind = SyncType.UPLOAD_ONLY if options.uploads else SyncType.DOWNLOAD_ONLY
        chosen = SyncOptions(
            sync_type=kind,
            upload_batch_size=options.batch_size,
            download_batch_size=1,
            max_attempts=2,
            conflict_policy=options.policy,
            filter={} if wanted is None else {"Note": wanted},
        )
        self.parts.lock.acquire()
        session = Session(self.parts, LocalRemote(hub, SPACE), ("Note",), chosen, None, None, None)
        self.parts.database.leave()
        connected = ExitStack()
        connected.enter_context(session._store.connected())
        session._store.open()
        thread: Any = StillThread()
        requests = Requests(session._driver.remote, session._mailbox.post, session._store.clear_up_request)
        requests._thread = thread
        session._driver._requests = requests
        journal: Any = FullJournal(session._store._journal)
        session._store._journal = journal
        self.running = RealSession(session, thread, journal, connected)
        self.running.driver._next.append(session._store.begin())
        return self.running

    def release(self) -> None:
        """Release what a session held, when it has ended or its program has."""
        if self.running is not None:
            self.running.connected.close()
            self.running = None
            self.parts.lock.release()
            recover(self.parts.database)
            self.parts.database.leave()

    def be_set_up(self, how: Kind) -> None:
        """Let another program set the store up.

        It has another column, one more model, lost triggers, or a table that takes every record. A session
        that has begun is recorded first: one that is not follows what was set up, and has begun after it.
        """
        if self.running is not None and not self.running.session._store.is_recorded:
            self.running.session._store.create()
            self.running.session._store.begin()
        if how is Kind.MIGRATE:
            self.take_rules_away()
        if how is Kind.TRACK_ANEW:
            with closing(sqlite3.connect(self.path)) as plain, plain:
                triggers = plain.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
                for (name,) in triggers:
                    plain.execute(f'DROP TRIGGER "{name}"')
        self.programs += 1
        other = Store(self.path)
        columns = {"text": TextField()} | ({"more": TextField(null=True)} if how is Kind.SET_UP else {})
        type("Note", (other.Model,), columns)
        if how is Kind.TRACK:
            type(f"Other{self.programs}", (other.Model,), {"text": TextField()})
        other.setup()
        other.close()

    def take_rules_away(self) -> None:
        """Take check and unique index from the table, in the way that SQLite documents."""
        with closing(sqlite3.connect(self.path)) as plain, plain:
            plain.execute("DROP INDEX IF EXISTS note_text")
            plain.execute("PRAGMA writable_schema = ON")
            plain.execute(
                "UPDATE sqlite_master SET sql = replace(sql, ?, '') WHERE name = 'note'", (self.check,)
            )
            plain.execute("PRAGMA writable_schema = RESET")

    def write(self, key: str, text: str | None, *, tracked: bool = True) -> None:
        """Write or delete a record as another program would, or as a page would."""
        with closing(sqlite3.connect(self.path)) as plain, plain:
            plain.execute("UPDATE statesync_tracking SET is_on = ?", (tracked,))
            if text is None:
                plain.execute("DELETE FROM note WHERE id = ?", (key,))
            elif plain.execute("UPDATE note SET text = ? WHERE id = ?", (text, key)).rowcount == 0:
                plain.execute("INSERT INTO note (id, text) VALUES (?, ?)", (key, text))
            plain.execute("UPDATE statesync_tracking SET is_on = 1")

    def read_again(self, low: str, high: str) -> None:
        """Let the records behind one key, up to another, be read again, as a repair does."""
        with closing(sqlite3.connect(self.path)) as plain, plain:
            rereads.read_range(plain, "Note", low, high)


@define(eq=False)
class RealWorld:
    """Two devices and a hub, on files in ``folder``.

    With ``refused``, the table of device b does not take that text, and takes no text twice.
    """

    folder: Path
    most: int
    refused: str | None = None
    hub: Hub = field(init=False)
    devices: tuple[RealDevice, RealDevice] = field(init=False)
    late: Request | None = None
    knows_scans: bool = True
    device: RealDevice = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir()
        prepare(self.url)
        self.hub = self.open_hub()
        self.devices = self._device("a", None), self._device("b", self.refused)
        self.device = self.devices[0]

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'hub.db'}"

    @property
    def paths(self) -> list[Path]:
        """The files: the hub's, and those of the devices."""
        return [self.folder / "hub.db", *(device.path for device in self.devices)]

    def open_hub(self) -> Hub:
        limits = HubLimits(record=self.most, page_bytes=1, epoch_pause=0)
        return Hub(self.url, without_tokens=True, limits=limits)

    def _device(self, name: str, refused: str | None) -> RealDevice:
        path = self.folder / f"{name}.db"
        store = Store(path)
        database: Any = store.database
        database.pragma("synchronous", "off", permanent=True)

        check = "" if refused is None else f"CHECK (text <> '{refused}')"

        class Note(store.Model):  # type: ignore[name-defined, misc]
            text = TextField(unique=bool(check), constraints=[SQL(check)] if check else [])

        store.setup()
        return RealDevice(name, path, store, check)

    def close(self) -> None:
        """Close everything and remove the files."""
        for device in self.devices:
            device.release()
            device.store.close()
        self.hub.close()
        shutil.rmtree(self.folder)

    # -- what happens --------------------------------------------------------------------------------

    def begin(self, index: int, options: Options, wanted: Mapping[str, Sequence[str]] | None = None) -> None:
        """Begin a session on one of the devices."""
        self.device = self.devices[index]
        self.device.begin(self.hub, options, wanted)

    def happen(self, what: Happening) -> None:
        """Do what happens in the modelled world."""
        match what.kind:
            case Kind.RESTORE:
                self.restore()
            case Kind.PURGE:
                self.hub.purge(SPACE, 1 << 62)
            case Kind.SET_UP | Kind.TRACK | Kind.TRACK_ANEW | Kind.MIGRATE:
                self.device.be_set_up(what.kind)
            case Kind.RETRY:
                self.device.store.retry()
            case Kind.LATE:
                assert self.late is not None
                self.ask(self.late)
                self.late = None
            case _:
                session = self.device.running
                assert session is not None
                self.happen_to(session, what)
                if session.driver._is_over:
                    self.stop(session)
                    self.device.release()

    def happen_to(self, session: RealSession, what: Happening) -> None:
        match what.kind:
            case Kind.GO_ON:
                session.hear(session.driver._next.popleft(), what.fails)
            case Kind.BACKOFF_OVER:
                session.hear(session.time_of(Timer.BACKOFF), what.fails)
            case Kind.GRACE_OVER:
                session.hear(session.time_of(Timer.GRACE), what.fails)
            case Kind.CANCEL:
                session.hear(CancelRequested(Reason.USER, what.grace), 0)
            case Kind.HURRY:
                session.hear(CancelRequested(Reason.SHUTDOWN, what.grace), 0)
            case Kind.TIME_OUT:
                session.hear(CancelRequested(Reason.DEADLINE), 0)
            case Kind.DEFECT:
                self.happen_out_of_turn(session)
            case Kind.CRASH:
                self.stop(session)
                self.device.release()
            case Kind.ARRIVE:
                session.arrive()
            case Kind.COPY:
                self.copy_uploads()
            case _:
                self.befall(session, what)
        if session.driver._is_over or what.kind is Kind.GRACE_OVER:
            self.stop(session)

    def happen_out_of_turn(self, session: RealSession) -> None:
        batch = session.driver._now.batch
        session.hear(Continued() if batch is not None and batch.request != "not_sent" else Begin(), 0)

    def befall(self, session: RealSession, what: Happening) -> None:
        """Let something become of the request that is under way, or of the one that was asked ahead."""
        requests = session.requests
        request = requests._ahead if what.ahead else requests._awaited
        assert session.thread.unanswered[0] is request
        session.thread.unanswered.pop(0)
        outcome = self.outcome_of(request, what.kind)
        if what.kind is Kind.LOSE_ANSWER:
            self.ask(request)
        reply = Reply(request, outcome, 0.0)
        if what.ahead:
            assert not requests.accept(reply)
        else:
            session.session._mailbox.post(reply)

    def outcome_of(self, request: Request, kind: Kind) -> Outcome:
        if kind is Kind.FORBID and isinstance(request, Push):
            return self.forbid(request)
        return FAILURES[kind] if kind in FAILURES else self.ask(request)

    def ask(self, request: Request) -> Outcome:
        """Let a request reach the hub."""
        remote = LocalRemote(self.hub, SPACE)
        if isinstance(request, Pull) and not self.knows_scans:
            request = as_an_older_hub_reads_it(request)
        try:
            return remote.push(request) if isinstance(request, Push) else remote.pull(request)
        except RemoteError as error:
            return error

    def forbid(self, request: Push) -> Outcome:
        """Let an upload reach the hub when its sender may not write, and no late one any more.

        Who does not download may not read, either.
        """
        self.late, session = None, self.device.running
        assert session is not None
        rights = READ_ONLY if session.driver._now.downloads else NO_RIGHTS
        try:
            answer = self.hub.push(SPACE, msgspec.json.encode(request), rights)
        except Refused as refused:
            if refused.problem.code != FORBIDDEN:
                raise
            return FAILURES[Kind.FORBID]
        return msgspec.json.decode(answer, type=PushAnswer)

    def stop(self, session: RealSession) -> None:
        """What is under way when nobody waits for it may still reach the hub."""
        if session.thread.unanswered:
            self.late = session.thread.unanswered.pop(0)
            session.thread.unanswered.clear()

    def copy_uploads(self) -> None:
        """Let a copy of the device's file upload an empty batch."""
        with closing(sqlite3.connect(self.device.path)) as plain:
            row = plain.execute("SELECT client, number, hub, epoch FROM statesync_space").fetchone()
        client, number, hub, epoch = row
        body = {"client": client, "number": number + 1, "batch": "copy", "hub": hub, "epoch": epoch}
        with suppress(Refused):  # it is a copy of a device that has uploaded already
            self.hub.push(SPACE, json.dumps(body | {"changes": []}).encode())

    def write_there(self, index: int, batch: str, base: int, key: str, text: str | None) -> None:
        """Let a device that runs no session write on the hub, and know it."""
        device = self.devices[index]
        with closing(sqlite3.connect(device.path)) as plain:
            row = plain.execute("SELECT client, number, hub, epoch FROM statesync_space").fetchone()
        client, number, hub, epoch = row
        change = {"object": "Note", "key": key, "base": base, "op": "delete" if text is None else "upsert"}
        if text is not None:
            change["data"] = {"text": text}
        body = {"client": client, "number": number + 1, "batch": batch, "hub": hub, "epoch": epoch}
        self.hub.push(SPACE, json.dumps(body | {"changes": [change]}).encode())
        device.write(key, text, tracked=False)
        with (
            closing(sqlite3.connect(self.folder / "hub.db")) as there,
            closing(sqlite3.connect(device.path)) as plain,
            plain,
        ):
            (head,) = there.execute("SELECT head FROM space").fetchone()
            plain.execute("UPDATE statesync_space SET number = ?, head = ?", (number + 1, head))

    def back_up(self) -> None:
        """Copy the hub's database."""
        self._copy("hub.db", "backup.db")

    def restore(self) -> None:
        """Put the copy in the place of the hub's database."""
        self._copy("backup.db", "hub.db")

    def _copy(self, source: str, target: str) -> None:
        with (
            closing(sqlite3.connect(self.folder / source)) as old,
            closing(sqlite3.connect(self.folder / target)) as new,
        ):
            old.backup(new)


def as_an_older_hub_reads_it(request: Pull) -> Pull:
    """Return what is left of a request at a hub that passes over scans."""
    feeds = {name: msgspec.structs.replace(feed, scan=None) for name, feed in request.objects.items()}
    return msgspec.structs.replace(request, objects=feeds)


def without_time(event: Event | None) -> Event | None:
    """Return an event without the seconds and the bytes that it tells of, which the model does not have."""
    if isinstance(event, Answered):
        return evolve(event, spent=NO_TIME, size=0)
    return evolve(event, seconds=0.0) if isinstance(event, RequestFailed) else event
