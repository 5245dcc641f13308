"""Bad input: each a clear error of its own class, and nothing half-applied."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from peewee import Model, TextField
from rig.device import Device, airport_model, device_at, store_at
from rig.gate import PATIENCE, Gate, answer, lose_request, refuse

from statesync import (
    AllRejected,
    BadAnswer,
    BadOptions,
    ConnectionLost,
    HttpRemote,
    Phase,
    Progress,
    RemoteError,
    Store,
    StoreError,
    SyncError,
    SyncOptions,
    Unauthorized,
    UnknownObject,
    Unreachable,
    UnsupportedModel,
    UsageError,
)
from statesync.errors import (
    StoreCorrupt,
    StoreFull,
    StoreLocked,
    StoreNotReady,
    StoreReadOnly,
    StoreTooNew,
)
from statesync.hub import Hub, create_token, prepare, serving
from statesync.hub.access.rights import Right


@pytest.fixture
def loaded(here: Device, there: Device) -> Device:
    """A device with one pending change, before five records on the hub."""
    there.add(5)
    there.sync()
    here.add(1, first=90)
    return here


def fails(device: Device, kind: type[SyncError], **options: Any) -> SyncError:
    """Run a session that must fail with ``kind``; nothing may be applied, and it must have ended."""
    before = device.rows(), device.operations()
    with pytest.raises(kind) as failed:
        device.sync(**options)
    assert type(failed.value) is kind
    assert (device.rows(), device.operations()) == before
    assert device.store.sessions()[-1].phase is Phase.FAILED
    assert failed.value.phase is Phase.FAILED
    return failed.value


def recovers(device: Device) -> None:
    """The next session does everything."""
    device.sync()
    assert len(device.rows()) == 6
    assert device.operations() == {}


# -- objects, keys and records -------------------------------------------------------------------------


def test_an_object_that_is_not_tracked_is_unknown(here: Device) -> None:
    class Stranger(Model):
        name = TextField(primary_key=True)

    with pytest.raises(UnknownObject, match="Stranger is not tracked"):
        here.store.scope(here.remote, Stranger)


def test_an_object_that_the_hub_does_not_take_is_rejected_record_by_record(
    here: Device, live_hub: tuple[Hub, str]
) -> None:
    choosy = Hub(live_hub[0].url, without_tokens=True, objects=["Country"])
    with serving(choosy) as url, closing(HttpRemote(url, here.remote.space)) as remote:
        here.add(2)
        with pytest.raises(AllRejected) as failed:
            here.store.scope(remote).sync(SyncOptions(sync_type="upload_only"))
        assert {error.code for error in failed.value.result.errors.upload} == {"unknown_object"}
    choosy.close()
    assert len(here.operations()) == 2


def test_a_key_over_255_characters_is_listed_and_hurts_no_other_record(here: Device, there: Device) -> None:
    here.add(1)
    here.airport.create(id="é" * 255, name="just right")
    here.airport.create(id="é" * 256, name="too long")
    (error,) = here.sync().errors.upload
    assert (error.code, error.key) == ("key_too_long", "é" * 256)
    there.sync()
    assert there.keys() == ["k00000", "é" * 255]


def test_a_record_over_the_limit_is_listed_and_hurts_no_other_record(here: Device, there: Device) -> None:
    here.add(1)
    here.airport.create(id="hub's limit", name="x" * (2 << 20))
    here.airport.create(id="own limit", name="x" * (9 << 20))
    errors = {error.key: error.code for error in here.sync().errors.upload}
    assert errors.keys() == {"hub's limit", "own limit"}
    there.sync()
    assert there.keys() == ["k00000"]


@pytest.mark.parametrize("name", ['a "b"', "back\\slash", "line\nbreak"])
def test_a_column_whose_name_cannot_travel_is_refused(tmp_path: Path, name: str) -> None:
    class Odd(Model):
        key = TextField(primary_key=True)
        value = TextField(column_name=name)

    with pytest.raises(UnsupportedModel, match=r"Odd\.value .* column_name"):
        Store(tmp_path / "odd.db").track(Odd)


# -- answers that are none -----------------------------------------------------------------------------

PAGE = {"hub": "h", "epoch": "e", "head": 1, "changes": [], "cursors": {"Airport": 1}, "more": False}
RECORD = {"object": "Airport", "key": "k", "version": 1, "data": {"name": "n", "is_open": True}}

NO_ANSWERS = {
    "malformed JSON": b'{"hub": ',
    "nothing": b"",
    "HTML": b"<!doctype html><title>Welcome</title>",
    "another JSON": b'{"ok": true}',
    "a list": b"[]",
    "not UTF-8": b'{"hub": "\xff"}',
    "deeply nested": b"[" * 100_000,
}


@pytest.mark.crossed
@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
@pytest.mark.parametrize("verb", ["push", "pull"])
def test_an_answer_that_is_no_hubs_answer_is_a_bad_answer(
    loaded: Device, gate: Gate, verb: str, body: bytes
) -> None:
    gate.plan(answer(200, body, Content_Type="text/html"))
    error = fails(loaded, BadAnswer, sync_type="upload_only" if verb == "push" else "download_only")
    assert "is it a statesync hub?" in str(error)
    recovers(loaded)


def page(**changed: Any) -> bytes:
    return json.dumps(PAGE | changed).encode()


BAD_PAGES = {
    "a record that is true": page(changes=[RECORD | {"data": True}]),
    "a record that is a list": page(changes=[RECORD | {"data": [1]}]),
    "a version that no database holds": page(changes=[RECORD | {"version": 2**70}]),
    "a cursor that no database holds": page(cursors={"Airport": 2**70}),
    "a negative cursor": page(cursors={"Airport": -1}),
    "a record of another object": page(changes=[RECORD | {"object": "Country"}]),
    "a record without data": page(changes=[{"object": "Airport", "key": "k", "version": 1}]),
    "a record without a key": page(changes=[RECORD | {"key": ""}]),
    "a key that is too long": page(changes=[RECORD | {"key": "k" * 256}]),
    "versions out of order": page(changes=[RECORD | {"version": 2}, RECORD | {"key": "l"}]),
    "a cursor for another object": page(cursors={"Country": 1}),
    "a page that leads nowhere": page(cursors={"Airport": 0}, more=True),
    "more records than asked for": page(
        changes=[RECORD | {"key": f"k{number}", "version": number} for number in range(1, 5)],
        cursors={"Airport": 9},
    ),
}


@pytest.mark.parametrize("body", BAD_PAGES.values(), ids=BAD_PAGES)
def test_a_page_that_no_hub_could_mean_is_a_bad_answer_and_none_of_it_is_stored(
    loaded: Device, gate: Gate, body: bytes
) -> None:
    gate.plan(answer(200, body))
    fails(loaded, BadAnswer, sync_type="download_only", download_batch_size=3)
    recovers(loaded)


@pytest.mark.parametrize("verdicts", [[], [{"status": "accepted", "version": 1}] * 2, [{"status": "maybe"}]])
def test_verdicts_that_do_not_match_the_batch_are_a_bad_answer(
    loaded: Device, gate: Gate, verdicts: list[Any]
) -> None:
    body = json.dumps({"hub": "h", "epoch": "e", "head": 1, "results": verdicts}).encode()
    gate.plan(answer(200, body))
    fails(loaded, BadAnswer)
    recovers(loaded)


@pytest.mark.usefixtures("no_backoff")
def test_an_answer_that_is_larger_than_allowed_is_refused(
    new_device: Callable[..., Device], gate: Gate
) -> None:
    device = new_device("small", gate.url, max_answer=1000)
    gate.plan(answer(200, b" " * 5000))
    assert "max_answer" in str(fails(device, BadAnswer))


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("status", [301, 404, 502])
def test_html_in_place_of_an_error_is_a_bad_answer(loaded: Device, gate: Gate, status: int) -> None:
    gate.plan(*[answer(status, b"<html>proxy</html>")] * 5)
    error = fails(loaded, BadAnswer)
    assert isinstance(error, RemoteError)
    assert error.status == status
    gate.forget_plans()
    recovers(loaded)


# -- the hub refuses, or is not there ----------------------------------------------------------------------


def test_a_wrong_token_is_unauthorized(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    prepare(url)
    hub = Hub(url)
    good = create_token(hub.database, "acme", {"*": frozenset({Right.READ, Right.WRITE})})
    with serving(hub) as address:
        for token in (None, "", "nonsense", good + "x"):
            with device_at(tmp_path / "wrong.db", address, "acme", token=token) as device:
                device.add(1) if not device.rows() else None
                error = fails(device, Unauthorized)
                assert isinstance(error, Unauthorized)
                assert error.status == 401
        with device_at(tmp_path / "wrong.db", address, "another", token=good) as device:
            fails(device, Unauthorized)
        with device_at(tmp_path / "wrong.db", address, "acme", token=good) as device:
            assert device.sync().stats.uploaded == 1
    hub.close()


@pytest.mark.parametrize(
    ("status", "code"), [(400, "malformed"), (404, "not_found"), (422, "too_many_spaces")]
)
def test_a_refusal_says_what_the_hub_said(loaded: Device, gate: Gate, status: int, code: str) -> None:
    gate.plan(refuse(status, code))
    error = fails(loaded, RemoteError)
    assert isinstance(error, RemoteError)
    assert error.status == status
    assert error.problem is not None
    assert error.problem.code == code
    assert code in str(error)
    recovers(loaded)


@pytest.mark.usefixtures("no_backoff")
def test_a_hub_that_is_not_there_is_unreachable(loaded: Device) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with closing(HttpRemote(f"http://127.0.0.1:{port}", loaded.remote.space)) as nowhere:
        error = fails(Device(loaded.store, loaded.airport, nowhere), Unreachable)
    assert "nothing was sent" in str(error)
    recovers(loaded)


@pytest.mark.usefixtures("no_backoff")
def test_a_hub_that_closes_the_connection_is_connection_lost(loaded: Device, gate: Gate) -> None:
    gate.plan(*[lose_request] * 3)
    fails(loaded, ConnectionLost, max_attempts=3)
    assert gate.verbs() == ["push"] * 3
    recovers(loaded)


@pytest.mark.usefixtures("no_backoff")
def test_a_hub_that_does_not_answer_is_connection_lost(new_device: Callable[..., Device], gate: Gate) -> None:
    device = new_device("impatient", gate.url, read_timeout=0.1)
    held = gate.hold()
    fails(device, ConnectionLost, max_attempts=1)
    held.release()


@pytest.fixture
def odd_server() -> Iterator[Callable[[bytes], str]]:
    """A server that answers every connection with the same bytes, whatever was asked."""
    servers: list[tuple[socket.socket, threading.Thread]] = []

    def serve(listener: socket.socket, said: bytes) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(said)

    def start(said: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=serve, args=(listener, said))
        thread.start()
        servers.append((listener, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener, thread in servers:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE)


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"\x00\x01\x02"],
    ids=["another protocol", "cut off", "noise"],
)
def test_a_server_that_speaks_no_http_is_connection_lost(
    loaded: Device, odd_server: Callable[[bytes], str], said: bytes
) -> None:
    with closing(HttpRemote(odd_server(said), loaded.remote.space)) as remote:
        fails(Device(loaded.store, loaded.airport, remote), ConnectionLost, max_attempts=2)
    recovers(loaded)


# -- the database ----------------------------------------------------------------------------------------


def set_up(path: Path) -> None:
    with Store(path) as store:
        airport_model(store)
        store.setup()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    with store_at(path) as (store, _):
        database: Any = store.database
        database.execute_sql("UPDATE statesync_meta SET value = 999 WHERE key = 'format'")
        before = list(database.connection().iterdump())
    for attempt in (set_up, Store.open):
        with pytest.raises(StoreTooNew, match="999"):
            attempt(path)
    with closing(sqlite3.connect(path)) as database:
        assert list(database.iterdump()) == before


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"%PDF-1.7\n" * 200])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    for attempt in (set_up, Store.open):
        with pytest.raises(StoreCorrupt, match="not a database"):
            attempt(path)
    assert path.read_bytes() == content


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match="folder"):
        set_up(tmp_path)


def test_a_database_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreReadOnly, match="create it first"):
        set_up(tmp_path / "nowhere" / "field.db")


def test_a_database_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreReadOnly, match="create it first"):
        set_up(tmp_path / "file" / "field.db")


@pytest.mark.parametrize("attempt", [set_up, Store.open])
def test_a_path_that_the_system_refuses_is_refused_with_its_reason(
    tmp_path: Path, attempt: Callable[[Path], object]
) -> None:
    with pytest.raises(StoreReadOnly, match=r"File name too long.*rights"):
        attempt(tmp_path / ("x" * 300) / "field.db")


def test_a_database_that_was_never_set_up_cannot_be_opened_without_models(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "plain.db")) as plain:
        plain.execute("CREATE TABLE airport (id TEXT)")
    for name in ("plain.db", "missing.db"):
        with pytest.raises(StoreNotReady, match=name.split(".")[0]):
            Store.open(tmp_path / name)
    assert not (tmp_path / "missing.db").exists()


def test_a_store_in_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file"):
        Store(":memory:")


def test_a_store_that_is_not_set_up_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "new.db")
    model = airport_model(store)
    with closing(HttpRemote("http://127.0.0.1:9", "s")) as remote:
        for use in (store.pending, lambda: store.scope(remote, model), store.rollback, store.clear):
            with pytest.raises(StoreNotReady, match=r"setup\(\)"):
                use()
        with pytest.raises(StoreNotReady, match=r"setup\(\)"):
            store.scope(remote).start_sync()


@pytest.mark.parametrize("room", [0, 2, 6])
def test_a_full_disk_stops_a_download_between_two_batches(here: Device, there: Device, room: int) -> None:
    there.add(300)
    there.airport.update(name="x" * 200).execute()
    there.sync()
    pages = here.execute("PRAGMA page_count").fetchone()[0]
    database: Any = here.store.database
    database.pragma("max_page_count", pages + room, permanent=True)
    with pytest.raises(StoreFull, match="free some space"):
        here.sync(download_batch_size=50)
    rows = len(here.rows())
    assert rows % 50 == 0
    assert rows < 300
    position = here.execute("SELECT after FROM statesync_cursor").fetchone()
    assert position is None or position[0] == max(here.keys(), default="")
    here.store.database.close()
    database.pragma("max_page_count", 1 << 30, permanent=True)
    here.sync()
    assert here.rows() == there.rows()
    downloaded = [session.stats.downloaded for session in here.store.sessions()]
    assert sum(downloaded) == 300


def test_a_database_that_another_program_holds_is_locked(
    tmp_path: Path, address: str, space: str, gate: Gate
) -> None:
    with device_at(tmp_path / "held.db", gate.url, space, busy_timeout=0.05) as device:
        store = device.store
        device.airport.create(id="k", name="n")
        held = gate.hold()
        session = device.scope.start_sync()
        held.wait()
        with closing(sqlite3.connect(tmp_path / "held.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            held.release()
            error = session.exception(PATIENCE)
            other.execute("ROLLBACK")
        assert isinstance(error, StoreLocked)
        assert [change.key for change in store.pending()] == ["k"]
        device.sync()
        assert store.pending() == []


def test_a_database_that_is_locked_where_it_is_only_read_is_locked_and_no_defect(
    tmp_path: Path, address: str, space: str
) -> None:
    path = tmp_path / "held.db"
    with (
        device_at(path, address, space, busy_timeout=0.05) as device,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
    ):

        def hold(progress: Progress) -> None:
            if (progress.part, progress.state) == ("download", "started"):
                other.execute("BEGIN IMMEDIATE")

        session = device.scope.start_sync(on_progress=hold)
        assert isinstance(session.exception(PATIENCE), StoreLocked)


def test_a_database_that_cannot_be_written_is_locked_or_read_only_before_a_session_exists(
    here: Device,
) -> None:
    database: Any = here.store.database
    database.pragma("query_only", 1, permanent=True)  # on the session's connection, too
    with pytest.raises(StoreError):
        here.sync()
    database.pragma("query_only", 0, permanent=True)
    assert here.store.sessions() == []
    here.sync()


# -- options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"download_batch_size": -1},
        {"download_batch_size": 1.5},
        {"download_batch_size": True},
        {"upload_batch_size": 0},
        {"upload_batch_size": "50"},
        {"sync_type": "sideways"},
        {"conflict_policy": "mine"},
        {"conflict_policy": 7},
        {"max_attempts": 0},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": "soon"},
        {"timeout": float("nan")},
        {"filter": ["Airport"]},
        {"filter": {"Airport": "all"}},
        {"filter": {"Airport": {"name": [["nested"]]}}},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused_and_named(options: dict[str, Any]) -> None:
    with pytest.raises(BadOptions, match=next(iter(options))):
        SyncOptions(**options)
