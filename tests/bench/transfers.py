"""W1, W2, W3, W3n: what a sync costs against the bare loop, over one and the same hub."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .hubs import Writer, hub
from .runner import Result, all_by_turns, by_turns, middle, run
from .sides.records import keys
from .sizes import Sizes

TUNED_PAGE = 5000
"""Records a page of the tuned loop: with 1000 it takes longer, and with 10,000 no less."""

_OF_BARE = {"random": 0.5, "ordered": 0.95}
"""How long a first download may take at most, by the order of its keys, beside the bare loop's."""


def first_download(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W1: everything into an empty device, with random and with ordered keys; and once more.

    Ours has pages as it finds them fit, the bare loop pages of 1000, in the order of the versions.
    """
    for order in sizes.orders:
        with hub(f"sqlite:///{folder}/w1-{order}.db") as port:
            writer = Writer(port, "w1")
            writer.fill(order, sizes.records)
            sides = {"ours:download": 0, "bare:download": 1000, "bare:download_tuned": TUNED_PAGE}

            def one(target: str, port: int = port, sides: dict[str, int] = sides) -> dict[str, float]:
                device = folder / f"{uuid.uuid4()}.db"
                figures = run(target, path=str(device), port=port, space="w1", limit=sides[target])
                remove(device)
                return figures

            ours, bare, tuned = all_by_turns(sizes.repeat, [partial(one, target) for target in sides])
            again, reread = _once_more(folder, writer, order, sizes)
        details = {
            "cpu": ours["cpu"] / bare["cpu"],
            "memory": ours["memory"],
            "bare memory": bare["memory"],
            "beside tuned": ours["seconds"] / tuned["seconds"],
        }
        what, reach = f"first download of {sizes.records:,}, {order} keys", _OF_BARE[order]
        yield _result("W1", what, ours, bare, reach, details)
        if order == "random":  # of ordered keys nothing is asked: they are ordered for the loop, too
            cpu = {"cpu": ours["cpu"] / tuned["cpu"]}
            yield _result("W1", f"the same beside a tuned loop, {order} keys", ours, tuned, 0.85, cpu)
        yield _result("W1", f"the same after clear(), {order} keys", again, ours, 1.2, {})
        yield _result("W1", f"read again where 1 % differs, {order} keys", reread, ours, 1.2, {})
        yield longest_batch(f"{sizes.records:,}, {order} keys", ours["longest"])
        yield Result(
            "W1", f"resident memory, {order} keys", ours["memory"], 64.0, "MB", ours["memory"] / 64, 1.0
        )


def longest_batch(which: str, seconds: float) -> Result:
    """Hold the longest batch of a download to the time that storing one should take."""
    ms = seconds * 1000
    return Result("W1", f"the longest batch's storing, {which}", ms, 100.0, "ms", ms / 100, 1.0)


def _once_more(
    folder: Path, writer: Writer, order: str, sizes: Sizes
) -> tuple[dict[str, float], dict[str, float]]:
    """Return what it takes to fetch all once more after ``clear()``, and to read all that is there again."""
    device = folder / f"w1-again-{order}.db"
    given = {"path": str(device), "port": writer.port, "space": writer.space, "limit": 0}
    run("ours:download", **given)
    again = middle([run("ours:download_again", **given) for _ in range(sizes.repeat)])
    known, reread = list(keys(order, sizes.records)), []
    for number in range(sizes.repeat):
        writer.change(known[number::100], number)
        reread.append(run("ours:read_again", **given))
    remove(device)
    return again, middle(reread)


def upload(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W2: local records go up, with random and with ordered keys."""
    for order in sizes.orders:
        with hub(f"sqlite:///{folder}/w2-{order}.db") as port:

            def one(side: str, order: str = order, port: int = port) -> dict[str, float]:
                device, space = folder / f"{uuid.uuid4()}.db", str(uuid.uuid4())
                figures = run(
                    f"{side}:upload",
                    path=str(device),
                    port=port,
                    space=space,
                    limit=1000,
                    order=order,
                    count=sizes.uploads,
                )
                remove(device)
                return figures

            ours, bare = by_turns(sizes.repeat, lambda _: one("ours"), lambda _: one("bare"))
        details = {"cpu": ours["cpu"] / bare["cpu"], "memory": ours["memory"]}
        yield _result("W2", f"upload of {sizes.uploads:,}, {order} keys", ours, bare, 1.3, details)
        yield Result(
            "W2", f"its processor time, {order} keys", ours["cpu"], bare["cpu"], "s", details["cpu"], 2.0
        )


def exchange(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W3: a thousand changes on each side of a device that has everything, in one sync."""
    with hub(f"sqlite:///{folder}/w3.db") as port:
        writers = {side: Writer(port, f"w3-{side}") for side in ("ours", "bare")}
        made = list(keys("random", sizes.records))
        for side, writer in writers.items():
            writer.fill("random", sizes.records)
            run(f"{side}:download", path=f"{folder}/w3-{side}.db", port=port, space=writer.space, limit=1000)

        def one(side: str, number: int) -> dict[str, float]:
            writers[side].change(some_of(as_they_come(side, made), number), number)
            return run(
                f"{side}:exchange",
                path=f"{folder}/w3-{side}.db",
                port=port,
                space=writers[side].space,
                limit=1000,
                changes=1000,
                among=sizes.records,
                seed=number,
            )

        ours, bare = by_turns(sizes.often, lambda n: one("ours", n), lambda n: one("bare", n))
    details = {"cpu": ours["cpu"] / bare["cpu"], "moved": ours["records"], "bare moved": bare["records"]}
    yield _result("W3", f"1000 changes on each side of {sizes.records:,}", ours, bare, 2.0, details)


def nothing(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W3n: a sync with nothing to do against what it cannot do without: a request and two durable commits."""
    with hub(f"sqlite:///{folder}/w3n.db") as port:
        Writer(port, "w3n").fill("random", 1000)

        def one(target: str, number: int) -> dict[str, float]:
            path = f"{folder}/w3n-{target[:4]}-{number}.db"
            return run(target, path=path, port=port, space="w3n", limit=1000, repeat=sizes.syncs)

        ours, bare = by_turns(
            sizes.repeat, lambda n: one("ours:nothing", n), lambda n: one("bare:request", n)
        )
    mine, least = ours["seconds"] * 1000, (bare["seconds"] + bare["commits"]) * 1000
    details = {"request": bare["seconds"] * 1000, "two durable commits": bare["commits"] * 1000}
    what = "a sync with nothing to do, beside its request and two durable commits"
    yield Result("W3n", what, mine, least, "ms", mine / least, 2.5, details)


def as_they_come(side: str, made: list[str]) -> list[str]:
    """Return keys in the order in which a device of this side stores their records first."""
    return sorted(made) if side == "ours" else made


def some_of(known: list[str], number: int) -> list[str]:
    """Return a thousand keys here and there, of the records that ``bare.change_some`` leaves alone."""
    first_and_third = known[::2]  # a device gives them odd row ids, as they come in this order
    stride = len(first_and_third) // 1000
    return first_and_third[number % stride :: stride][:1000]


def remove(database: Path) -> None:
    """Delete a database and what lies beside it."""
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()


def _result(
    workload: str,
    what: str,
    ours: dict[str, float],
    bare: dict[str, float],
    reach: float,
    details: dict[str, float],
) -> Result:
    mine, theirs = ours["seconds"], bare["seconds"]
    return Result(workload, what, mine, theirs, "s", mine / theirs, reach, details)
