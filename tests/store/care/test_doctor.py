"""The doctor says in plain words what is wrong with a store, and mends it without losing a pending change."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner
from rig.device import Device, device_at
from rig.gate import Gate, lose_answer
from rig.search import some

from statesync import Phase, RemoteError, Store, StoreError
from statesync.cli.care import doctor
from statesync.complaints import Complaint, Repair
from statesync.errors import StoreCorrupt
from statesync.lifecycle import Trigger

Statement = str


def tamper(device: Device, *statements: Statement) -> None:
    """Change the file as another program would: by a plain connection."""
    connection = sqlite3.connect(device.store.database.database)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def fold(device: Device) -> None:
    """Let the store make net changes of what was written: whoever touches the outbox does."""
    device.store.mark_for_upload()


def leaf_of(path: Path, table: str) -> tuple[int, int]:
    """Return the number of a leaf page in the middle of a table, and the size of a page."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    leaves = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno LIMIT 1 OFFSET 9"
    (page,) = connection.execute(leaves, (table,)).fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    return page, size


def dump(device: Device) -> list[str]:
    connection = sqlite3.connect(device.store.database.database)
    lines = list(connection.iterdump())
    connection.close()
    return lines


def repairs(complaints: list[Complaint]) -> set[Repair | None]:
    return {complaint.repair for complaint in complaints}


@pytest.fixture
def synced(here: Device, there: Device) -> tuple[Device, Device]:
    """Two devices that have the same twenty records, and one change that waits here."""
    there.add(20)
    there.sync()
    here.sync()
    here.edit("k00003", name="pending")
    assert here.operations() == {"k00003": "update"}
    fold(here)
    return here, there


def test_a_store_that_was_used_as_it_should_be_is_sound(synced: tuple[Device, Device]) -> None:
    here, _ = synced
    assert here.store.examine() == []
    here.sync()
    assert here.store.examine() == []


def test_lost_triggers_are_found_and_what_was_written_unseen_reaches_the_hub(
    synced: tuple[Device, Device],
) -> None:
    here, there = synced
    tamper(here, "DROP TRIGGER statesync_Airport_update", "DROP TRIGGER statesync_Airport_insert")
    here.edit("k00005", name="unseen edit")
    here.add(1, first=90)
    (complaint,) = here.store.examine()
    assert complaint.repair is Repair.RETRACK
    assert "2 of its triggers" in complaint.message
    assert here.store.repair() == []
    here.sync()
    here.sync()
    there.sync()
    assert there.field("k00005", "name") == "unseen edit"
    assert there.field("k00003", "name") == "pending"
    assert here.rows() == there.rows()


def test_a_lost_log_is_found_and_writes_are_possible_and_seen_again(synced: tuple[Device, Device]) -> None:
    here, there = synced
    tamper(here, "DROP TABLE statesync_log_Airport")
    (complaint,) = here.store.examine()
    assert complaint.repair is Repair.RETRACK
    assert "its log is gone" in complaint.message
    assert here.store.repair() == []
    here.edit("k00007", name="seen")
    here.sync()
    here.sync()
    there.sync()
    assert there.field("k00007", "name") == "seen"
    assert there.field("k00003", "name") == "pending"


@pytest.mark.parametrize(
    "left", ["UPDATE statesync_tracking SET is_on = 0", "DELETE FROM statesync_tracking"]
)
def test_tracking_that_was_left_switched_off_is_found_and_mended(
    synced: tuple[Device, Device], left: str
) -> None:
    here, there = synced
    tamper(here, left)
    here.edit("k00007", name="unseen")
    assert repairs(here.store.examine()) == {Repair.RETRACK}
    assert here.store.repair() == []
    here.sync()
    here.sync()
    there.sync()
    assert there.field("k00007", "name") == "unseen"


def test_a_pending_change_that_contradicts_its_record_is_set_right(synced: tuple[Device, Device]) -> None:
    here, there = synced
    tamper(here, "UPDATE statesync_change SET operation = 'delete'")
    assert repairs(here.store.examine()) == {Repair.REFOLD}
    assert here.store.repair() == []
    assert here.operations() == {"k00003": "update"}
    here.sync()
    there.sync()
    assert there.field("k00003", "name") == "pending"


def test_a_change_that_waits_for_a_batch_of_nobody_is_set_free(synced: tuple[Device, Device]) -> None:
    here, _ = synced
    tamper(here, "UPDATE statesync_change SET batch = 'nobody', sent = 1")
    assert repairs(here.store.examine()) == {Repair.REFOLD}
    assert here.store.repair() == []
    assert here.sync().stats.uploaded == 1


