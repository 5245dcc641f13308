"""OpenTelemetry: the sessions of a process as spans. Needs the extra ``opentelemetry``."""

from __future__ import annotations

try:
    from statesync.telemetry.spans import instrument
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"statesync.telemetry needs {error.name}, which is not installed; run: "
        "pip install 'statesync[opentelemetry]'",
        name=error.name,
    ) from error

__all__ = ["instrument"]
