"""``statesync hub``: set up and run the server, and hand out its tokens."""

from __future__ import annotations

from statesync.cli.hub.commands import hub

__all__ = ["hub"]