def test_a_cursor_that_no_hub_gave_is_read_again_from_the_start_and_keeps_what_is_pending(
    synced: tuple[Device, Device],
) -> None:
    here, there = synced
    tamper(here, "UPDATE statesync_cursor SET cursor = 'many'")
    assert repairs(here.store.examine()) == {Repair.REREAD}
    assert here.store.repair() == []
    assert here.operations() == {"k00003": "update"}
    here.sync()
    there.sync()
    assert here.rows() == there.rows()
    assert there.field("k00003", "name") == "pending"


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM statesync_transition WHERE number = 3", "entries are missing"),
        (
            "UPDATE statesync_transition SET target = 'cancelled' WHERE number = 1",
            "no transition of the chart",
        ),
        ("UPDATE statesync_session SET phase = 'cancelled'", "the session is kept as cancelled"),
        ("UPDATE statesync_batch SET phase = 'aborted'", "is kept as aborted"),
    ],
)
def test_a_journal_that_was_edited_by_hand_is_found_and_the_session_closed(
    here: Device, there: Device, statement: str, says: str
) -> None:
    there.add(3)
    there.sync()
    session = here.sync().session
    tamper(here, statement)
    (complaint,) = here.store.examine()
    assert (complaint.about, complaint.repair) == (session, Repair.CLOSE)
    assert says in complaint.message
    assert here.store.repair() == []
    assert here.store.session(session).phase is Phase.FAILED
    assert here.sync().phase is Phase.DONE


def test_a_damaged_page_is_salvaged_and_the_hub_gives_back_what_was_on_it(
    tmp_path: Path, address: str, space: str, there: Device
) -> None:
    keys = there.add(3000)
    there.sync()
    path = tmp_path / "damaged.db"
    with device_at(path, address, space) as device:
        device.sync()
        device.edit(keys[-1], name="pending")
        fold(device)
    page, size = leaf_of(path, "airport")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xde\xad" * (size // 2))
    with device_at(path, address, space) as device:
        assert repairs(device.store.examine()) == {Repair.SALVAGE}
        (gone,) = device.store.repair()
        assert (gone.about, gone.repair) == ("airport", None)
        lost, kept = re.findall(r"\d+", gone.message)
        assert int(lost) + int(kept) == 3000
        assert device.store.examine() == []
        assert path.with_name("damaged.db.damaged").exists()
        assert device.operations() == {keys[-1]: "update"}
        device.sync()
        there.sync()
        assert device.rows() == there.rows()
        assert there.field(keys[-1], "name") == "pending"


@pytest.fixture
def large(tmp_path: Path, address: str, space: str, there: Device) -> Path:
    """A device's file that has read 2000 records."""
    there.add(2000)
    there.sync()
    path = tmp_path / "damaged.db"
    with device_at(path, address, space) as device:
        device.sync()
    return path


def test_of_a_damaged_page_no_more_is_read_again_than_stood_on_it(
    large: Path, address: str, space: str, there: Device
) -> None:
    """Rows of it that can still be read are no exception: nobody knows whether they are as they were."""
    page, size = leaf_of(large, "airport")
    content = bytearray(large.read_bytes()[(page - 1) * size : page * size])
    assert content.count(b"n15") > 50
    content[8:10] = b"\x00\x00"  # where its first row begins
    content = content.replace(b"n15", b"N15")
    with large.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(content)
    with device_at(large, address, space) as device:
        assert len(device.store.repair()) == 1
        assert device.store.examine() == []
        assert any(name.startswith("N15") for name, *_ in device.rows().values())
        result = device.sync()
        assert device.rows() == there.rows()
    assert 10 < result.stats.downloaded < 300


def test_what_is_newer_than_what_was_read_is_not_lost_with_a_damaged_page(
    large: Path, address: str, space: str, there: Device
) -> None:
    """Of its own writes a feed does not tell a device; so all is read again."""
    with device_at(large, address, space) as device:
        for key in list(device.rows()):
            device.edit(key, elevation=7)
        device.sync(sync_type="upload_only")
    page, size = leaf_of(large, "airport")
    with large.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xde\xad" * (size // 2))
    with device_at(large, address, space) as device:
        assert len(device.store.repair()) == 1
        assert len(device.keys()) < 2000
        device.sync()
        there.sync()
        assert device.rows() == there.rows()


def test_what_was_on_its_way_up_is_not_lost_with_a_damaged_page(
    large: Path, gate: Gate, space: str, there: Device, no_backoff: None
) -> None:
    """The hub has it, and will not tell who has sent it: so all is read again."""
    page, size = leaf_of(large, "airport")
    content = large.read_bytes()[(page - 1) * size : page * size]
    key = re.findall(rb"k[0-9]{5}", content)[20].decode()
    gate.plan(lose_answer, lose_answer)
    with device_at(large, gate.url, space) as device:
        device.edit(key, elevation=7)
        with pytest.raises(RemoteError):
            device.sync(max_attempts=1)
    leaf_of(large, "airport")
    with large.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xde\xad" * (size // 2))
    with device_at(large, gate.url, space) as device:
        assert len(device.store.repair()) == 1
        assert key not in device.rows()
        device.sync()
        there.sync()
        assert (there.field(key, "elevation"), device.rows()) == (7, there.rows())


