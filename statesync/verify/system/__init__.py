"""The system model: the real conversation between modelled devices, hub and network, in every order."""

from __future__ import annotations

from statesync.verify.system.explore import Explored, SystemReport, SystemViolation, check_system
from statesync.verify.system.scenarios import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Explored", "Scenario", "SystemReport", "SystemViolation", "check_system"]
