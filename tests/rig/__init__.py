"""What tests set up for themselves: devices, a gate before the hub, processes to kill, certificates."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
"""The folder of the tests: a process that runs in it can import this package."""
