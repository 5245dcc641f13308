"""The spans of sessions.

A session is a span; in it is one for each batch, in which there is one for each request and one for what was
stored. Attributes say which, how much, and how it ended; nothing of a record or a token is in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import field
from opentelemetry import context, trace
from opentelemetry.trace import Span, StatusCode, Tracer, TracerProvider

from statesync.classes import define
from statesync.errors import SyncError
from statesync.lifecycle import Phase
from statesync.session.telling.tracing import OnStep, Traced, tracers
from statesync.values import Part, Progress, State

_NAME = "statesync"


def instrument(provider: TracerProvider | None = None) -> Callable[[], None]:
    """Make spans of every session that begins from now on; call what is returned to make none any more.

    A session's span belongs into the one that is current where the session is started; a keeper's has none
    above it. None: the provider is OpenTelemetry's own, as the program has set it.
    """
    tracer = trace.get_tracer(_NAME, tracer_provider=provider)

    def begin(session: Traced) -> OnStep:
        return _SessionSpans(tracer, session).step

    tracers.add(begin)
    return lambda: tracers.remove(begin)


@define(eq=False)
class _SessionSpans:
    """The spans of one session that are open. Those of a batch end with its last answer, or the session."""

    _tracer: Tracer
    _session: Traced
    _above: context.Context = field(factory=context.get_current)
    _whole: Span | None = None
    _batch: Span | None = None
    _inner: Span | None = None
    _number: int | None = None
    _records: dict[Part, int] = field(factory=dict)

    def step(self, event: Progress) -> None:
        """Open and end what a step of the session opens and ends."""
        if event.part is Part.SYNC:
            self._of_session(event)
        else:
            self._of_batch(event)

    def _of_session(self, event: Progress) -> None:
        if event.state is State.STARTED or self._whole is None:
            self._whole = self._tracer.start_span("statesync session", self._above)
            self._whole.set_attribute("statesync.session", self._session.id)
            self._whole.set_attribute("statesync.space", self._session.space)
            self._whole.set_attribute("statesync.objects", self._session.objects)
        if event.state is State.CANCELLING:
            self._whole.add_event("cancelling")
        if event.outcome is not None:
            self._end(event)

    def _end(self, event: Progress) -> None:
        is_done = event.outcome is Phase.DONE
        for span in (self._inner, self._batch, self._whole):
            if span is not None:
                if not is_done:
                    span.set_status(StatusCode.ERROR, str(event.outcome))
                if span is self._whole:
                    self._tell_outcome(span, event)
                span.end()
        self._inner = self._batch = self._whole = None

    def _tell_outcome(self, span: Span, event: Progress) -> None:
        span.set_attribute("statesync.outcome", str(event.outcome))
        if event.stats is not None:
            span.set_attribute("statesync.uploaded", event.stats.uploaded)
            span.set_attribute("statesync.downloaded", event.stats.downloaded)

    def _of_batch(self, event: Progress) -> None:
        now = time.time_ns()
        match event.state:
            case State.STARTED:
                self._send(event, now)
            case State.IN_PROGRESS:
                self._end_inner(now)
                self._inner = self._child("statesync store", self._batch, now)
            case State.WAITING:
                self._end_inner(now, event.error)
            case State.ENDED:
                self._end_inner(now)
                self._end_batch(now, event)

    def _send(self, event: Progress, now: int) -> None:
        if self._batch is None or self._number != event.batch:
            self._end_batch(now, None)
            self._batch, self._number = self._child("statesync batch", self._whole, now), event.batch
            self._batch.set_attribute("statesync.direction", str(event.part))
            self._batch.set_attribute("statesync.batch", event.batch or 0)
        self._inner = self._child("statesync request", self._batch, now)
        self._inner.set_attribute("statesync.attempt", event.attempt or 1)

    def _child(self, name: str, above: Span | None, now: int) -> Span:
        at = self._above if above is None else trace.set_span_in_context(above, self._above)
        span = self._tracer.start_span(name, at, start_time=now)
        span.set_attribute("statesync.session", self._session.id)
        return span

    def _end_inner(self, now: int, error: SyncError | None = None) -> None:
        if self._inner is not None:
            if error is not None:
                self._inner.set_status(StatusCode.ERROR, error.reason)
            self._inner.end(now)
        self._inner = None

    def _end_batch(self, now: int, event: Progress | None) -> None:
        self._end_inner(now)
        if self._batch is not None:
            if event is not None:
                before = self._records.get(event.part, 0)
                self._batch.set_attribute("statesync.records", event.records - before)
                self._records[event.part] = event.records
            self._batch.end(now)
        self._batch = None
