"""OpenTelemetry: the sessions of a process as spans. Needs the extra ``opentelemetry``."""

from __future__ import annotations

try:
    from statesync.telemetry.spans import instrument
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"statesync.telemetry needs {_error.name}, which is not installed; run: "
        "pip install 'statesync[opentelemetry]'",
        name=_error.name,
    ) from _error

__all__ = ["instrument"]
