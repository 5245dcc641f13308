"""Plays the whole story."""

from __future__ import annotations

import time
from pathlib import Path

from statesync.demo.acts import ACTS, history, holdings
from statesync.demo.report import Play, Report, Teller
from statesync.demo.stage import staged


def play_story(folder: Path, teller: Teller) -> Report:
    """Play every act with its files in ``folder``, which is empty, and return what came of it.

    Raises ``SyncError`` where a session ended as none of the acts expects.
    """
    began = time.monotonic()
    with staged(folder) as stage:
        play = Play(stage, teller)
        for act in ACTS:
            act(play)
        return Report(
            passed=all(check.held for check in play.checks),
            seconds=round(time.monotonic() - began, 1),
            checks=tuple(play.checks),
            edits=play.edits,
            holdings=holdings(play),
            sessions=history(play),
        )
