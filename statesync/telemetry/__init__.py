"""OpenTelemetry: the sessions of a process as spans. Needs the extra ``opentelemetry``."""

from __future__ import annotations

from statesync.telemetry.spans import instrument

__all__ = ["instrument"]
