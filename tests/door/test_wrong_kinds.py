"""What is of a wrong kind is refused where it is given, by its name, and nothing has begun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rig.device import Device

from statesync import Application, AutoSync, BadOptions, CancelOptions, HttpRemote, Store, SyncOptions
from statesync.hub import BadDatabase, Hub, HubLimits, Retention, prepare


async def later(_: object) -> None:
    """A coroutine: nobody would wait for it."""


def _open(path: Any, **options: Any) -> Store:
    return Store(path, **options)


GIVEN: dict[str, tuple[Callable[[Device], object], str]] = {
    "a store at a number": (lambda here: _open(5), "path must be a text or a Path, not int"),
    "a wait in words": (
        lambda here: _open("x.db", busy_timeout="a while"),
        "busy_timeout must be .* 'a while'",
    ),
    "a wait that is none": (lambda here: _open("x.db", busy_timeout=None), "busy_timeout must be .* None"),
    "a negative wait": (lambda here: _open("x.db", busy_timeout=-1), "busy_timeout must be .* -1"),
    "a number as a model": (
        lambda here: here.store.track(_any(5)),
        "a model must be a class that derives from peewee.Model, not int",
    ),
    "a record as a model": (
        lambda here: here.store.track(_any(here.airport())),
        "a model must be .* not Airport",
    ),
    "a name that is none": (
        lambda here: here.store.track(here.airport, name=_any(5)),
        "name must be a text, not int",
    ),
    "a name that no hub takes": (
        lambda here: here.store.track(here.airport, name="x" * 256),
        "name must have at most 255 characters",
    ),
    "a name with a NUL": (
        lambda here: here.store.track(here.airport, name="a\0b"),
        "name must have .* no NUL",
    ),
    "a name of odd bytes": (
        lambda here: here.store.track(here.airport, name="a\udc80"),
        "name must have .* UTF-8",
    ),
    "a path with a NUL": (lambda here: _open("x.db\0"), "path must have no NUL"),
    "a list as an object to drop": (
        lambda here: here.store.drop_object(_any([])),
        "name must be a text, not list",
    ),
    "no session": (lambda here: here.store.session(_any(None)), "session_id must be a text, not NoneType"),
    "a session in bytes": (
        lambda here: here.store.journal(_any(b"0")),
        "session_id must be a text, not bytes",
    ),
    "a conflict in words": (
        lambda here: here.store.resolve(_any("the last"), "local"),
        "conflict must be an entry of conflicts\\(\\), or its id, not str",
    ),
    "a clear that says no in words": (
        lambda here: here.store.clear(discard_pending=_any("no")),
        "discard_pending must be True or False, not 'no'",
    ),
    "a reset that says no in words": (
        lambda here: here.scope.reset(discard_pending=_any("no")),
        "discard_pending must be True or False, not 'no'",
    ),
    "a reset that keeps nobody knows what": (
        lambda here: here.store.reset(keep_records=_any(None), discard_pending=True),
        "keep_records must be True or False, not None",
    ),
    "a number as a proxy": (
        lambda here: HttpRemote("http://h", "s", proxy=_any(3128)),
        "proxy must be an address, or None, not int",
    ),
    "migrations that are none": (lambda here: here.store.setup(_any(5)), "migrations must be .* not int"),
    "a migration that is none": (
        lambda here: here.store.setup([_any("ALTER TABLE")]),
        "each of migrations must be a function, not str",
    ),
    "no remote": (lambda here: here.store.scope(_any(None)), "remote must be .* not NoneType"),
    "an address as a remote": (
        lambda here: here.store.scope(_any("http://localhost")),
        "remote must be .* not str$",
    ),
    "a class as a remote": (
        lambda here: here.store.scope(_any(HttpRemote)),
        "remote must be .* the class HttpRemote",
    ),
    "a name as what is synced": (
        lambda here: here.store.scope(here.remote, _any("Airport")),
        "a model must be .* not str",
    ),
    "a record as what is synced": (
        lambda here: here.store.scope(here.remote, _any(here.airport())),
        "a model must be .* not Airport",
    ),
    "options in words": (lambda here: here.scope.sync(_any("full")), "options must be SyncOptions, not str"),
    "options as a mapping": (
        lambda here: here.scope.start_sync(_any({"sync_type": "full"})),
        "options must be SyncOptions, not dict",
    ),
    "options of a cancel": (
        lambda here: here.scope.sync(_any(CancelOptions())),
        "options must be SyncOptions, not CancelOptions",
    ),
    "a callback that is none": (
        lambda here: here.scope.sync(on_progress=_any(5)),
        "on_progress must be a function, not int",
    ),
    "a callback of success that is none": (
        lambda here: here.scope.start_sync(on_success=_any("done")),
        "on_success must be a function, not str",
    ),
    "a callback of failure that is a coroutine": (
        lambda here: here.scope.start_sync(on_failure=later),
        "on_failure must be a function, and not a coroutine",
    ),
    "a cancel with seconds": (
        lambda here: here.scope.cancel_sync(_any(5)),
        "options must be CancelOptions, not int",
    ),
    "a cancel that tells nobody": (
        lambda here: here.scope.cancel_sync(on_failure=_any("failed")),
        "on_failure must be a function, not str",
    ),
    "a cancel that tells a coroutine": (
        lambda here: here.scope.cancel_sync(on_success=later),
        "on_success must be a function, and not a coroutine",
    ),
    "an observer that is none": (
        lambda here: here.store.observe(None, _any(5)),
        "callback must be a function, not int",
    ),
    "no observer": (
        lambda here: here.store.observe(None, _any(None)),
        "callback must be a function, not NoneType",
    ),
    "an observer that is a coroutine": (
        lambda here: here.scope.observe("Airport", later),
        "callback must be a function, and not a coroutine",
    ),
    "a number to observe": (
        lambda here: here.store.observe(_any(5), print),
        "a model must be .* not int",
    ),
    "a number to wait for": (
        lambda here: here.store.wait_for(_any(5), "k"),
        "a model must be .* not int",
    ),
    "a keeper of nothing": (lambda here: AutoSync(_any(None)), "scope must be a Scope, not NoneType"),
    "a keeper of a store": (lambda here: AutoSync(_any(here.store)), "scope must be a Scope, not Store"),
    "one condition without a name": (
        lambda here: AutoSync(here.scope, only_if=_any(lambda: True)),
        "only_if must be names with functions",
    ),
    "a keeper's options in words": (
        lambda here: AutoSync(here.scope, options=_any("full")),
        "options must be SyncOptions, not str",
    ),
    "a keeper's options as an empty mapping": (
        lambda here: AutoSync(here.scope, options=_any({})),
        "options must be SyncOptions, not dict",
    ),
    "a keeper that tells nobody": (
        lambda here: AutoSync(here.scope, on_progress=_any(5)),
        "on_progress must be a function, not int",
    ),
    "a keeper that lives in words": (
        lambda here: AutoSync(here.scope, live=_any("no")),
        "live must be True or False, not 'no'",
    ),
    "a keeper that is told in words": (
        lambda here: AutoSync(here.scope, on_change=_any("no")),
        "on_change must be True or False, not 'no'",
    ),
    "an application of words": (
        lambda here: Application(_any("ab")),
        "each of keepers must be an AutoSync or a Scope, not str",
    ),
    "an application of one": (
        lambda here: Application(_any(here.scope)),
        "keepers must be several of AutoSync or Scope, not Scope",
    ),
    "a number as an address": (
        lambda here: HttpRemote(_any(5), "s"),
        "the hub's address .* have to be texts",
    ),
    "a number as a space": (
        lambda here: HttpRemote("http://h", _any(5)),
        "the name of the space have to be texts",
    ),
}


def _any(value: object) -> Any:
    return value


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("give", "said"), GIVEN.values(), ids=GIVEN)
def test_what_is_of_a_wrong_kind_is_refused_by_its_name_and_nothing_has_begun(
    here: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, give: Callable[[Device], object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    here.add(1)
    with pytest.raises(BadOptions, match=said):
        give(here)
    assert here.store.sessions() == []
    assert not (tmp_path / "x.db").exists()
    assert here.sync().stats.uploaded == 1


def test_what_can_be_called_is_a_callback_whatever_it_is(here: Device) -> None:
    heard: list[object] = []

    class Hearer:
        def __call__(self, event: object) -> None:
            heard.append(event)

    here.scope.sync(SyncOptions(), on_progress=Hearer())
    here.scope.start_sync(on_success=heard.append).wait(10)
    assert len(heard) > 2


@pytest.mark.parametrize("url", [None, 5, b"sqlite:///hub.db", Path("hub.db")])
def test_what_is_no_text_is_no_address_of_a_hubs_database(url: object) -> None:
    for give in (prepare, Hub):
        with pytest.raises(BadDatabase, match=f"must be a text, not {type(url).__name__}"):
            give(_any(url))


@pytest.mark.parametrize("value", [None, "5", b"5", True, [5], float("nan")])
def test_a_limit_of_a_wrong_kind_is_refused_by_its_name(value: object) -> None:
    for name in ("body", "rate", "survey_seconds"):
        with pytest.raises(ValueError, match=f"{name} is "):
            HubLimits(**{name: _any(value)})
    with pytest.raises(ValueError, match="the retention is "):
        Retention(_any(value))
