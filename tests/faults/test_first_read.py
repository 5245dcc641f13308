"""A device that has uploaded, but never read, learns of every delete all the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from statesync import Remote, SyncOptions
from statesync.hub import Hub, LocalRemote

from .field import SPACE, Device, device, make_hub, open_hub

UP = SyncOptions(sync_type="upload_only")
KEPT, DELETED = ("kept", None), ("deleted by b", None)


@pytest.fixture
def hub(folder: Path) -> Iterator[Hub]:
    make_hub(folder / "hub.db")
    opened = open_hub(folder / "hub.db")
    yield opened
    opened.close()


@pytest.fixture
def remote(hub: Hub) -> Remote:
    return LocalRemote(hub, SPACE)


@pytest.fixture
def a(folder: Path, remote: Remote) -> Iterator[Device]:
    """A device that has uploaded two records and read nothing; another has read and deleted one of them."""
    with device(folder / "a.db") as a, device(folder / "b.db") as b:
        a.write("kept", *KEPT)
        a.write("deleted", *DELETED)
        a.store.scope(remote).sync(UP)
        b.store.scope(remote).sync()
        b.delete("deleted")
        b.store.scope(remote).sync()
        yield a


def test_the_delete_comes_with_the_first_read(a: Device, remote: Remote) -> None:
    a.store.scope(remote).sync()
    assert a.rows() == {"kept": KEPT}


def test_the_delete_comes_though_the_hub_has_forgotten_it(a: Device, hub: Hub, remote: Remote) -> None:
    assert hub.purge(SPACE, 3) == 1
    a.store.scope(remote).sync()
    assert a.rows() == {"kept": KEPT}


def test_the_delete_comes_to_a_copy_that_gets_a_new_identity(a: Device, folder: Path, remote: Remote) -> None:
    a.store.close()
    shutil.copy(folder / "a.db", folder / "c.db")
    a.write("more", "so that the original is ahead of its copy")
    a.store.scope(remote).sync(UP)
    with device(folder / "c.db") as c:
        c.store.scope(remote).sync()
        assert c.rows() == {"kept": KEPT, "more": ("so that the original is ahead of its copy", None)}


def test_a_change_out_of_the_filter_comes_with_the_first_read(
    a: Device, folder: Path, remote: Remote
) -> None:
    with device(folder / "b.db") as b:
        b.write("kept", "no longer")
        b.store.scope(remote).sync()
    a.store.scope(remote).sync(SyncOptions(filter={"Note": {"text": "kept"}}))
    assert a.rows() == {}


def test_a_new_device_is_spared_the_deletes(a: Device, folder: Path, remote: Remote) -> None:
    with device(folder / "new.db") as new:
        assert new.store.scope(remote).sync().stats.downloaded == 1
        assert new.rows() == {"kept": KEPT}


def test_a_delete_that_was_missed_survives_a_restored_hub(folder: Path, hub: Hub, remote: Remote) -> None:
    with device(folder / "a.db") as a, device(folder / "b.db") as b:
        a.write("kept", *KEPT)
        a.write("deleted", *DELETED)
        a.store.scope(remote).sync()
        b.store.scope(remote).sync()
        b.delete("deleted")
        b.store.scope(remote).sync()
        hub.close()
        shutil.copy(folder / "hub.db", folder / "backup.db")
        b.write("new", "after the backup")
        b.store.scope(remote).sync()
        hub.close()
        shutil.copy(folder / "backup.db", folder / "hub.db")
        for one in (b, a, b, a):
            one.store.scope(remote).sync()
        assert b.rows() == a.rows() == {"kept": KEPT, "new": ("after the backup", None)}