def test_a_file_of_which_nothing_can_be_read_is_left_as_it_is_and_said_so(tmp_path: Path) -> None:
    path = tmp_path / "noise.db"
    path.write_bytes(b"no database at all" * 500)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(path)
    assert path.read_bytes() == b"no database at all" * 500


def test_the_command_says_what_is_wrong_mends_it_and_its_exit_code_tells(
    synced: tuple[Device, Device],
) -> None:
    here, _ = synced
    path = here.store.database.database
    assert CliRunner().invoke(doctor, [path]).output == "the store is sound\n"
    tamper(here, "DROP TRIGGER statesync_Airport_update")
    sick = CliRunner().invoke(doctor, [path])
    assert sick.exit_code == 1
    assert "Airport: 1 of its triggers are gone" in sick.output
    mended = CliRunner().invoke(doctor, [path, "--repair"])
    assert (mended.exit_code, "mended 1 of 1" in mended.output) == (0, True)


def test_examining_changes_nothing(synced: tuple[Device, Device]) -> None:
    here, _ = synced
    before = dump(here)
    here.store.examine()
    assert dump(here) == before


OWN_TABLES = [
    "statesync_batch",
    "statesync_change",
    "statesync_conflict",
    "statesync_cursor",
    "statesync_meta",
    "statesync_object",
    "statesync_payload",
    "statesync_seen",
    "statesync_sent",
    "statesync_session",
    "statesync_settled",
    "statesync_space",
    "statesync_tracking",
    "statesync_transition",
]


@pytest.mark.parametrize("table", some(OWN_TABLES, 3))
def test_a_table_of_the_stores_own_that_is_gone_is_a_complaint(
    synced: tuple[Device, Device], table: str
) -> None:
    here, _ = synced
    tamper(here, f"DROP TABLE {table}")
    assert here.store.examine() == [Complaint("file", f"the store's table {table} is gone", None)]
    assert here.store.repair() == here.store.examine()


def test_a_table_of_the_programs_that_is_gone_is_a_complaint(synced: tuple[Device, Device]) -> None:
    here, _ = synced
    tamper(here, "DROP TABLE airport")
    (complaint,) = here.store.examine()
    assert (complaint.about, complaint.repair) == ("Airport", Repair.REREAD)
    assert "its table airport is gone" in complaint.message


@pytest.mark.parametrize("table", some(OWN_TABLES, 3))
def test_the_command_says_so_where_a_table_of_the_stores_own_is_gone(
    synced: tuple[Device, Device], table: str
) -> None:
    here, _ = synced
    tamper(here, f"DROP TABLE {table}")
    said = CliRunner().invoke(doctor, [here.store.database.database])
    assert said.exit_code == 1
    assert isinstance(said.exception, SystemExit | StoreCorrupt)
    assert table in said.output + str(said.exception)


def test_a_sync_without_a_table_of_the_stores_own_says_what_to_do(synced: tuple[Device, Device]) -> None:
    here, _ = synced
    tamper(here, "DROP TABLE statesync_cursor")
    with pytest.raises(StoreCorrupt, match=r"no such table: statesync_cursor; .*backup"):
        here.sync()


def test_a_closed_session_has_failed_by_the_chart_and_its_journal_says_so(
    here: Device, there: Device
) -> None:
    there.add(3)
    there.sync()
    session = here.sync().session
    tamper(here, "DELETE FROM statesync_transition WHERE number = 3")
    assert here.store.repair() == []
    entries = [(e.number, e.trigger, e.source, e.target) for e in here.store.journal(session)]
    assert entries == [(1, Trigger.FAIL, Phase.IDLE, Phase.FAILED)]
    closed = here.store.session(session)
    assert (closed.phase, closed.reason, closed.batches) == (Phase.FAILED, "journal_damaged", ())
    assert closed.error == "its journal was damaged; what it had committed is still there"


def test_changes_of_a_session_that_is_closed_are_set_free_by_the_same_repair(
    here: Device, there: Device
) -> None:
    here.add(2)
    session = here.sync().session
    here.edit("k00000", name="pending")
    fold(here)
    tamper(
        here,
        "UPDATE statesync_batch SET phase = 'open' WHERE wire_id IS NOT NULL",
        "UPDATE statesync_change SET sent = revision, "
        "batch = (SELECT wire_id FROM statesync_batch WHERE wire_id IS NOT NULL)",
    )
    assert [(c.about, c.repair) for c in here.store.examine()] == [(session, Repair.CLOSE)]
    assert here.store.repair() == []
    here.sync()
    there.sync()
    assert there.field("k00000", "name") == "pending"
