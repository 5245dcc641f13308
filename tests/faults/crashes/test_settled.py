"""A process ends wherever it leaves something else behind in an upload of many batches: each goes up once."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from statesync import Progress, SyncOptions
from statesync.testing import CrashPoints, Point, Watch

from ..checks import check_applied_once, check_equal, check_journal, check_whole_batches
from ..field import device, device_at, evidence, local_hub, make_hub
from ..recovery import naming, restore
from .left import telling_points
from .split import every, shared_out

OPTIONS = SyncOptions(upload_batch_size=2, sync_type="upload_only")
KEYS = [f"n{number}" for number in range(9)]
AHEAD = 20


def an_evening(folder: Path) -> None:
    """Write records, some of them twice, so that not all changes are of one revision."""
    make_hub(folder / "hub.db")
    with device(folder / "a.db") as a:
        for number, key in enumerate(KEYS):
            a.write(key, "first", number)
        a.store.defer(a.Note.get_by_id("n8"))  # folds
        a.write("n8", "second")
        a.store.mark_for_upload(a.Note.get_by_id("n8"))


def the_upload(folder: Path) -> Callable[[Watch], None]:
    """Return an upload of five batches, amid which another program edits what was taken."""

    def program(watch: Watch) -> None:
        begun: set[int | None] = set()

        def edit_in_the_third(progress: Progress) -> None:
            if progress.batch in begun or progress.batch is None:
                return
            begun.add(progress.batch)
            if len(begun) == 3:
                with closing(sqlite3.connect(folder / "a.db")) as plain, plain:
                    plain.execute("UPDATE note SET text = 'edited' WHERE id = 'n0'")

        with local_hub(folder / "hub.db") as hub:
            a = device_at(folder / "a.db")
            watch.database(a.store.database)
            a.store.setup()
            a.store.scope(watch.remote(hub)).sync(OPTIONS, edit_in_the_third)
            a.store.close()

    return program


def check(folder: Path) -> None:
    with evidence(folder) as found:
        check_journal(found)
        check_whole_batches(found)
    with local_hub(folder / "hub.db") as hub, device(folder / "a.db") as a, evidence(folder) as found:
        assert found.execute("SELECT count(*) FROM statesync_settled").fetchone() == (0,)
        waiting = {change.key for change in a.store.pending()}
        kept = {key for (key,) in found.execute("SELECT key FROM statesync_change")}
        logged = {key for (key,) in found.execute("SELECT key FROM statesync_log_Note")}
        assert kept <= waiting <= kept | logged
        a.store.scope(hub).sync(OPTIONS)
        a.store.scope(hub).sync(OPTIONS)
        assert a.store.pending() == []
        assert sorted(a.rows()) == KEYS
        assert a.store.conflicts() == []
        check_applied_once(found)
        check_equal(found, a)


def test_something_is_settled_on_the_way(folder: Path) -> None:
    an_evening(folder)
    with closing(sqlite3.connect(folder / "a.db")) as plain:
        plain.executescript(
            "CREATE TABLE seen (last INTEGER); CREATE TRIGGER see AFTER INSERT ON statesync_settled "
            "BEGIN INSERT INTO seen VALUES (NEW.last); END"
        )
    the_upload(folder)(Watch(None))
    with closing(sqlite3.connect(folder / "a.db")) as plain:
        assert plain.execute("SELECT count(DISTINCT last) > 2 FROM seen").fetchone() == (1,)
    check(folder)


@every
def test_nothing_is_lost_or_sent_again_wherever_an_upload_ends(tmp_path: Path, every: int) -> None:
    evening, folder = tmp_path / "evening", tmp_path / "folder"
    evening.mkdir()
    an_evening(evening)
    restore(evening, folder)
    points, telling = telling_points(the_upload(folder), folder)
    shared_out(partial(end_at_each, evening, folder, len(points)), telling[::every])


def end_at_each(evening: Path, around: Path, last: int, points: Sequence[Point]) -> None:
    with tempfile.TemporaryDirectory(dir=around) as name:
        own = Path(name) / "upload"
        program = CrashPoints(the_upload(own))
        for point in points:
            restore(evening, own)
            assert program.run_to(point) or point.number > last - AHEAD
            with naming(point):
                check(own)
