"""The system model: the real conversation between modelled stores, hub and network, in every order."""

from __future__ import annotations

from statesync.verify.system.explore import SystemReport, SystemViolation, check_system
from statesync.verify.system.world import Budget

__all__ = ["Budget", "SystemReport", "SystemViolation", "check_system"]
