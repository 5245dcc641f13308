"""The system model: the real conversation between modelled devices, hub and network, in every order."""

from __future__ import annotations

from statesync.verify.system.explore import Explored, SystemReport, SystemViolation, check_system

__all__ = ["Explored", "SystemReport", "SystemViolation", "check_system"]
