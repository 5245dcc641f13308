"""Field inspection with asyncio: a sync beside other work, then its history, and what the doctor says."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from peewee import FloatField, TextField

from statesync import (
    Accepted,
    Complaint,
    Diagnosis,
    Difference,
    JournalEntry,
    Model,
    ObjectDiagnosis,
    Page,
    Problem,
    Pull,
    Push,
    PushAnswer,
    Remote,
    RemoteError,
    Repair,
    Scope,
    SessionInfo,
    Store,
    StoreNotReady,
    Survey,
    SurveyAnswer,
    SurveyRemote,
    SyncFailed,
    SyncOptions,
    SyncResult,
    SyncType,
    Trigger,
    UsageError,
)
from statesync.diagram import Marks, mermaid, taken
from statesync.hub import Hub, LocalRemote, prepare
from statesync.lifecycle import SESSION


class Proxy:
    """A remote of the program's own: it counts, and refuses what the program tells it to."""

    def __init__(self, remote: SurveyRemote) -> None:
        self._remote = remote
        self.accepted = 0
        self.refusal: Problem | None = None

    @property
    def space(self) -> str:
        return self._remote.space

    def push(self, request: Push) -> PushAnswer:
        if self.refusal is not None:
            raise RemoteError(self.refusal.message, status=403, problem=self.refusal)
        answer = self._remote.push(request)
        self.accepted += sum(isinstance(verdict, Accepted) for verdict in answer.results)
        return answer

    def pull(self, request: Pull) -> Page:
        return self._remote.pull(request)

    def survey(self, request: Survey) -> SurveyAnswer:
        return self._remote.survey(request)

    def interrupt(self) -> None:
        self._remote.interrupt()

    def close(self) -> None:
        self._remote.close()


def open_store(path: Path) -> tuple[Store, type[Model]]:
    store = Store(path)

    @store.track
    class Reading(Model):
        place = TextField()
        value = FloatField(null=True)

    store.setup()
    Reading.create(place="north", value=1.5)
    return store, Reading


async def sync(scope: Scope, options: SyncOptions) -> SyncResult:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    result = await scope.sync_async(options)
    ticking.cancel()
    print("the loop went on:", ticks > 0)
    return result


def tell_history(store: Store, result: SyncResult) -> None:
    session: SessionInfo = store.session(result.session)
    entries: list[JournalEntry] = store.journal(session.id)
    committed = [entry for entry in entries if entry.trigger is Trigger.COMMIT_BATCH]
    print("history:", session.phase, session.objects, len(committed), "committed")
    marks: Marks = taken(entries, session)
    print(mermaid(SESSION, marks).splitlines()[0])


def compare(scope: Scope, records: type[Model]) -> None:
    diagnosis: Diagnosis = scope.diagnose()
    print("equal:", diagnosis.is_consistent(), diagnosis.requests)
    with scope.untracked():  # what a program does here is local only, and no difference
        records.delete().execute()
    one: ObjectDiagnosis = scope.diagnose().objects[0]
    found = [difference.kind for difference in one.differences]
    print("deleted here alone:", one.local_only, Difference.MISSING_HERE in found)


def examine(store: Store, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        for (name,) in other.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            other.execute(f'DROP TRIGGER "{name}"')
    complaints: list[Complaint] = store.examine()
    repairs: list[Repair] = [each.repair for each in complaints if each.repair is not None]
    print("the doctor:", *dict.fromkeys(map(str, repairs)))
    print("left:", len(store.repair()))


def fail(scope: Scope, remote: Proxy, records: type[Model]) -> None:
    remote.refusal = Problem("closed", "the office is closed")
    records.create(place="south")
    try:
        scope.sync(SyncOptions(sync_type=SyncType.UPLOAD_ONLY))
    except RemoteError as error:
        print("failed:", error.reason, error.phase, error.problem and error.problem.code)
    except SyncFailed as error:
        print("failed otherwise:", error.reason)


def without_setup(path: Path, remote: Remote) -> None:
    try:
        Store(path).scope(remote).sync()
    except StoreNotReady as error:
        print(error.reason, isinstance(error, UsageError))


def main(folder: Path) -> None:
    prepare(f"sqlite:///{folder}/hub.db")
    hub = Hub(f"sqlite:///{folder}/hub.db", without_tokens=True)
    remote = Proxy(LocalRemote(hub, "field"))
    store, readings = open_store(folder / "device.db")
    with store:
        scope = store.scope(remote)
        result = asyncio.run(sync(scope, SyncOptions(filter={"Reading": {"place": ["north", "south"]}})))
        print("accepted:", remote.accepted, result.stats.uploaded)
        tell_history(store, result)
        compare(scope, readings)
        examine(store, folder / "device.db")
        fail(scope, remote, readings)
    without_setup(folder / "new.db", remote)
    hub.close()


if __name__ == "__main__":
    main(Path.cwd())
