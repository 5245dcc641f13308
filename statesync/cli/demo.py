"""``statesync demo``: the whole story on real records."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from statesync.cli.printing import json_option, print_json
from statesync.cli.storyteller import SilentTeller, TerminalTeller, show_ending
from statesync.demo.story import play_story


@click.command()
@json_option
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the hub's and the devices' databases in this folder.",
)
def demo(as_json: bool, keep: Path | None) -> None:
    """Show the whole story on 28,000 real airports: three devices, a hub, and what can go wrong.

    A hub is served on this machine. One device uploads, one is cancelled in the middle of its download,
    two edit the same airports offline, one is killed while it downloads. All are brought to agree, and
    every promise is checked against the databases and against what went over the wire. The exit code is 0
    only if every check held.
    """
    with _folder(keep) as folder:
        report = play_story(folder, SilentTeller() if as_json else TerminalTeller())
    if as_json:
        print_json(report)
    else:
        show_ending(report, keep)
    failed = [check.name for check in report.checks if not check.held]
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(report.checks)} checks failed: {'; '.join(failed)}"
        )


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="statesync-demo-") as folder:
            yield Path(folder)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise click.UsageError(f"{keep} is not empty; name a new folder.")
    yield keep
