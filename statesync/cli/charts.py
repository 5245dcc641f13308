"""``statesync diagram`` and ``statesync verify``: the lifecycle drawn, and proved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from statesync import diagram as pictures
from statesync.cli.kinds import NAME, PATH
from statesync.diagram import committed
from statesync.errors import SyncError
from statesync.lifecycle import CHARTS, KEEPER, Chart
from statesync.scope import Store
from statesync.values import JournalEntry, SessionInfo
from statesync.verify import check as check_charts
from statesync.verify.system import check_system

_CHARTS = {chart.name: chart for chart in CHARTS}
_DRAWN: dict[str, Callable[[Chart, pictures.Marks], str | bytes]] = {
    "mermaid": pictures.mermaid,
    "dot": pictures.dot,
    "svg": pictures.svg,
    "png": pictures.png,
}
_SPOKEN: dict[str, Callable[[Sequence[JournalEntry], SessionInfo], str]] = {
    "mermaid": pictures.sequence_mermaid,
    "svg": pictures.sequence_svg,
}
_WRITTEN: dict[str, Callable[[Chart], str]] = {"markdown": pictures.markdown, "scxml": pictures.scxml}


@click.command()
@click.argument("chart", type=click.Choice([*_CHARTS]), default="session")
@click.option(
    "--format", "form", type=click.Choice([*_DRAWN, *_WRITTEN]), default="mermaid", show_default=True
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option(
    "--session",
    "recorded",
    type=(PATH, NAME),
    metavar="DB ID",
    help="Draw the way that one recorded session took: ID is its id or the beginning of it.",
)
@click.option(
    "--sequence",
    is_flag=True,
    help="With --session: what device and hub said to each other, as mermaid or svg.",
)
@click.option("--check", is_flag=True, help="Compare the committed pictures with the charts.")
@click.option("--write", is_flag=True, help="Draw the committed pictures again.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default="diagrams",
    show_default=True,
    help="Where the committed pictures are.",
)
def diagram(
    chart: str,
    form: str,
    output: Path | None,
    recorded: tuple[str, str] | None,
    sequence: bool,
    check: bool,
    write: bool,
    folder: Path,
) -> None:
    """Draw the lifecycle of a session, of a batch or of a keeper, or the way that one session really took."""
    try:
        if write:
            click.echo("\n".join(f"wrote {path}" for path in committed.write(folder)))
        elif check:
            _check(folder)
        elif sequence:
            _put(_converse(form, recorded), output)
        else:
            _put(_draw(_CHARTS[chart], form, recorded), output)
    except SyncError as error:
        raise click.ClickException(error.message) from error


def _draw(chart: Chart, form: str, recorded: tuple[str, str] | None) -> str | bytes:
    if form in _WRITTEN:
        if recorded is not None:
            raise click.UsageError(f"--session can be drawn as {', '.join(_DRAWN)}, not as {form}")
        return _WRITTEN[form](chart)
    marks = pictures.Marks()
    if recorded is not None and chart is KEEPER:
        raise click.UsageError("--session is recorded in the charts session and batch, not in keeper")
    if recorded is not None:
        marks = pictures.taken(*_read(*recorded), chart)
    return _DRAWN[form](chart, marks)


def _converse(form: str, recorded: tuple[str, str] | None) -> str:
    if recorded is None or form not in _SPOKEN:
        raise click.UsageError(f"--sequence needs --session DB ID, and {' or '.join(_SPOKEN)} as --format")
    return _SPOKEN[form](*_read(*recorded))


def _read(database: str, session_id: str) -> tuple[list[JournalEntry], SessionInfo]:
    with Store.open(database) as store:
        session = store.session(session_id)
        return store.journal(session.id), session


def _put(picture: str | bytes, output: Path | None) -> None:
    content = picture.encode() if isinstance(picture, str) else picture
    if output is None:
        click.echo(content, nl=False)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error


def _check(folder: Path) -> None:
    wrong = committed.stale(folder)
    if wrong:
        raise click.ClickException("\n".join(wrong))
    click.echo(f"every picture in {folder} is what the charts say")


@click.command()
@click.option(
    "--system",
    is_flag=True,
    help="Explore the conversation as well: two devices, a hub, and accidents wherever they can happen.",
)
@click.option(
    "--times",
    type=click.IntRange(0, 3),
    default=1,
    show_default=True,
    help="With --system: how many times as often each accident may happen. 2 takes minutes.",
)
def verify(system: bool, times: int) -> None:
    """Explore the charts and their products, and print what is proved of them.

    Exit code 1 and a shortest way to the violation if a property does not hold.
    """
    report = check_charts()
    click.echo(report.text())
    for violation in report.violations:
        click.echo(f"\n{violation.mermaid()}")
    holds = report.holds
    if system:
        explored = check_system(times=times)
        click.echo(f"\n{explored.text()}")
        holds = holds and explored.holds
    if not holds:
        raise SystemExit(1)
