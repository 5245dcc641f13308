"""Sessions as spans, by the SDK's own exporter; and nothing of records or tokens in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from rig.child import on_a_device
from rig.device import Device
from rig.gate import Gate, lose_answer, refuse, wait_for

from statesync import AutoSync, ConnectionLost, SyncFailed
from statesync.session import driver
from statesync.telemetry import instrument


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    made = TracerProvider()
    stop = instrument(made)
    yield made
    stop()
    made.shutdown()


@pytest.fixture
def spans(provider: TracerProvider) -> Callable[[], list[ReadableSpan]]:
    """Return the spans that have ended so far, in the order of their beginnings."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return lambda: sorted(exporter.get_finished_spans(), key=_begins)


def _begins(span: ReadableSpan) -> tuple[int, int]:
    """Return what sorts a span before those that are in it."""
    return span.start_time or 0, -(span.end_time or 0)


def tree(spans: list[ReadableSpan]) -> list[tuple[str, str | None]]:
    """Return each span's name and the name of the one above it."""
    names = {span.context.span_id: span.name for span in spans if span.context}
    return [(span.name, names.get(span.parent.span_id) if span.parent else None) for span in spans]


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return {name.removeprefix("statesync."): value for name, value in (span.attributes or {}).items()}


def test_a_session_is_a_span_with_one_for_each_batch_request_and_store(
    here: Device, there: Device, spans: Callable[[], list[ReadableSpan]], space: str
) -> None:
    there.add(1, first=20)
    there.sync()
    here.sync()  # what follows comes with the feed
    there.add(3)
    there.sync()
    here.add(2, first=10)
    before = len(spans())
    here.sync(download_batch_size=2)
    found = spans()[before:]
    batch = [("statesync batch", "statesync session")]
    inner = [("statesync request", "statesync batch"), ("statesync store", "statesync batch")]
    assert tree(found) == [("statesync session", None)] + (batch + inner) * 3
    session = attributes(found[0])
    assert session["session"] == here.store.sessions()[-1].id
    assert (session["space"], session["objects"]) == (space, ("Airport",))
    assert (session["outcome"], session["uploaded"], session["downloaded"]) == ("done", 2, 3)
    batches = [attributes(span) for span in found if span.name == "statesync batch"]
    assert [(each["batch"], each["direction"], each["records"]) for each in batches] == [
        (1, "upload", 2),
        (2, "download", 2),
        (3, "download", 1),
    ]
    for span in found:
        assert span.status.status_code is StatusCode.UNSET
        assert attributes(span)["session"] == session["session"]
        assert span.start_time is not None
        assert span.end_time is not None
        assert found[0].start_time <= span.start_time <= span.end_time <= found[0].end_time  # type: ignore[operator]


def test_each_attempt_is_a_request_and_says_why_it_failed(
    here: Device, gate: Gate, spans: Callable[[], list[ReadableSpan]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "backoff", lambda attempt, at_least: 0.0)
    gate.plan(refuse(503, "busy"))
    here.add(1)
    here.sync(sync_type="upload_only")
    requests = [span for span in spans() if span.name == "statesync request"]
    assert [attributes(span)["attempt"] for span in requests] == [1, 2]
    assert [span.status.status_code for span in requests] == [StatusCode.ERROR, StatusCode.UNSET]
    assert requests[0].status.description == "remote_error"
    assert len([span for span in spans() if span.name == "statesync batch"]) == 1


def test_what_a_session_leaves_open_ends_with_it_as_an_error(
    here: Device, gate: Gate, spans: Callable[[], list[ReadableSpan]]
) -> None:
    gate.plan(lose_answer)
    here.add(1)
    with pytest.raises(ConnectionLost):
        here.sync(max_attempts=1)
    found = spans()
    assert tree(found) == [
        ("statesync session", None),
        ("statesync batch", "statesync session"),
        ("statesync request", "statesync batch"),
    ]
    assert {span.status.status_code for span in found} == {StatusCode.ERROR}
    assert attributes(found[0])["outcome"] == "failed"


def test_a_session_belongs_into_the_span_in_which_it_is_started(
    here: Device, provider: TracerProvider, spans: Callable[[], list[ReadableSpan]]
) -> None:
    with provider.get_tracer("program").start_as_current_span("the program's"):
        here.sync()
    assert ("statesync session", "the program's") in tree(spans())


def test_a_keepers_sessions_are_spans_of_their_own(
    here: Device, provider: TracerProvider, spans: Callable[[], list[ReadableSpan]]
) -> None:
    with (
        provider.get_tracer("program").start_as_current_span("the program's"),
        AutoSync(here.scope, min_gap=0) as keeper,
    ):
        assert wait_for(lambda: keeper.status().is_up_to_date)
    assert ("statesync session", None) in tree(spans())


def test_nothing_of_a_record_is_in_a_span(
    here: Device, gate: Gate, spans: Callable[[], list[ReadableSpan]]
) -> None:
    here.airport.create(id="k-secret", name="n-secret")
    here.execute(
        "CREATE TRIGGER no BEFORE DELETE ON statesync_change BEGIN SELECT RAISE(ABORT, 'secret'); END"
    )
    with pytest.raises(SyncFailed):
        here.sync()
    assert spans()
    assert "secret" not in "".join(span.to_json() for span in spans())


def test_without_it_no_session_is_told_to_anybody(here: Device) -> None:
    session = here.scope.start_sync()
    session.wait()
    assert session._on_steps == ()


def test_where_opentelemetry_is_not_installed_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['opentelemetry'] = None; import statesync.telemetry"
    command, environment = [sys.executable, "-c", script], on_a_device()
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 1
    assert "run: pip install 'statesync[opentelemetry]'" in ran.stderr
